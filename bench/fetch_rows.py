"""`aioxide fetch` with many rows: killed and resumed, and beside other programs. Not a part of `make bench`.

    python -m bench.fetch_rows killed --rows 1000000
    python -m bench.fetch_rows beside --rows 10000

`killed` runs against the engine's own server, is killed with SIGKILL three times, and checks by hash that every row
is in the output exactly once. `beside` gives CPU seconds, user and system, for each 1,000 rows of programs that do the
same job; those that are not installed are left out.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shutil
import signal
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

KILLS = 3
CONCURRENCY = 100

SERVER = """
import signal
from aioxide._native import HttpServer
signal.signal(signal.SIGTERM, lambda *_: None)
with HttpServer() as server:
    print(server.url, flush=True)
    signal.pause()
    print(server.requests_served(), sum(server.cpu_time()), flush=True)
"""

AIOHTTP = """
import asyncio, json, sys
import aiohttp
async def work(session, urls, out):
    for url in urls:
        async with session.get(url) as response:
            out.write(json.dumps({"url": url, "status": response.status, "body": await response.text()}) + "\\n")
async def main():
    urls = iter(open(sys.argv[1]).read().split())
    connector = aiohttp.TCPConnector(limit=100)
    async with aiohttp.ClientSession(connector=connector) as session:
        with open(sys.argv[2], "w") as out:
            await asyncio.gather(*(work(session, urls, out) for _ in range(100)))
asyncio.run(main())
"""

HTTPX = """
import asyncio, json, sys
import httpx
async def work(client, urls, out):
    for url in urls:
        response = await client.get(url)
        out.write(json.dumps({"url": url, "status": response.status_code, "body": response.text}) + "\\n")
async def main():
    urls = iter(open(sys.argv[1]).read().split())
    async with httpx.AsyncClient(limits=httpx.Limits(max_connections=100), timeout=None) as client:
        with open(sys.argv[2], "w") as out:
            await asyncio.gather(*(work(client, urls, out) for _ in range(100)))
