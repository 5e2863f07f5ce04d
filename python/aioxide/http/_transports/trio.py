"""Waiting under trio, which is no asyncio loop: a worker thread waits for the core."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from .._content import AsyncByteStream

T = TypeVar("T")


def running_trio() -> Any:
    """The module, if it is what runs the caller; None if not."""
    trio: Any = sys.modules.get("trio")
    return trio if trio is not None and trio.lowlevel.in_trio_run() else None


async def in_thread(call: Callable[[], T]) -> T:
    """What a blocking call gives, made in one of trio's threads. RuntimeError where no event loop runs at all.

    A cancelled task does not wait for the call, which then ends by itself, by its timeouts at the latest.
    """
    trio = running_trio()
    if trio is None:
        raise RuntimeError("no running event loop: an AsyncClient's requests need asyncio, or trio")
    result: T = await trio.to_thread.run_sync(call, abandon_on_cancel=True)
    return result


def blocking_pieces(stream: AsyncByteStream) -> Iterator[bytes]:
    """The pieces of an async iterable for a thread that `in_thread` has made; trio reads each."""
    trio = running_trio()
    if not isinstance(stream, AsyncByteStream):
        raise RuntimeError("the request's body is a blocking iterable: async code cannot send it")
    pieces = stream.__aiter__()

    async def read() -> bytes | None:
        try:
            piece: bytes = await pieces.__anext__()
        except StopAsyncIteration:
            return None
        return piece

    def in_the_thread() -> Iterator[bytes]:
        try:
            while (piece := trio.from_thread.run(read)) is not None:
                yield piece
        finally:
            trio.from_thread.run(stream.aclose)

    return in_the_thread()
