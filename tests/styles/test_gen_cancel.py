"""Cancelling a `gen.coroutine`: it stops, cleans up, and takes with it what it waits for."""

from __future__ import annotations

import asyncio
import concurrent.futures
import datetime as dt
import gc
import threading
import weakref

import pytest

from aioxide import gen
from aioxide.concurrent import Future

LONG = dt.timedelta(seconds=30)


async def cancelled(future):
    """Cancel, wait for the end, and give back the future."""
    assert future.cancel()
    with pytest.raises(asyncio.CancelledError):
        await future
    assert future.cancelled()
    assert not asyncio.current_task().cancelling()
    return future


def test_it_stops_at_its_yield_and_cleans_up(runner):
    log = []
    inner = []

    @gen.coroutine
    def main():
        inner.append(Future())
        try:
            yield inner[0]
            log.append("went on")
        except asyncio.CancelledError:
            log.append("caught")
            raise
        finally:
            log.append("finally")

    async def run():
        future = main()
        assert future.cancel()
        assert not future.cancelled()  # not before it has cleaned up
        with pytest.raises(asyncio.CancelledError):
            await future
        assert future.cancelled()
        assert future.cancel() is False

    runner.run(run())
    assert log == ["caught", "finally"]
    assert inner[0].cancelled()


def test_cleaning_up_may_take_time(runner):
    log = []

    @gen.coroutine
    def main():
        try:
            yield gen.sleep(30)
        finally:
            yield gen.sleep(0.001)
            log.append((yield gen.maybe_future("cleaned up")))

    async def run():
        await cancelled(main())

    runner.run(run())
    assert log == ["cleaned up"]


def test_timeouts_wait_for_the_cleaning_up(runner):
    log = []

    @gen.coroutine
    def main():
        try:
            yield gen.sleep(30)
        finally:
            yield gen.moment
            log.append("cleaned up")

    async def run():
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(main(), 0.001)
        assert log == ["cleaned up"]
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.001):
                await main()
        assert log == ["cleaned up"] * 2

    runner.run(run())


def test_message_is_passed_on(runner):
    seen = []

    @gen.coroutine
    def main(waits_for):
        try:
            yield waits_for
        except asyncio.CancelledError as error:
            seen.append(error.args)
            raise

    async def run():
        for waits_for in (Future(), None, concurrent.futures.Future(), [Future()]):
            future = main(waits_for)
            future.cancel("the reason")
            with pytest.raises(asyncio.CancelledError) as caught:
                await future
            assert caught.value.args == ("the reason",)

    runner.run(run())
    assert seen == [("the reason",)] * 4


def test_a_coroutine_may_refuse(runner):
    @gen.coroutine
    def main():
        try:
            yield gen.sleep(30)
        except asyncio.CancelledError:
            pass
        return (yield gen.maybe_future("went on"))

    async def run():
        future = main()
        assert future.cancel()
        assert await future == "went on"
        assert not future.cancelled()

    runner.run(run())


def test_exception_while_cleaning_up_is_the_outcome(runner):
    @gen.coroutine
    def main():
        try:
            yield gen.sleep(30)
        finally:
            raise KeyError("while cleaning up")

    async def run():
        future = main()
        future.cancel()
        with pytest.raises(KeyError) as caught:
            await future
        assert isinstance(caught.value.__context__, asyncio.CancelledError)

    runner.run(run())


def test_cancelled_again_while_cleaning_up(runner):
    log = []

    @gen.coroutine
    def main():
        try:
            yield gen.sleep(30)
        finally:
            try:
                yield gen.sleep(30)
            finally:
                log.append("second")

    async def run():
        future = main()
        future.cancel()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert not future.done()
        await cancelled(future)

    runner.run(run())
    assert log == ["second"]


@pytest.mark.parametrize("what", [None, gen.moment], ids=str)
def test_waiting_for_a_turn_of_the_loop(runner, what):
    @gen.coroutine
    def main():
        while True:
            yield what

    async def run():
        await cancelled(main())
        future = main()
        await asyncio.sleep(0)
        await cancelled(future)

    runner.run(run())


