"""Waiting under trio, which is no asyncio loop: a worker thread waits for the core."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, TypeVar

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
