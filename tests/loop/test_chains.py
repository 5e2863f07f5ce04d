"""Handles whose argument is a handle whose argument is a handle, and so on."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Callable

import pytest


@pytest.mark.parametrize("method", ["call_soon", "call_later"])
def test_a_long_chain_of_handles_is_freed_without_recursion(
    loop_factory: Callable[[], asyncio.AbstractEventLoop], method: str
) -> None:
    loop = loop_factory()
    loop.set_debug(False)  # or each handle would keep a stack
    schedule = loop.call_soon if method == "call_soon" else lambda *args: loop.call_later(0, *args)
    calls = 0

    def count(_: object) -> None:
        nonlocal calls
        calls += 1

    last: object = None
    for _ in range(100_000):
        last = schedule(count, last)
    loop.call_later(0.01, loop.stop)
    loop.run_forever()
    del last
    gc.collect()
    loop.close()
    assert calls == 100_000


def test_a_handle_that_its_callback_refers_to_is_collected(
    loop_factory: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    class Owner:
        handle: asyncio.Handle

    loop = loop_factory()
    gone = []
    for _ in range(300):  # more than are kept for reuse
        owner = Owner()
        owner.handle = loop.call_soon(lambda owner=owner: None)
        gone.append(weakref.ref(owner))
    del owner
    loop.call_soon(loop.stop)
    loop.run_forever()
    gc.collect()
    loop.close()
    assert [ref() for ref in gone] == [None] * 300
