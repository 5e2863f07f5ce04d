"""Who gets a connection, and when: limits for all hosts and for each, and the order in which requests are served."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from aioxide import http


class Counting:
    """A server that answers each request after a while, and notes the order of the paths and the most connections."""

    def __init__(self) -> None:
        self.paths: list[str] = []
        self.connections = 0
        self.most = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.most = max(self.most, self.connections)
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                self.paths.append(head.split(b" ")[1].decode())
                await asyncio.sleep(0.005)
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the client closed
        finally:
            self.connections -= 1
            writer.close()


@asynccontextmanager
async def counting() -> AsyncIterator[tuple[Counting, str]]:
    server = Counting()
    listener = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    async with listener:
        yield server, f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
        while server.connections:
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.001)


def test_a_host_that_is_full_does_not_hold_up_others(runner: asyncio.Runner) -> None:
    async def main() -> None:
        limits = http.Limits(max_connections=6, max_connections_per_host=2)
        async with counting() as (busy, busy_url), counting() as (quiet, quiet_url):
            async with http.AsyncClient(limits=limits, timeout=10) as client:
                many = [asyncio.ensure_future(client.get(f"{busy_url}/{number}")) for number in range(40)]
                await asyncio.sleep(0)
                few = [client.get(f"{quiet_url}/{number}") for number in range(4)]
                await asyncio.gather(*few)
                assert client.statistics()["requests_waiting"] > 0
                await asyncio.gather(*many)
                assert (busy.most, quiet.most) == (2, 2)
                assert sorted(busy.paths) == sorted(f"/{number}" for number in range(40))
                statistics = client.statistics()
                assert statistics["connections_open"] == statistics["connections_idle"] == 4

    runner.run(main())


@pytest.mark.parametrize("limits", [http.Limits(max_connections=1), http.Limits(max_connections_per_host=1)])
def test_first_come_first_served(runner: asyncio.Runner, limits: http.Limits) -> None:
    async def main() -> None:
        async with counting() as (server, url), http.AsyncClient(limits=limits, timeout=10) as client:
            tasks = [asyncio.ensure_future(client.get(f"{url}/{number}")) for number in range(20)]
            await asyncio.sleep(0.01)
            for given_up in (3, 7, 19):
                tasks[given_up].cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            assert server.paths == [f"/{number}" for number in range(20) if number not in (3, 7, 19)]
            assert server.most == 1

    runner.run(main())


def test_a_slot_changes_hands_between_hosts(runner: asyncio.Runner) -> None:
    """Both limits at once: what a full host frees goes to whoever has waited longest, and nobody starves."""

    async def main() -> None:
        limits = http.Limits(max_connections=2, max_connections_per_host=1)
        async with counting() as (one, one_url), counting() as (two, two_url), counting() as (three, three_url):
            async with http.AsyncClient(limits=limits, timeout=10) as client:
                urls = [one_url, two_url, three_url] * 10
                await asyncio.gather(*(client.get(url) for url in urls))
                assert [len(server.paths) for server in (one, two, three)] == [10, 10, 10]
                assert max(one.most, two.most, three.most) == 1
                assert client.statistics()["connections_open"] <= 2

    runner.run(main())


def test_no_limit_lets_nothing_through() -> None:
    with pytest.raises(ValueError, match="per_host"):
        http.Client(limits=http.Limits(max_connections_per_host=0))
