"""Many threads schedule on many loops: everything runs once, in order, in its own thread, or is refused."""

from __future__ import annotations

import asyncio
import concurrent.futures
import functools
import gc
import inspect
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

import pytest

from aioxide import new_event_loop

if TYPE_CHECKING:
    from .conftest import Fleet, LoopFactory

InThreads = Callable[[list[Callable[[], None]]], None]
pytestmark = pytest.mark.usefixtures("collector")
STORM = 800


def test_a_storm_arrives_whole_and_in_order(fleet: Fleet, run_in_threads: InThreads) -> None:
    """Eight plain threads and eight loops schedule on every loop at once."""
    count = len(fleet.loops)
    arrived: list[list[tuple[Any, int]]] = [[] for _ in fleet.loops]
    strays: list[Any] = []

    def arrive(place: int, sender: Any, number: int) -> None:
        if asyncio.get_running_loop() is not fleet.loops[place]:
            strays.append((place, sender, number))
        arrived[place].append((sender, number))

    def storm(sender: Any) -> None:
        for number in range(STORM):
            place = number % count
            fleet.loops[place].call_soon_threadsafe(arrive, place, sender, number)

    run_in_threads([functools.partial(storm, ("thread", index)) for index in range(count)])
    run_in_threads(
        [
            functools.partial(fleet.call, loop, functools.partial(storm, ("loop", index)))
            for index, loop in enumerate(fleet.loops)
        ]
    )
    for loop in fleet.loops:
        fleet.call(loop, lambda: None)  # what was scheduled before has run by then
    assert not strays
    assert sum(map(len, arrived)) == 2 * count * STORM
    for place, items in enumerate(arrived):
        numbers: dict[Any, list[int]] = {}
        for sender, number in items:
            numbers.setdefault(sender, []).append(number)
        assert len(numbers) == 2 * count
        for received in numbers.values():
            assert received == list(range(place, STORM, count))


def test_coroutines_are_handed_from_loop_to_loop(fleet: Fleet, run_in_threads: InThreads, dice: random.Random) -> None:
    """Each hop awaits the next in another loop; some are cancelled on their way. Every one begins, and ends."""
    ended = Counter[str]()
    hops: list[Coroutine[Any, Any, int]] = []

    def hand(left: int, place: int) -> concurrent.futures.Future[int]:
        hops.append(hop(left, place))
        return asyncio.run_coroutine_threadsafe(hops[-1], fleet.loops[place])

    async def hop(left: int, place: int) -> int:
        if left == 0:
            await asyncio.sleep(0)
            return 1
        return 1 + await asyncio.wrap_future(hand(left - 1, (place + 1 + left) % len(fleet.loops)))

    def drive(seed: int) -> None:
        chance = random.Random(seed)
        for _ in range(40):
            length = chance.randrange(1, 9)
            future = hand(length, chance.randrange(len(fleet.loops)))
            if chance.random() < 0.3:
                time.sleep(chance.random() / 1000)
                future.cancel()
            try:
                assert future.result(60) == length + 1
                ended["done"] += 1
            except concurrent.futures.CancelledError:
                ended["cancelled"] += 1

    run_in_threads([functools.partial(drive, dice.randrange(2**32)) for _ in range(4)])
    assert ended["done"] >= 4 * 40 // 2
    # Who cancels a hop does not wait for it: it, and what it had handed on, end by and by.
    deadline = time.monotonic() + 60
    while not all(inspect.getcoroutinestate(each) == inspect.CORO_CLOSED for each in hops):
        assert time.monotonic() < deadline, Counter(map(inspect.getcoroutinestate, hops))
        time.sleep(0.001)