def test_task_that_it_waits_for_is_cancelled_and_waited_for(runner):
    log = []

    async def native():
        try:
            await asyncio.sleep(30)
        finally:
            await asyncio.sleep(0)
            log.append("native")

    @gen.coroutine
    def main(wrap):
        try:
            yield wrap(native())
        finally:
            log.append("gen")

    async def run():
        for wrap in (
            lambda coroutine: coroutine,
            asyncio.ensure_future,
            lambda coroutine: [coroutine],
            lambda coroutine: {"a": [coroutine]},
            lambda coroutine: gen.with_timeout(LONG, coroutine),
            lambda coroutine: gen.multi([coroutine, None]),
        ):
            future = main(wrap)
            await asyncio.sleep(0)
            await cancelled(future)
            assert log == ["native", "gen"]
            log.clear()

    runner.run(run())


def test_shield(runner):
    shared = []

    @gen.coroutine
    def main():
        yield asyncio.shield(shared[0])

    async def run():
        shared.append(Future())
        await cancelled(main())
        assert not shared[0].done()

    runner.run(run())


def test_call_that_an_executor_has_not_begun_is_taken_back(runner):
    @gen.coroutine
    def main(submitted):
        yield submitted

    async def run():
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            begin = threading.Event()
            pool.submit(begin.wait)
            submitted = pool.submit(int, 1)
            await cancelled(main(submitted))
            assert submitted.cancelled()
            in_list = pool.submit(int, 1)
            await cancelled(main([in_list]))
            assert in_list.cancelled()
            begin.set()

    runner.run(run())


@pytest.mark.parametrize("wrap", [lambda f: f, lambda f: [f], lambda f: gen.with_timeout(LONG, f)])
def test_call_that_an_executor_is_running_is_left_to_itself(runner, wrap):
    """A thread cannot be stopped; the coroutine does not wait for it, and its late end disturbs nothing."""
    log = []
    begun, go_on = threading.Event(), threading.Event()

    def call():
        begun.set()
        go_on.wait(30)
        return "late"

    @gen.coroutine
    def main(submitted):
        try:
            yield wrap(submitted)
        except asyncio.CancelledError:
            for turn in range(3):
                yield gen.sleep(0.001)
                log.append(turn)
                go_on.set()
            raise

    async def run():
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            submitted = pool.submit(call)
            future = main(submitted)
            begun.wait(30)
            await cancelled(future)
        assert submitted.result() == "late"
        await asyncio.sleep(0.001)

    runner.run(run())
    assert log == [0, 1, 2]


def test_list_of_a_task_and_a_running_thread(runner, caplog):
    go_on = threading.Event()
    log = []

    async def native():
        try:
            await asyncio.sleep(30)
        finally:
            await asyncio.sleep(0)
            log.append("native")

    @gen.coroutine
    def main(submitted):
        yield [native(), submitted]

    async def run():
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            submitted = pool.submit(go_on.wait, 30)
            future = main(submitted)
            await asyncio.sleep(0)
            while not submitted.running():
                await asyncio.sleep(0)
            try:
                await cancelled(future)
                assert log == ["native"]
                assert not submitted.done()
            finally:
                go_on.set()
        await asyncio.sleep(0)

    runner.run(run())
    assert not caplog.records


def test_cancelling_itself(runner):
    log = []
    own = []

    @gen.coroutine
    def main():
        yield
        own[0].cancel()
        log.append("still runs")
        try:
            yield gen.sleep(30)
        except asyncio.CancelledError:
            log.append("until it waits")
            raise

    @gen.coroutine
    def never_waits_again():
        yield
        own[0].cancel()
        yield gen.maybe_future(None)
        log.append("not reached")

    @gen.coroutine
    def ends():
        yield
        own[0].cancel()
        return "the result"

    async def run():
        for function in (main, never_waits_again):
            own[:] = [function()]
            with pytest.raises(asyncio.CancelledError):
                await own[0]
        own[:] = [ends()]
        return await own[0]

    assert runner.run(run()) == "the result"
    assert log == ["still runs", "until it waits"]


@pytest.mark.parametrize("outcome", ["result", KeyError("unseen")], ids=str)
def test_what_it_waits_for_is_done_but_it_has_not_run_yet(runner, caplog, outcome):
    contexts = []

    @gen.coroutine
    def main(inner):
        yield inner

    async def run():
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: contexts.append(context))
        inner = Future()
        future = main(inner)
        if isinstance(outcome, Exception):
            inner.set_exception(outcome)
        else:
            inner.set_result(outcome)
        await cancelled(future)
        del inner, future
        gc.collect()

    runner.run(run())
    assert contexts == []


