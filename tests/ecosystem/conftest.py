"""Fixtures that the ecosystem's tests share."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import aioxide

# test_aliased.py runs these in a process of their own.
collect_ignore = [] if "AIOXIDE_ALIASED" in os.environ else ["aliased"]


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """pytest-asyncio's tests run on our loop."""
    return {"aioxide": aioxide.new_event_loop}


@pytest.fixture
def runner() -> Iterator[asyncio.Runner]:
    """An `asyncio.Runner` on our loop."""
    with asyncio.Runner(loop_factory=aioxide.new_event_loop) as runner:
        yield runner


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    """No test leaves a child process, a socket or a thread of a loop behind."""
    before, children_before = _sockets(), _children()
    yield
    gc.collect()
    assert not (left := _sockets() - before), f"sockets left open: {left}"
    assert not (children := _children() - children_before), f"child processes left: {children}"


def _sockets() -> set[str]:
    found = set()
    for entry in Path("/proc/self/fd").iterdir():
        try:
            target = os.readlink(entry)
        except FileNotFoundError:
            continue
        if target.startswith("socket:"):
            found.add(target)
    return found


def _children() -> set[str]:
    found: set[str] = set()
    for thread in threading.enumerate():
        children = Path(f"/proc/self/task/{thread.native_id}/children")
        if children.exists():
            found |= set(children.read_text().split())
    # The forkserver and the resource tracker are multiprocessing's, for as long as the interpreter lives.
    return {pid for pid in found if b"multiprocessing" not in _command(pid)}


def _command(pid: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except FileNotFoundError:
        return b""
