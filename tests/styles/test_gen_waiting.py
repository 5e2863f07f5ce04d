"""`multi`, `WaitIterator`, `with_timeout` and `sleep`: waiting for several things, or not for ever."""

from __future__ import annotations

import asyncio
import concurrent.futures
import datetime as dt
import logging
import threading
import time

import pytest

from aioxide import gen
from aioxide.concurrent import Future

SHORT = dt.timedelta(milliseconds=2)
LONG = dt.timedelta(seconds=30)


async def after(turns, outcome):
    for _ in range(turns):
        await asyncio.sleep(0)
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


def run(runner, function, *args):
    async def main():
        return await function(*args)

    return runner.run(main())


# multi


def test_multi_keeps_the_order_given(runner):
    async def main():
        assert await gen.multi([after(3, "a"), after(1, "b"), after(2, "c")]) == ["a", "b", "c"]
        assert await gen.multi(after(n, n) for n in (2, 1)) == [2, 1]
        assert await gen.multi((after(1, 1), None)) == [1, None]
        results = await gen.multi({"x": after(2, 1), "y": after(1, 2)})
        assert list(results.items()) == [("x", 1), ("y", 2)]
        assert await gen.multi([]) == []
        assert await gen.multi({}) == {}

    runner.run(main())
    assert gen.Multi is gen.multi_future is gen.multi


def test_multi_with_the_same_future_twice(runner):
    async def main():
        future = gen.convert_yielded(after(2, 1))
        assert await gen.multi([future, future]) == [1, 1]
        assert await gen.multi({"a": future, "b": future}) == {"a": 1, "b": 1}

    runner.run(main())


def test_multi_of_done_children_is_done(runner):
    async def main():
        return gen.multi([gen.maybe_future(1), None]).result()

    assert runner.run(main()) == [1, None]


def test_multi_of_many_is_quick(runner):
    """Each child that ends is one step, not a look at all the others."""

    @gen.coroutine
    def main():
        loop = asyncio.get_running_loop()
        loop.set_debug(False)  # it would note where each future was made
        futures = [loop.create_future() for _ in range(20_000)]
        for n, future in enumerate(futures):
            loop.call_soon(future.set_result, n)
        start = time.perf_counter()
        results = yield futures
        return results == list(range(20_000)), time.perf_counter() - start

    all_there, seconds = run(runner, main)
    assert all_there
    assert seconds < 10  # some 0.05 s; minutes, if it were quadratic


def test_multi_raises_the_first_exception_in_order_and_logs_the_others(runner, caplog):
    async def main():
        await gen.multi([after(0, 1), after(3, KeyError("first")), after(1, ValueError("other")), after(5, 2)])

    with caplog.at_level(logging.ERROR, "aioxide"), pytest.raises(KeyError, match="first"):
        runner.run(main())
    assert [record.exc_info[1].args for record in caplog.records] == [("other",)]


@pytest.mark.parametrize("quiet", [ValueError, (KeyError, ValueError)])
def test_multi_quiet_exceptions(runner, caplog, quiet):
    async def main():
        await gen.multi([after(1, KeyError("first")), after(1, ValueError("other"))], quiet_exceptions=quiet)

    with pytest.raises(KeyError):
        runner.run(main())
    assert not caplog.records


def test_multi_waits_for_all_before_it_fails(runner):
    async def main():
        slow = gen.convert_yielded(after(20, "slow"))
        with pytest.raises(KeyError):
            await gen.multi([after(0, KeyError("first")), slow])
        assert slow.done()

    runner.run(main())


def test_multi_with_a_cancelled_child(runner, caplog):
    async def main():
        children = [Future(), Future(), Future()]
        combined = gen.multi(children)
        children[0].set_result(1)
        children[1].cancel()
        children[2].cancel()
        with pytest.raises(asyncio.CancelledError):
            await combined
        assert not combined.cancelled()  # it was not what was cancelled, as with asyncio.gather

    runner.run(main())
    assert not caplog.records


def test_multi_with_futures_of_threads(runner):
    """Threads complete them; nothing of the loop's runs in those threads."""
    seen = set()

    async def main():
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            for _ in range(50):
                combined = gen.multi([pool.submit(int, n) for n in range(8)])
                combined.add_done_callback(lambda f: seen.add(threading.current_thread()))
                assert await combined == list(range(8))

    runner.run(main())
    assert seen == {threading.current_thread()}


# WaitIterator


def test_iterator_gives_results_as_they_come(runner):
    @gen.coroutine
    def main():
        iterator = gen.WaitIterator(after(6, "a"), after(2, "b"), after(4, "c"))
        assert iterator.current_index is None
        assert iterator.current_future is None
        got = []
        while not iterator.done():
            result = yield iterator.next()
            assert iterator.current_future.result() == result
            got.append((iterator.current_index, result))
        assert iterator.current_index is None
        assert iterator.current_future is None
        return got

    assert run(runner, main) == [(1, "b"), (2, "c"), (0, "a")]


