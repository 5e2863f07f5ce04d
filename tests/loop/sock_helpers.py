"""What the tests of `sock_*` share."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

Pair = tuple[socket.socket, socket.socket]
PATIENCE = 10.0  # seconds; nothing here takes that long unless it hangs


def listening(family: socket.AddressFamily = socket.AF_INET, address: Any = ("127.0.0.1", 0)) -> socket.socket:
    listener = socket.socket(family)
    listener.setblocking(False)
    listener.bind(address)
    listener.listen()
    return listener


def not_blocking(family: socket.AddressFamily = socket.AF_INET) -> socket.socket:
    sock = socket.socket(family)
    sock.setblocking(False)
    return sock


@contextlib.asynccontextmanager
async def waiting(operation: Coroutine[Any, Any, Any]) -> AsyncIterator[asyncio.Task[Any]]:
    """A task of the operation, which has had the time to find that it would block."""
    task = asyncio.create_task(operation)
    await settled()
    assert not task.done()
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait([task])


async def settled() -> None:
    """Let everything run that is ready."""
    for _ in range(3):
        await asyncio.sleep(0)


def timed(coroutine: Coroutine[Any, Any, None]) -> Coroutine[Any, Any, None]:
    return asyncio.wait_for(coroutine, PATIENCE)


def run(runner: asyncio.Runner, case: Callable[..., Coroutine[Any, Any, None]], *args: Any) -> None:
    async def within() -> None:
        await timed(case(asyncio.get_running_loop(), *args))

    runner.run(within())
