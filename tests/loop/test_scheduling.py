"""What runs, when, in which order and in which context."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import gc
import random
import sys
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from tests.loop.support import LoopFactory, Recorder, failures, name_of, run_once, tcp_pair

variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")


def test_callbacks_run_in_the_order_of_scheduling(loop: asyncio.AbstractEventLoop) -> None:
    ran: list[int] = []
    for n in range(1000):
        loop.call_soon(ran.append, n)
    run_once(loop)
    assert ran == list(range(1000))


def test_a_callback_scheduled_by_a_callback_waits_for_those_that_were_there(loop: asyncio.AbstractEventLoop) -> None:
    ran: list[str] = []

    def first() -> None:
        ran.append("first")
        loop.call_soon(ran.append, "third")

    loop.call_soon(first)
    loop.call_soon(ran.append, "second")
    run_once(loop)
    assert ran == ["first", "second"]
    run_once(loop)
    assert ran == ["first", "second", "third"]


def test_threadsafe_and_plain_calls_share_one_queue(loop: asyncio.AbstractEventLoop) -> None:
    ran: list[int] = []

    def body() -> None:
        for n in range(500):
            (loop.call_soon if n % 2 else loop.call_soon_threadsafe)(ran.append, n)

    body()  # while the loop does not run
    run_once(loop)
    loop.call_soon(body)  # and while it does
    run_once(loop)
    run_once(loop)
    assert ran == [*range(500), *range(500)]


def test_what_a_thread_scheduled_first_runs_first(loop: asyncio.AbstractEventLoop) -> None:
    ran: list[str] = []

    def body() -> None:
        thread = threading.Thread(target=lambda: loop.call_soon_threadsafe(ran.append, "thread"))
        thread.start()
        thread.join()
        loop.call_soon(ran.append, "loop")
        loop.call_soon(loop.stop)

    loop.call_soon(body)
    loop.run_forever()
    assert ran == ["thread", "loop"]


def test_each_thread_keeps_its_order(loop: asyncio.AbstractEventLoop) -> None:
    ran: dict[int, list[int]] = {n: [] for n in range(4)}
    left = 4

    def done() -> None:
        nonlocal left
        left -= 1
        if not left:
            loop.stop()

    def storm(thread: int) -> None:
        for n in range(2000):
            loop.call_soon_threadsafe(ran[thread].append, n)
        loop.call_soon_threadsafe(done)

    threads = [threading.Thread(target=storm, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    loop.run_forever()
    for thread in threads:
        thread.join()
    assert all(order == list(range(2000)) for order in ran.values())


def test_an_idle_loop_wakes_for_a_thread(loop: asyncio.AbstractEventLoop) -> None:
    for _ in range(20):
        timer = threading.Timer(0.002, loop.call_soon_threadsafe, (loop.stop,))
        timer.start()
        started = time.monotonic()
        loop.run_forever()
        timer.join()
        assert time.monotonic() - started < 5


def test_what_was_ready_runs_before_what_the_kernel_brought(loop_factory: LoopFactory) -> None:
    """Whoever awaits a connection gets to act on it before its first data, however busy the loop is."""

    class Early(Recorder):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            early.append("data")

    early: list[str] = []

    async def connect(noise: int) -> None:
        loop = asyncio.get_running_loop()
        one, other = tcp_pair()
        other.send(b"at once")
        for _ in range(noise):
            loop.call_soon(int)
        transport, protocol = await loop.create_connection(Early, sock=one)
        early.append("connected")
        await protocol.until(lambda: protocol.data)
        transport.close()
        await protocol.lost
        other.close()

    async def main() -> None:
        for noise in range(0, 140, 2):
            await connect(noise)

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(main())
    assert early == ["connected", "data"] * 70


def test_contexts(loop: asyncio.AbstractEventLoop) -> None:
    seen: list[str] = []
    note = lambda: seen.append(variable.get())  # noqa: E731
    other = contextvars.copy_context()
    other.run(variable.set, "other")
    token = variable.set("here")
    loop.call_soon(note)
    loop.call_soon(note, context=other)
    loop.call_later(0, note)
    loop.call_later(0, note, context=other)
    loop.call_at(loop.time(), note, context=None)
    loop.call_soon_threadsafe(note, context=other)
    variable.reset(token)
    loop.call_later(0.01, loop.stop)
    loop.run_forever()
    assert sorted(seen) == ["here"] * 3 + ["other"] * 3
    with pytest.raises(TypeError):
        loop.call_soon(note, context=None, other=1)  # type: ignore[call-arg]


def test_what_a_callback_sets_stays_in_its_own_context(loop: asyncio.AbstractEventLoop) -> None:
    context = contextvars.copy_context()
    loop.call_soon(variable.set, "changed")
    loop.call_soon(variable.set, "kept", context=context)
    run_once(loop)
    assert variable.get() == "unset"
    assert context[variable] == "kept"


def test_a_context_that_is_entered_already_is_an_error_of_that_callback_alone(
    loop: asyncio.AbstractEventLoop, caplog: pytest.LogCaptureFixture
) -> None:
    context = contextvars.copy_context()
    ran: list[str] = []
    loop.call_soon(ran.append, "not run", context=context)
    loop.call_soon(ran.append, "run")
    with failures(loop) as seen:
        context.run(run_once, loop)
    assert ran == ["run"]
    if sys.version_info < (3, 12):
        assert "already entered" in str(seen[0]["exception"])
    else:
        # The exception handler is called in the callback's context now, which cannot be entered for it either.
        assert not seen
        assert "Unhandled error in exception handler" in caplog.text and "already entered" in caplog.text


def test_cancel(loop: asyncio.AbstractEventLoop) -> None:
    ran: list[str] = []
    soon = loop.call_soon(ran.append, "soon")
    safe = loop.call_soon_threadsafe(ran.append, "safe")
    later = loop.call_later(0.001, ran.append, "later")
    for handle in (soon, safe, later):
        assert not handle.cancelled()
        handle.cancel()
        handle.cancel()
        assert handle.cancelled()
        assert "cancelled" in repr(handle)
    loop.call_later(0.005, loop.stop)
    loop.run_forever()
    assert ran == []


def test_a_callback_may_cancel_itself_and_the_next(loop: asyncio.AbstractEventLoop) -> None:
    ran: list[str] = []

    def first() -> None:
        handles[0].cancel()
        handles[1].cancel()
        ran.append("first")

    handles = [loop.call_soon(first), loop.call_soon(ran.append, "second")]
    run_once(loop)
    assert ran == ["first"]


def test_a_cancelled_callback_is_let_go(loop: asyncio.AbstractEventLoop) -> None:
    class Target:
        def method(self) -> None: ...

    for schedule in (loop.call_soon, functools.partial(loop.call_later, 1000)):
        target = Target()
        seen = weakref.ref(target)
        handle = schedule(target.method)
        del target
        assert seen() is not None
        handle.cancel()
        gc.collect()
        assert seen() is None


def test_timers_run_in_the_order_of_their_time(loop: asyncio.AbstractEventLoop) -> None:
    seed = random.randrange(1 << 32)
    print("seed", seed)
    delays = [n / 10000 for n in range(200)]
    random.Random(seed).shuffle(delays)
    ran: list[float] = []
    start = loop.time()
    for delay in delays:
        loop.call_at(start + delay, ran.append, delay)
    loop.call_at(start + 0.05, loop.stop)
    loop.run_forever()
    assert ran == sorted(delays)


def test_timers_of_one_time_run_in_the_order_of_setting(loop_factory: LoopFactory) -> None:
    loop = loop_factory()
    ran: list[int] = []
    when = loop.time() + 0.01
    for n in range(100):
        loop.call_at(when, ran.append, n)
    loop.call_at(when + 0.01, loop.stop)
    loop.run_forever()
    loop.close()
    # asyncio promises no order, and its heap keeps none.
    assert (ran if name_of(loop_factory) == "aioxide" else sorted(ran)) == list(range(100))


def test_a_timer_is_never_early(loop: asyncio.AbstractEventLoop) -> None:
    late: list[float] = []

    def check(when: float) -> None:
        late.append(loop.time() - when)

    for n in range(50):
        when = loop.time() + n * 0.0007
        loop.call_at(when, check, when)
    loop.call_later(0.1, loop.stop)
    loop.run_forever()
    assert len(late) == 50
    assert min(late) >= -time.get_clock_info("monotonic").resolution


@pytest.mark.parametrize("delay", [-1, -1e300, float("-inf"), 0, -0.0, 1e-300])
def test_delays_that_are_over_at_once(loop: asyncio.AbstractEventLoop, delay: float) -> None:
    loop.call_later(delay, loop.stop)
    loop.run_forever()


@pytest.mark.parametrize("delay", [1e9, 1e18, 1e300, float("inf")])
def test_delays_that_never_end(loop: asyncio.AbstractEventLoop, delay: float) -> None:
    handle = loop.call_later(delay, pytest.fail, "called")
    loop.call_later(0.002, loop.stop)
    loop.run_forever()
    handle.cancel()
    loop.call_later(delay, pytest.fail, "called")
    loop.call_at(delay, pytest.fail, "called")
    loop.call_later(0.002, loop.stop)
    loop.run_forever()


def test_a_time_that_is_no_number_stops_nobody_else(loop_factory: LoopFactory) -> None:
    if name_of(loop_factory) == "asyncio":
        pytest.skip("asyncio's heap takes it: its order is anybody's guess, or the run ends of it since Python 3.13")
    loop = loop_factory()
    with pytest.raises(ValueError):
        loop.call_later(float("nan"), int)
    loop.call_later(0.002, loop.stop)
    loop.run_forever()
    loop.close()


@pytest.mark.parametrize("delay", [None, "1", []])
def test_delays_of_the_wrong_type(loop: asyncio.AbstractEventLoop, delay: Any) -> None:
    with pytest.raises(TypeError):
        loop.call_later(delay, int)
    with pytest.raises(TypeError):
        loop.call_soon()  # type: ignore[call-arg]


def test_timer_handles_compare_by_time(loop: asyncio.AbstractEventLoop) -> None:
    one, two = loop.call_at(10, int), loop.call_at(20, int)
    same = loop.call_at(10, int)
    assert one < two
    assert two > one
    assert one <= same
    assert one >= same
    assert one == same
    assert one != two
    assert hash(one) == hash(same)
    assert one.when() == 10
    assert one != 10
    with pytest.raises(TypeError):
        one < 10  # type: ignore[operator]  # noqa: B015
    assert isinstance(one, asyncio.TimerHandle)
    assert isinstance(one, asyncio.Handle)
    assert "when=10" in repr(one)
    assert "TimerHandle" in repr(one)


def test_cancelled_timers_do_not_pile_up(loop: asyncio.AbstractEventLoop) -> None:
    ran: list[int] = []
    kept = [loop.call_later(0.02, ran.append, n) for n in range(10)]
    for _ in range(10_000):
        loop.call_later(1000, int).cancel()
    loop.call_later(0.03, loop.stop)
    loop.run_forever()
    assert ran == list(range(10))
    assert not any(handle.cancelled() for handle in kept)


def test_the_clock_is_monotonic_time(loop: asyncio.AbstractEventLoop) -> None:
    before, now, after = time.monotonic(), loop.time(), time.monotonic()
    assert before <= now <= after


def with_clock(loop_factory: LoopFactory, kind: str, clock: Callable[[], float]) -> asyncio.AbstractEventLoop:
    """A loop whose `time()` is `clock`, by a subclass or by the instance."""
    loop = loop_factory()
    if kind == "instance":
        loop.time = clock  # type: ignore[method-assign]
        return loop
    loop.close()
    subclass = type("ClockLoop", (type(loop),), {"time": lambda _loop: clock()})
    made: asyncio.AbstractEventLoop = subclass()
    return made


@pytest.mark.parametrize("kind", ["subclass", "instance"])
def test_timers_follow_a_clock_that_is_overridden(loop_factory: LoopFactory, kind: str) -> None:
    now = -5.0
    ran: list[str] = []

    async def main() -> None:
        nonlocal now
        loop = asyncio.get_running_loop()
        loop.call_later(3600, ran.append, "in an hour")
        handle = loop.call_later(1800, ran.append, "in half an hour")
        assert handle.when() == now + 1800
        for _ in range(3):
            await asyncio.sleep(0)
        assert ran == ["before the run"]
        now += 1800
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert ran == ["before the run", "in half an hour"]
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(10_000):
                loop.call_soon(advance, 20_000)
                await loop.create_future()
        assert ran == ["before the run", "in half an hour", "in an hour"]

    def advance(seconds: float) -> None:
        nonlocal now
        now += seconds

    loop = with_clock(loop_factory, kind, lambda: now)
    assert loop.time() == -5.0
    loop.call_later(10, ran.append, "before the run")
    now += 10
    loop.run_until_complete(main())
    loop.close()


def test_a_clock_that_fails_ends_the_run(loop_factory: LoopFactory) -> None:
    loop = with_clock(loop_factory, "subclass", lambda: 1 // broken)
    broken = 0
    with pytest.raises(ZeroDivisionError):
        loop.call_later(1, int)
    broken = 1
    timer = loop.call_later(1, int)
    broken = 0
    with pytest.raises(ZeroDivisionError):
        loop.run_until_complete(asyncio.sleep(0))
    timer.cancel()
    broken = 1
    run_once(loop)
    loop.close()


def test_an_endless_chain_of_callbacks_starves_neither_timers_nor_threads(loop: asyncio.AbstractEventLoop) -> None:
    def again() -> None:
        loop.call_soon(again)

    again()
    loop.call_later(0.005, loop.stop)
    loop.run_forever()
    threading.Timer(0.005, loop.call_soon_threadsafe, (loop.stop,)).start()
    loop.run_forever()