def test_iterator_by_keyword_with_async_for(runner):
    async def main():
        iterator = gen.WaitIterator(x=after(4, 1), y=after(2, 2))
        return [(iterator.current_index, result) async for result in iterator]

    assert runner.run(main()) == [("y", 2), ("x", 1)]


def test_iterator_goes_on_after_an_exception(runner):
    @gen.coroutine
    def main():
        iterator = gen.WaitIterator(after(2, KeyError("no")), after(4, "yes"))
        got = []
        while not iterator.done():
            try:
                got.append((yield iterator.next()))
            except KeyError:
                got.append(iterator.current_index)
        return got

    assert run(runner, main) == [0, "yes"]


def test_iterator_of_done_and_repeated_futures(runner):
    async def main():
        one, two = gen.maybe_future(1), gen.maybe_future(2)
        pending = gen.convert_yielded(after(3, 3))
        iterator = gen.WaitIterator(one, two, one, pending, pending)
        got = []
        async for result in iterator:
            got.append((iterator.current_index, result))
        return got

    assert sorted(runner.run(main())) == [(0, 1), (1, 2), (2, 1), (3, 3), (4, 3)]


def test_iterator_with_futures_of_threads(runner):
    async def main():
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            return sorted([result async for result in gen.WaitIterator(*(pool.submit(int, n) for n in range(20)))])

    assert runner.run(main()) == list(range(20))


def test_iterator_loses_no_result_to_a_timeout(runner):
    async def main():
        future = Future()
        iterator = gen.WaitIterator(future)
        with pytest.raises(TimeoutError):
            await gen.with_timeout(SHORT, iterator.next())
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(iterator.next(), 0.001)
        future.set_result("kept")
        await asyncio.sleep(0)
        return await iterator.next(), iterator.done()

    assert runner.run(main()) == ("kept", True)


def test_iterator_next_replaces_an_earlier_next(runner):
    async def main():
        future = Future()
        iterator = gen.WaitIterator(future)
        first, second = iterator.next(), iterator.next()
        assert first.cancelled()
        future.set_result("to the second")
        return await second

    assert runner.run(main()) == "to the second"


def test_iterator_misused(runner):
    async def main():
        with pytest.raises(ValueError, match="not both"):
            gen.WaitIterator(Future(), x=Future())
        with pytest.raises(gen.BadYieldError):
            gen.WaitIterator(None)
        with pytest.raises(gen.BadYieldError):
            gen.WaitIterator(1)
        assert gen.WaitIterator().done()
        with pytest.raises(RuntimeError, match="has been given"):
            gen.WaitIterator().next()

    runner.run(main())


def test_iterator_with_a_cancelled_future(runner):
    async def main():
        future = Future()
        iterator = gen.WaitIterator(future, after(3, "other"))
        future.cancel()
        with pytest.raises(asyncio.CancelledError):
            await iterator.next()
        assert iterator.current_future is future
        return await iterator.next()

    assert runner.run(main()) == "other"


# with_timeout


def test_timeout_expires(runner):
    async def main():
        slow = Future()
        with pytest.raises(gen.TimeoutError, match="timed out"):
            await gen.with_timeout(SHORT, slow)
        assert not slow.done()
        slow.set_result("can still be used")
        return await gen.with_timeout(SHORT, slow)

    assert runner.run(main()) == "can still be used"
    assert gen.TimeoutError is asyncio.TimeoutError is TimeoutError


@pytest.mark.parametrize(
    "timeout",
    [
        lambda: 0.005,
        lambda: dt.timedelta(milliseconds=5),
        lambda: time.time() + 0.005,
        lambda: 0,
        lambda: -1,
        lambda: dt.timedelta(seconds=-1),
        lambda: time.time() - 100,
    ],
    ids=["seconds", "timedelta", "moment", "now", "past seconds", "past timedelta", "past moment"],
)
def test_ways_to_say_when(runner, timeout):
    async def main():
        start = time.perf_counter()
        with pytest.raises(TimeoutError):
            await gen.with_timeout(timeout(), Future())
        return time.perf_counter() - start

    assert runner.run(main()) < 5


@pytest.mark.parametrize("timeout", [lambda: 30, lambda: 30.0, lambda: LONG, lambda: time.time() + 30])
def test_in_time(runner, timeout):
    async def main():
        return await gen.with_timeout(timeout(), after(2, "in time"))

    assert runner.run(main()) == "in time"


