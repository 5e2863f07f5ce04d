"""Many loops, each run by a thread of its own."""

from __future__ import annotations

import asyncio
import gc
import os
import random
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

LoopFactory = Callable[[], asyncio.AbstractEventLoop]
LOOPS = 8


class Fleet:
    """Loops that run in threads of their own until the fleet is stopped."""

    def __init__(self, loop_factory: LoopFactory, count: int = LOOPS) -> None:
        self.loops = [loop_factory() for _ in range(count)]
        self.errors: list[Any] = []
        for loop in self.loops:
            loop.set_exception_handler(lambda _loop, context: self.errors.append(context))
        self.threads = [threading.Thread(target=self._run, args=(loop,)) for loop in self.loops]
        for thread in self.threads:
            thread.start()
        for loop in self.loops:
            self.call(loop, lambda: None)

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        try:
            loop.run_forever()
        finally:
            loop.close()

    def call(self, loop: asyncio.AbstractEventLoop, function: Callable[[], Any]) -> Any:
        """What `function` gives when `loop` calls it."""

        async def called() -> Any:
            return function()

        return asyncio.run_coroutine_threadsafe(called(), loop).result(60)

    def stop(self) -> None:
        """Stop and close every loop, and check that none of them has reported an error."""
        for loop, thread in zip(self.loops, self.threads, strict=True):
            if thread.is_alive():
                loop.call_soon_threadsafe(loop.stop)
        for thread in self.threads:
            thread.join(60)
            assert not thread.is_alive()
        assert not self.errors, self.errors


@pytest.fixture
def fleet(loop_factory: LoopFactory) -> Iterator[Fleet]:
    """Eight running loops of the kind that is tested."""
    fleet = Fleet(loop_factory)
    try:
        yield fleet
    finally:
        fleet.stop()


@pytest.fixture
def native_fleet() -> Iterator[Fleet]:
    """Eight running loops of ours, for what asyncio promises nothing about."""
    from aioxide import new_event_loop

    fleet = Fleet(new_event_loop)
    try:
        yield fleet
    finally:
        fleet.stop()


@pytest.fixture
def dice() -> random.Random:
    """Chance that can be had again: a failing test shows the seed, `AIOXIDE_SEED=<seed>` repeats it."""
    seed = int(os.environ.get("AIOXIDE_SEED", time.time_ns()))
    print(f"AIOXIDE_SEED={seed}")
    return random.Random(seed)


@pytest.fixture
def collector() -> Iterator[None]:
    """The cycle collector runs in another thread all the while, and threads change places as often as they can."""
    stop = threading.Event()

    def collect() -> None:
        while not stop.wait(0.01):
            gc.collect()

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    thread = threading.Thread(target=collect)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        sys.setswitchinterval(interval)


def in_threads(functions: list[Callable[[], None]]) -> None:
    """Run each function in a thread of its own; raise what the first of them raised."""
    raised: list[BaseException] = []

    def guarded(function: Callable[[], None]) -> None:
        try:
            function()
        except BaseException as error:
            raised.append(error)

    threads = [threading.Thread(target=guarded, args=(function,)) for function in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(100)
        assert not thread.is_alive()
    if raised:
        raise raised[0]


@pytest.fixture
def run_in_threads() -> Callable[[list[Callable[[], None]]], None]:
    return in_threads
