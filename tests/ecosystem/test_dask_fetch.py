"""`aioxide.dask.fetch_many` on a cluster of processes, one of which is killed: every row once, and the limits hold."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from distributed import Client, LocalCluster
from tests.ecosystem.dask_work import loop_of
from tests.ecosystem.processes import accepts, free_port, serving

from aioxide._native import HttpServer
from aioxide.dask import fetch_many
from aioxide.dask.worker import Nanny
from aioxide.fetch import FetchResult

HOSTS = ["127.0.0.1", "127.0.0.2"]
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b"


class Counting:
    """A server on two addresses, which are two hosts to a client: counts each path's requests, and those at once."""

    def __init__(self) -> None:
        self.paths: Counter[str] = Counter()
        self.under_way: Counter[str] = Counter()
        self.most: Counter[str] = Counter()
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host = writer.get_extra_info("sockname")[0]
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                path = head.split(b" ", 2)[1]
                self.paths[f"{host}{path.decode()}"] += 1
                self.under_way[host] += 1
                self.most[host] = max(self.most[host], self.under_way[host])
                await asyncio.sleep(0.005)
                self.under_way[host] -= 1
                writer.write(ANSWER % (len(path), path))
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def counting() -> AsyncIterator[Counting]:
    server = Counting()
    first = await asyncio.start_server(server.serve, HOSTS[0], 0, backlog=1000)
    server.port = first.sockets[0].getsockname()[1]
    second = await asyncio.start_server(server.serve, HOSTS[1], server.port, backlog=1000)
    async with first, second:
        yield server


@asynccontextmanager
async def cluster(**options: Any) -> AsyncIterator[Client]:
    given = {"n_workers": 2, "threads_per_worker": 2, "processes": True, "dashboard_address": None, **options}
    async with LocalCluster(**given, asynchronous=True) as local, Client(local, asynchronous=True) as client:
        yield client


def test_a_worker_is_lost(runner: asyncio.Runner) -> None:
    rows, chunk, per_host = int(os.environ.get("AIOXIDE_DASK_ROWS", "6000")), 100, 8

    async def main() -> None:
        async with counting() as server, cluster(worker_class=Nanny) as client:
            assert set((await client.run(loop_of)).values()) == {"aioxide._event_loop"}
            urls = [f"http://{HOSTS[n % 2]}:{server.port}/{n}" for n in range(rows)]
            pids = await client.run(os.getpid)
            assert os.getpid() not in pids.values()
            results: list[FetchResult] = []
            committed: Counter[str] = Counter()
            fetching = fetch_many(client, urls, concurrency=40, per_host=per_host, chunk_rows=chunk)
            async for result in fetching:
                results.append(result)
                if len(results) == rows // 3:
                    committed = server.paths.copy()
                    os.kill(min(pids.values()), signal.SIGKILL)
            # Every row has one result, and it is its own.
            assert Counter(result.row.index for result in results) == Counter(range(rows))
            assert all(result.response.text == f"/{result.row.index}" for result in results if result.response)
            assert {result.status for result in results} == {200}
            # What had come before was not asked for again; what the lost worker had under way was, once.
            before = [f"{HOSTS[result.row.index % 2]}/{result.row.index}" for result in results[: rows // 3]]
            assert all(server.paths[path] == committed[path] == 1 for path in before)
            assert set(server.paths.values()) <= {1, 2}
            assert len(server.paths) == rows
            assert sum(server.paths.values()) <= rows + 4 * chunk
            for host in HOSTS:
                assert 1 < server.most[host] <= per_host

    runner.run(main())


def test_failures_are_results_and_limits_are_checked(runner: asyncio.Runner) -> None:
    async def main() -> None:
        async with cluster(n_workers=1, processes=False) as client:
            found = [result async for result in fetch_many(client, ["http://127.0.0.1:1/", "nonsense"])]
            assert [type(result.error).__name__ for result in sorted(found, key=lambda each: each.row.index)] == [
                "ConnectError",
                "UnsupportedProtocol",
            ]
            for wrong in ({"concurrency": 0}, {"per_host": 0}, {"rate": 0}, {"chunk_rows": 0}):
                with pytest.raises(ValueError, match="must be"):
                    fetch_many(client, [], **wrong)
            with pytest.raises(RuntimeError, match="iterate with `async for`"):
                next(iter(fetch_many(client, [])))

    runner.run(main())


def test_a_blocking_client() -> None:
    options = {"n_workers": 1, "processes": True, "dashboard_address": None}
    with HttpServer() as server, LocalCluster(**options) as local, Client(local) as client:
        urls = (f"{server.url}/{n}" for n in range(300))
        found = [(result.row.index, result.status) for result in fetch_many(client, urls, chunk_rows=50)]
        assert sorted(found) == [(n, 200) for n in range(300)]
        with pytest.raises(RuntimeError, match="iterate with `for`"):
            asyncio.run(anext(aiter(fetch_many(client, []))))


def test_it_can_be_left_early(runner: asyncio.Runner) -> None:
    async def main() -> None:
        async with counting() as server, cluster() as client:
            taken = 0

            def endless() -> Any:
                nonlocal taken
                while True:
                    taken += 1
                    yield f"http://{HOSTS[0]}:{server.port}/{taken}"

            async for _ in fetch_many(client, endless(), chunk_rows=10):
                await asyncio.sleep(0.2)
                break
            # Two chunks for each worker, one that waits to be taken, and those that come after one was.
            assert taken <= 10 * 12

    runner.run(main())


def test_the_command_on_processes_of_our_loop(tmp_path: Path) -> None:
    """`aioxide dask-scheduler`, `aioxide dask-worker` and `aioxide fetch --scheduler`, as on several machines."""
    port, site = free_port(), free_port()
    aioxide = [sys.executable, "-m", "aioxide"]
    address = f"tcp://127.0.0.1:{port}"
    scheduler = [*aioxide, "dask-scheduler", "--host", "127.0.0.1", "--port", str(port), "--no-dashboard"]
    worker = [*aioxide, "dask-worker", address, "--nworkers", "2", "--nthreads", "2", "--no-dashboard"]
    pages = [sys.executable, "-c", SITE, str(site)]
    output = tmp_path / "out.jsonl"
    fetch = [*aioxide, "fetch", f"http://127.0.0.1:{site}/{{1..1500}}", "--scheduler", address, "-o", str(output)]
    with (
        serving(pages, lambda: accepts(site), status=-signal.SIGTERM),
        serving(scheduler, lambda: accepts(port)),
        serving([*worker, "--local-directory", str(tmp_path)], lambda: True),
    ):
        done = subprocess.run(
            [*fetch, "--timeline", str(tmp_path / "out.json")], capture_output=True, text=True, timeout=100
        )
        assert done.returncode == 0, done.stderr
        lines = [json.loads(line) for line in output.read_text().splitlines()]
        assert Counter((line["row"], line["body"]) for line in lines) == Counter((n, f"/{n + 1}") for n in range(1500))
        # Of each worker there is a timeline, too.
        assert len(list(tmp_path.glob("out-*.json"))) == 2
        # The same again finds that all is done.
        again = subprocess.run(fetch, capture_output=True, text=True, timeout=100)
        assert "1,500 rows are done already" in again.stderr
        lonely = subprocess.run([*fetch, "--style", "threads"], capture_output=True, text=True, timeout=100)
        assert lonely.returncode == 2 and "--scheduler is for the style native" in lonely.stderr


SITE = """
import signal, sys
from aioxide._native import HttpServer
with HttpServer(port=int(sys.argv[1])):
    signal.pause()
"""