asyncio.run(main())
"""


class Site:
    """The engine's server in a process of its own."""

    def __init__(self) -> None:
        self._process = subprocess.Popen([sys.executable, "-c", SERVER], stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self._output = self._process.stdout
        self.url = self._output.readline().strip()

    def stop(self) -> tuple[int, float]:
        """End it; gives the requests it answered and the CPU seconds it used."""
        self._process.terminate()
        served, seconds = self._output.readline().split()
        self._process.wait()
        return int(served), float(seconds)


@contextmanager
def folder(parent: str | None) -> Iterator[Path]:
    """A folder for the results, removed afterwards."""
    path = Path(tempfile.mkdtemp(prefix="fetch-", dir=parent))
    try:
        yield path
    finally:
        shutil.rmtree(path)


def rows_done(journal: Path) -> int:
    """How many rows the journal has, read beside the program that writes it."""
    try:
        with sqlite3.connect(f"file:{journal}?mode=ro", uri=True) as database:
            blocks = database.execute("SELECT rows FROM done").fetchall()
    except sqlite3.OperationalError:
        return 0  # it is not there yet
    return sum(int.from_bytes(rows, "little").bit_count() for (rows,) in blocks)


def resident_mib(pid: int) -> float:
    """What a process has in memory; 0.0 once it is gone."""
    try:
        found = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    return int(found[1]) / 1024 if found else 0.0


def run_once(command: list[str], journal: Path, kill_at: int | None) -> tuple[float, list[float]]:
    """Run until the end, or until so many rows are done; gives CPU seconds and the memory, twice a second."""
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    memory: list[float] = []
    while (waited := os.wait4(process.pid, os.WNOHANG))[0] == 0:
        if resident := resident_mib(process.pid):
            memory.append(resident)
        if kill_at is not None and rows_done(journal) >= kill_at:
            process.send_signal(signal.SIGKILL)
            waited = os.wait4(process.pid, 0)
            break
        time.sleep(0.5)
    process.returncode = 0  # it is waited for
    if kill_at is None and waited[1] != 0:
        raise SystemExit(f"the run failed: {waited[1]}")
    return waited[2].ru_utime + waited[2].ru_stime, memory


def digest_of(row: int, url: str, body: str) -> int:
    """A row's part of a sum that does not depend on the rows' order."""
    return int.from_bytes(hashlib.sha256(f"{row} {url} {body}".encode()).digest(), "little")


def check(output: Path, url: str, rows: int) -> str:
    """The sum of all rows' hashes, which must be that of rows 0 to `rows`, once each."""
    found = count = 0
    with open(output, encoding="utf-8") as lines:
        for line in lines:
            result = json.loads(line)
            found += digest_of(result["row"], result["url"], result["body"])
            count += 1
    wanted = sum(digest_of(row, f"{url}/{row + 1}", f"/{row + 1}") for row in range(rows))
    if found != wanted or count != rows:
        raise SystemExit(f"{output} is wrong: {count:,} rows of {rows:,}")
    return f"{found % 2**256:064x}"


def killed(arguments: argparse.Namespace) -> None:
    """One run with three kills."""
    rows = arguments.rows
    with folder(arguments.folder) as path:
        site = Site()
        output, journal = path / "out.jsonl", path / "out.jsonl.journal"
        command = [sys.executable, "-m", "aioxide", "fetch", f"{site.url}/{{1..{rows}}}", "-o", str(output)]
        begin, cpu, memory = time.monotonic(), 0.0, []
        for part in [*range(1, KILLS + 1), None]:
            kill_at = None if part is None else rows * part // (KILLS + 1)
            used, seen = run_once([*command, "--concurrency", str(CONCURRENCY)], journal, kill_at)
            cpu += used
            memory.append(seen)
            what = "ended" if part is None else f"killed with {rows_done(journal):,} rows done"
            print(f"{what}: {used:.1f} CPU seconds; MiB after a tenth, at the end, at most: {shown(seen)}", flush=True)
        seconds = time.monotonic() - begin
        served, server_cpu = site.stop()
        print(f"{rows:,} rows in {seconds:.0f} s with {KILLS} kills: {rows / seconds:,.0f}/s by the wall clock")
        print(f"CPU: {cpu:.1f} s, {cpu / rows * 1e6:.1f} µs for a row; the server's {server_cpu / rows * 1e6:.1f} µs")
        print(f"asked for again after a kill: {served - rows:,} rows, which were not committed")
        print(f"output: {output.stat().st_size / 2**20:,.0f} MiB, sum of hashes {check(output, site.url, rows)}")


def shown(memory: list[float]) -> str:
    """The course of the memory in a few numbers."""
    if not memory:
        return "not seen"
    return f"{memory[len(memory) // 10]:.0f}, {statistics.median(memory[-10:]):.0f}, {max(memory):.0f}"


def commands(url: str, rows: int, path: Path) -> dict[str, list[str]]:
    """Programs that fetch the rows and keep the bodies."""
    urls = path / "urls.txt"
    urls.write_text("".join(f"{url}/{row}\n" for row in range(1, rows + 1)))
    ours = [sys.executable, "-m", "aioxide", "fetch", "--from", str(urls), "--no-robots", "-o"]
    curl = "curl --silent --remote-name-all"
    return {
        "aioxide fetch": [*ours, str(path / "native.jsonl")],
        "aioxide fetch, a folder": [*ours, f"{path}/pages/"],
        "aioxide fetch --style async": [*ours, str(path / "async.jsonl"), "--style", "async"],
        "aioxide fetch --style threads": [*ours, str(path / "threads.jsonl"), "--style", "threads"],
        "aioxide fetch --style sequential": [*ours, str(path / "seq.jsonl"), "--style", "sequential"],
        "aiohttp": [sys.executable, "-c", AIOHTTP, str(urls), str(path / "aiohttp.jsonl")],
        "httpx": [sys.executable, "-c", HTTPX, str(urls), str(path / "httpx.jsonl")],
        "xargs -P 16 -n 50 curl": ["sh", "-c", f"mkdir curl; cd curl; xargs -P 16 -n 50 {curl} < {urls}"],
        "xargs -P 16 -n 1 curl": ["sh", "-c", f"mkdir curl1; cd curl1; xargs -P 16 -n 1 {curl} < {urls}"],
        "wget -i": ["wget", "--quiet", "--directory-prefix", "wget", "-i", str(urls)],
        "aria2c -j 16": ["aria2c", "--quiet", "-j", "16", "--file-allocation=none", "-d", "aria2", "-i", str(urls)],
    }


def beside(arguments: argparse.Namespace) -> None:
    """Each program once per round, one after the other."""
    site = Site()
    results: dict[str, list[tuple[float, float]]] = {}
    for _ in range(arguments.rounds):
        with folder(arguments.folder) as path:
            for name, command in commands(site.url, arguments.rows, path).items():
                if shutil.which(command[0] if command[0] != "sh" else "curl") is None:
                    continue
                begin = time.monotonic()
                process = subprocess.Popen(command, cwd=path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
                _, status, usage = os.wait4(process.pid, 0)
                process.returncode = status
                if status == 0:
                    seconds = time.monotonic() - begin
                    results.setdefault(name, []).append((usage.ru_utime + usage.ru_stime, seconds))
    site.stop()
    print("| program | CPU seconds for 1,000 rows | rows a second by the wall clock |\n| --- | ---: | ---: |")
    for name, rounds in results.items():
        cpu, wall = (statistics.median(column) for column in zip(*rounds, strict=True))
        print(f"| {name} | {cpu / arguments.rows * 1000:.3f} | {arguments.rows / wall:,.0f} |")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("killed", "beside"))
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--folder", help="where results are written meanwhile")
    arguments = parser.parse_args()
    (killed if arguments.what == "killed" else beside)(arguments)


if __name__ == "__main__":
    main()