def test_timeout_of_everything_that_can_be_yielded(runner):
    @gen.coroutine
    def main():
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            return (
                (yield gen.with_timeout(LONG, None)),
                (yield gen.with_timeout(LONG, gen.maybe_future(1))),
                (yield gen.with_timeout(LONG, [after(1, 2), gen.moment])),
                (yield gen.with_timeout(LONG, {"a": after(1, 3)})),
                (yield gen.with_timeout(LONG, pool.submit(int, 4))),
            )

    assert run(runner, main) == (None, 1, [2, None], {"a": 3}, 4)


def test_exception_before_the_timeout(runner, caplog):
    async def main():
        with pytest.raises(KeyError):
            await gen.with_timeout(LONG, after(1, KeyError("no")))
        failed = Future()
        failed.set_exception(ValueError("done"))
        with pytest.raises(ValueError, match="done"):
            await gen.with_timeout(LONG, failed)

    runner.run(main())
    assert not caplog.records


def test_cancelled_before_the_timeout(runner):
    async def main():
        future = Future()
        limited = gen.with_timeout(LONG, future)
        future.cancel()
        with pytest.raises(asyncio.CancelledError):
            await limited

    runner.run(main())


@pytest.mark.parametrize("quiet", [(), KeyError, (ValueError, KeyError)])
def test_exception_after_the_timeout_is_logged(runner, caplog, quiet):
    async def main():
        future = Future()
        with pytest.raises(TimeoutError):
            await gen.with_timeout(SHORT, future, quiet_exceptions=quiet)
        future.set_exception(KeyError("too late"))
        await asyncio.sleep(0)

    runner.run(main())
    assert ("too late" in caplog.text) is (quiet == ())


def test_cancellation_after_the_timeout_is_not_logged(runner, caplog):
    async def main():
        future = Future()
        with pytest.raises(TimeoutError):
            await gen.with_timeout(SHORT, future)
        future.cancel()
        await asyncio.sleep(0)

    runner.run(main())
    assert not caplog.records


def test_timeout_message(runner):
    calls = []

    def message():
        calls.append(1)
        return "made when needed"

    def bad_message():
        raise KeyError("in message()")

    async def main():
        with pytest.raises(TimeoutError, match="no answer"):
            await gen.with_timeout(SHORT, Future(), message="no answer")
        with pytest.raises(TimeoutError, match="made when needed"):
            await gen.with_timeout(SHORT, Future(), message=message)
        await gen.with_timeout(LONG, after(1, 1), message=message)
        with pytest.raises(KeyError, match="in message"):
            await gen.with_timeout(SHORT, Future(), message=bad_message)

    runner.run(main())
    assert calls == [1]


def test_timer_is_gone_when_it_is_in_time(runner):
    """A thousand finished waits must not keep a thousand timers for half a minute."""
    cancelled = []

    async def main():
        loop = asyncio.get_running_loop()
        call_later = loop.call_later
        timers = []
        loop.call_later = lambda *args: timers.append(call_later(*args)) or timers[-1]
        try:
            await gen.with_timeout(LONG, after(1, 1))
            sleeping = gen.sleep(30)
            sleeping.cancel()
            await asyncio.sleep(0)
        finally:
            del loop.call_later
        cancelled.extend(timer.cancelled() for timer in timers)

    runner.run(main())
    assert cancelled == [True, True]


def test_timeout_of_what_somebody_has_completed(runner):
    async def main():
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: contexts.append(context))
        inner = Future()
        limited = gen.with_timeout(SHORT, inner)
        limited.set_result("somebody's own")
        await asyncio.sleep(0.01)
        inner.set_result("late")
        return await limited

    contexts = []
    assert runner.run(main()) == "somebody's own"
    assert contexts == []


# sleep


def test_sleep(runner):
    @gen.coroutine
    def main():
        start = time.perf_counter()
        assert (yield gen.sleep(0.02)) is None
        return time.perf_counter() - start

    assert 0.019 < run(runner, main) < 5


def test_sleeps_side_by_side(runner):
    @gen.coroutine
    def main():
        start = time.perf_counter()
        yield [gen.sleep(0.05) for _ in range(100)]
        return time.perf_counter() - start

    assert run(runner, main) < 3


def test_sleep_for_no_time(runner):
    async def main():
        await gen.sleep(0)
        await gen.sleep(-1)

    runner.run(main())


def test_without_a_loop():
    asyncio.set_event_loop(None)
    for call in (
        lambda: gen.sleep(1),
        lambda: gen.multi([]),
        lambda: gen.with_timeout(1, Future()),
        lambda: gen.WaitIterator(Future()),
    ):
        with pytest.raises(RuntimeError, match="no event loop"):
            call()
