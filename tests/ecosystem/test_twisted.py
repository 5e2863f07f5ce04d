"""Twisted's `asyncioreactor` on our loop: TCP, unix sockets, UDP, HTTP, threads, processes, and asyncio beside it."""

from __future__ import annotations

from pathlib import Path

from tests.ecosystem.processes import run_program


def test_reactor(tmp_path: Path) -> None:
    assert run_program(Path(__file__).with_name("twisted_program.py"), str(tmp_path)) == "all done\n"
