"""gunicorn with uvicorn's workers: processes that are forked, before and after the application was loaded."""

from __future__ import annotations

import asyncio
import os
import signal
import sys

import pytest
from tests.ecosystem.load import http_load, websocket_load
from tests.ecosystem.processes import accepts, free_port, serving, wait_until


@pytest.mark.parametrize("preload", [[], ["--preload"]], ids=["fork-then-load", "load-then-fork"])
def test_forked_workers(runner: asyncio.Runner, preload: list[str]) -> None:
    port = free_port()
    command = [sys.executable, "-m", "gunicorn", "tests.ecosystem.preloaded:app", "--bind", f"127.0.0.1:{port}"]
    command += ["--workers", "2", "--worker-class", "tests.ecosystem.service.Worker", "--no-control-socket", *preload]
    with serving(command, lambda: accepts(port)) as server:

        def ask_until_two_answer() -> set[int]:
            pids: set[int] = set()
            wait_until(lambda: len(pids.update(runner.run(http_load(port))) or pids) >= 2, "answers of two workers")
            return pids

        first = ask_until_two_answer()
        assert server.process.pid not in first
        runner.run(websocket_load(port))
        # A worker that dies is replaced by a new fork of the master.
        os.kill(min(first), signal.SIGKILL)
        wait_until(lambda: runner.run(http_load(port)) - first, "an answer of the new worker")
        # And all of them when the master is asked to.
        old = ask_until_two_answer()
        server.process.send_signal(signal.SIGHUP)
        wait_until(lambda: not runner.run(http_load(port)) & old, "the end of the old workers")
        assert "Traceback" not in server.log() and "a timer of the parent" not in server.log()
