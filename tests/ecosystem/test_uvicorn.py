"""FastAPI on uvicorn: HTTP and WebSocket, several workers, reloading, and inside a running loop."""

from __future__ import annotations

import asyncio
import shutil
import signal
import sys
from pathlib import Path

import httpx
import pytest
import uvicorn
from tests.ecosystem.load import OUR_LOOP, http_load, websocket_load
from tests.ecosystem.processes import accepts, free_port, serving, wait_until
from tests.ecosystem.service import app


def command(port: int, *options: str, target: str = "tests.ecosystem.service:app") -> list[str]:
    loop = ["--loop", "aioxide:new_event_loop"]
    return [sys.executable, "-m", "uvicorn", target, "--port", str(port), "--log-level", "warning", *loop, *options]


@pytest.mark.parametrize("http", ["h11", "httptools"])
def test_one_process(runner: asyncio.Runner, http: str) -> None:
    port = free_port()
    with serving(
        command(port, "--http", http), lambda: accepts(port), status=-signal.SIGTERM
    ) as server:  # as it ends itself
        assert runner.run(http_load(port)) == {server.process.pid}
        runner.run(websocket_load(port))
        assert "Traceback" not in server.log()


def test_two_workers(runner: asyncio.Runner) -> None:
    port = free_port()
    with serving(command(port, "--workers", "2"), lambda: accepts(port)) as server:
        pids: set[int] = set()
        wait_until(lambda: len(pids.update(runner.run(http_load(port))) or pids) == 2, "an answer of both workers")
        assert server.process.pid not in pids
        runner.run(websocket_load(port))
        assert "Traceback" not in server.log()


def test_reload(tmp_path: Path) -> None:
    shutil.copy(Path(__file__).with_name("service.py"), tmp_path / "reloaded.py")
    port = free_port()
    options = ["--reload", "--reload-dir", str(tmp_path), "--app-dir", str(tmp_path)]

    def value() -> object:
        try:
            return httpx.get(f"http://127.0.0.1:{port}/loop", timeout=5).json()
        except httpx.TransportError:  # between the old process and the new one
            return {}

    with serving(command(port, *options, target="reloaded:app"), lambda: accepts(port)) as server:
        wait_until(value, "the first answer")
        first = value()
        assert first["loop"] == OUR_LOOP
        source = (tmp_path / "reloaded.py").read_text()
        (tmp_path / "reloaded.py").write_text(source.replace('"pid": os.getpid()', '"changed": 1, "pid": os.getpid()'))
        wait_until(lambda: "changed" in value(), "the reloaded program's answer", 30)
        second = value()
        assert second["loop"] == OUR_LOOP and second["pid"] != first["pid"]
        assert "Traceback" not in server.log()


def test_inside_a_running_loop(runner: asyncio.Runner) -> None:
    async def main() -> None:
        port = free_port()
        server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="warning"))
        serve = asyncio.create_task(server.serve())
        while not server.started:
            await asyncio.sleep(0.01)
        await asyncio.gather(http_load(port), websocket_load(port))
        server.should_exit = True
        await serve

    runner.run(main())