def test_raising_cancelled_error_cancels(runner):
    @gen.coroutine
    def main(waits):
        if waits:
            yield
        raise asyncio.CancelledError("by itself")

    @gen.coroutine
    def function():
        raise asyncio.CancelledError("by itself")

    async def run():
        for future in (main(False), main(True), function()):
            with pytest.raises(asyncio.CancelledError, match="by itself"):
                await future
            assert future.cancelled()

    runner.run(run())


def test_cancelling_multi_cancels_the_children(runner):
    async def run():
        children = [Future(), Future(), gen.maybe_future(1)]
        await cancelled(gen.multi(children))
        assert [child.cancelled() for child in children] == [True, True, False]
        done = gen.multi([])
        assert done.cancel() is False

    runner.run(run())


def test_child_that_refuses_does_not_keep_multi_from_being_cancelled(runner, caplog):
    async def refuses():
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            return "refused"

    async def fails():
        try:
            await asyncio.sleep(30)
        finally:
            raise KeyError("while cleaning up")

    async def run():
        children = [asyncio.ensure_future(refuses()), asyncio.ensure_future(fails())]
        await asyncio.sleep(0)
        await cancelled(gen.multi(children))
        assert children[0].result() == "refused"

    runner.run(run())
    assert "while cleaning up" in caplog.text


def test_cancelling_with_timeout_cancels_what_it_limits(runner):
    async def run():
        inner = Future()
        await cancelled(gen.with_timeout(LONG, inner))
        assert inner.cancelled()

    runner.run(run())


def test_timeout_that_expires_while_what_it_limits_is_being_cancelled(runner):
    async def slow_to_end():
        try:
            await asyncio.sleep(30)
        finally:
            await asyncio.sleep(0.01)

    async def run():
        limited = gen.with_timeout(0.005, slow_to_end())
        await asyncio.sleep(0)
        await cancelled(limited)

    runner.run(run())


def test_cancelling_what_an_iterator_gave_cancels_nothing_else(runner):
    async def run():
        inner = Future()
        iterator = gen.WaitIterator(inner)
        await cancelled(iterator.next())
        assert not inner.done()
        inner.set_result("kept")
        return await iterator.next()

    assert runner.run(run()) == "kept"


def test_the_end_of_the_run_stops_a_coroutine_that_a_task_waits_for(loop_factory):
    log = []

    @gen.coroutine
    def forever():
        try:
            while True:
                yield gen.sleep(0.001)
        finally:
            yield
            log.append("stopped")

    async def wait():
        await forever()

    async def run():
        task = asyncio.create_task(wait())
        await asyncio.sleep(0.005)
        return weakref.ref(task)

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(run())
    assert log == ["stopped"]


def test_forgotten_coroutine_is_closed_with_the_garbage(runner):
    """Nobody can ever complete what it waits for, nor see its result."""
    log = []

    @gen.coroutine
    def forgotten():
        try:
            yield Future()
        finally:
            log.append("closed")

    async def run():
        forgotten()
        gc.collect()

    runner.run(run())
    assert log == ["closed"]


def test_a_coroutine_that_only_the_loop_knows_of_goes_on(runner):
    log = []

    @gen.coroutine
    def background():
        for n in range(3):
            yield gen.sleep(0.001)
            gc.collect()
            log.append(n)

    async def run():
        background()
        gc.collect()
        while len(log) < 3:
            await asyncio.sleep(0.001)

    runner.run(asyncio.wait_for(run(), 30))
    assert log == [0, 1, 2]


@pytest.mark.parametrize("wrap", [lambda f: f, lambda f: [f], lambda f: gen.with_timeout(LONG, f)])
def test_failed_at_the_moment_of_the_cancellation(runner, wrap, caplog):
    """Whoever is cancelled is cancelled; the exception is not reported as one that nobody ever looked at."""
    contexts = []

    @gen.coroutine
    def main(inner):
        yield wrap(inner)

    async def run():
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: contexts.append(context))
        inner = Future()
        future = main(inner)
        inner.set_exception(KeyError("at that moment"))
        await cancelled(future)
        await asyncio.sleep(0)
        del inner, future
        gc.collect()

    runner.run(run())
    assert contexts == []


def test_with_timeout_gives_what_refuses_to_be_cancelled(runner):
    async def refuses():
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            return "refused"

    async def run():
        limited = gen.with_timeout(LONG, refuses())
        await asyncio.sleep(0)
        assert limited.cancel()
        return await limited

    assert runner.run(run()) == "refused"