def test_handles_are_cancelled_and_looked_at_from_other_threads(
    native_fleet: Fleet, run_in_threads: InThreads, dice: random.Random
) -> None:
    """A handle that was cancelled before its turn does not run, and none runs twice."""
    fleet = native_fleet
    ran = Counter[int]()
    handles: list[tuple[int, asyncio.Handle]] = []

    def schedule(place: int, seed: int) -> None:
        chance = random.Random(seed)
        loop = fleet.loops[place]
        for number in range(800):
            key = place * 1000 + number
            handle: asyncio.Handle
            match chance.randrange(3):
                case 0:
                    handle = loop.call_soon(ran.update, [key])
                case 1:
                    handle = loop.call_later(chance.random() / 50, ran.update, [key])
                case _:
                    handle = loop.call_soon_threadsafe(ran.update, [key])
            handles.append((key, handle))

    def meddle(seed: int) -> None:
        chance = random.Random(seed)
        end = time.monotonic() + 1
        while time.monotonic() < end:
            if not handles:
                continue
            _, handle = chance.choice(handles)
            match chance.randrange(6):
                case 0 | 1:
                    handle.cancel()
                    assert handle.cancelled()
                case 2:
                    assert "andle" in repr(handle)
                case 3:
                    assert handle.get_context() is not None
                case 4:
                    assert handle._args is None or len(handle._args) == 1
                case 5:
                    assert isinstance(handle, asyncio.Handle)

    schedulers = [
        functools.partial(fleet.call, fleet.loops[place], functools.partial(schedule, place, dice.randrange(2**32)))
        for place in range(4)
    ]
    run_in_threads(schedulers + [functools.partial(meddle, dice.randrange(2**32)) for _ in range(4)])
    time.sleep(0.05)
    for loop in fleet.loops:
        fleet.call(loop, lambda: None)
    assert set(ran.values()) <= {1}
    for key, handle in handles:
        assert handle.cancelled() or ran[key] == 1


class Told:
    """A callback that tells in the end whether it ran or was dropped."""

    def __init__(self, fates: list[str]) -> None:
        self.fates = fates
        self.ran = False

    def __call__(self) -> None:
        self.ran = True

    def __del__(self) -> None:
        self.fates.append("ran" if self.ran else "dropped")


def test_a_loop_that_closes_refuses_or_keeps_what_it_was_given(run_in_threads: InThreads, dice: random.Random) -> None:
    """What `call_soon_threadsafe` accepts runs, or is dropped by `close()`; later calls raise `RuntimeError`.

    Ours alone: asyncio promises nothing about what comes while it closes.
    """
    for _ in range(10):
        fates: list[str] = []
        loop = new_event_loop()
        accepted: list[int] = []
        begun = threading.Barrier(5)
        delay = dice.random() / 100

        def run(loop: asyncio.AbstractEventLoop = loop, begun: threading.Barrier = begun, delay: float = delay) -> None:
            begun.wait()
            loop.call_later(delay, loop.stop)
            loop.run_forever()
            loop.close()

        def push(
            loop: asyncio.AbstractEventLoop = loop,
            begun: threading.Barrier = begun,
            accepted: list[int] = accepted,
            fates: list[str] = fates,
        ) -> None:
            begun.wait()
            count = 0
            try:
                while True:
                    loop.call_soon_threadsafe(Told(fates))
                    count += 1
            except RuntimeError as error:
                assert "closed" in str(error)
            accepted.append(count)

        run_in_threads([run, push, push, push, push])
        del run, push
        for _ in range(3):
            gc.collect()
        refused = 4  # the last call of each thread
        assert len(fates) == sum(accepted) + refused
        with pytest.raises(RuntimeError):
            loop.call_soon_threadsafe(print)


def test_stop_and_rerun_from_everywhere(loop_factory: LoopFactory, run_in_threads: InThreads) -> None:
    """A loop changes its thread between runs, and what was scheduled in between is not lost."""
    loop = loop_factory()
    ran: list[int] = []
    turn = threading.Lock()
    left = iter(range(200))

    def run_some() -> None:
        for number in left:
            loop.call_soon_threadsafe(ran.append, number)
            with turn:
                loop.call_soon_threadsafe(loop.stop)
                loop.run_forever()

    run_in_threads([run_some] * 4)
    with turn:
        loop.call_soon(loop.stop)
        loop.run_forever()
    loop.close()
    assert sorted(ran) == list(range(200))
