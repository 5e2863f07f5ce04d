"""`gen.coroutine`: what may be yielded, what comes back, and in which order things run."""

from __future__ import annotations

import asyncio
import concurrent.futures
import functools
import gc
import pickle

import pytest

from aioxide import gen
from aioxide.concurrent import Future, dummy_executor


def run(runner, function, *args):
    """Run a `gen.coroutine` on the runner's loop."""

    async def main():
        return await function(*args)

    return runner.run(main())


@gen.coroutine
def double(n):
    """Twice n, a turn later."""
    yield gen.moment
    raise gen.Return(2 * n)


# Results


def test_ways_to_return(runner):
    @gen.coroutine
    def by_return():
        yield
        return 1

    @gen.coroutine
    def by_raise():
        yield
        raise gen.Return(2)

    @gen.coroutine
    def nothing():
        yield

    @gen.coroutine
    def nothing_by_raise():
        yield
        raise gen.Return

    @gen.coroutine
    def generator_that_never_waits():
        return 3
        yield

    @gen.coroutine
    def generator_that_never_waits_by_raise():
        raise gen.Return(4)
        yield

    @gen.coroutine
    def function():
        return 5

    @gen.coroutine
    def function_by_raise():
        raise gen.Return(6)

    @gen.coroutine
    async def native():
        await asyncio.sleep(0)
        return 7

    @gen.coroutine
    def main():
        return (
            yield [
                by_return(),
                by_raise(),
                nothing(),
                nothing_by_raise(),
                generator_that_never_waits(),
                generator_that_never_waits_by_raise(),
                function(),
                function_by_raise(),
                native(),
            ]
        )

    assert run(runner, main) == [1, 2, None, None, 3, 4, 5, 6, 7]


def test_calling_returns_a_future_that_may_be_done(runner):
    @gen.coroutine
    def at_once():
        return "done"
        yield

    async def main():
        future = at_once()
        assert type(future) is asyncio.Future
        assert future.done()
        waiting = double(1)
        assert isinstance(waiting, Future)
        assert not waiting.done()
        assert waiting.get_loop() is asyncio.get_running_loop()
        return await waiting

    assert runner.run(main()) == 2


def test_it_runs_at_once_up_to_the_first_wait(runner):
    log = []

    @gen.coroutine
    def steps():
        log.append("at the call")
        done = Future()
        done.set_result("already there")
        log.append((yield done))
        yield None
        log.append("a turn later")

    async def main():
        future = steps()
        log.append("back at the caller")
        await future

    runner.run(main())
    assert log == ["at the call", "already there", "back at the caller", "a turn later"]


def test_everything_that_may_be_yielded(runner):
    async def native(value):
        await asyncio.sleep(0)
        return value

    class Awaitable:
        def __await__(self):
            yield
            return "awaitable"

    def soon(value):
        future = Future()
        asyncio.get_running_loop().call_soon(future.set_result, value)
        return future

    @gen.coroutine
    def main():
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            assert (yield soon("future")) == "future"
            assert (yield asyncio.get_running_loop().create_task(native("task"))) == "task"
            assert (yield native("native")) == "native"
            assert (yield Awaitable()) == "awaitable"
            assert (yield double(2)) == 4
            assert (yield pool.submit(int, "5")) == 5
            assert (yield dummy_executor.submit(int, "6")) == 6
            assert (yield None) is None
            assert (yield) is None
            assert (yield gen.moment) is None
            assert (yield []) == []
            assert (yield {}) == {}
            assert (yield [soon(1), native(2), pool.submit(int, 3), None, gen.moment]) == [1, 2, 3, None, None]
            assert (yield {"a": soon(1), 2: native(2)}) == {"a": 1, 2: 2}
            nested = yield [[soon(1), {"b": soon(2)}], {"c": [soon(3)], "d": {}}]
            assert nested == [[1, {"b": 2}], {"c": [3], "d": {}}]
        return "all"

    assert run(runner, main) == "all"


def test_future_of_another_make(runner):
    """What asyncio takes for a future without being derived from its class, as uvloop's once were."""

    @gen.coroutine
    def main():
        loop = asyncio.get_running_loop()
        future = asyncio.futures._PyFuture(loop=loop)
        loop.call_soon(future.set_result, "other make")
        result = yield future
        future = asyncio.futures._PyFuture(loop=loop)
        waiting = gen.multi([future])
        yield
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            yield waiting
        return result, future.cancelled()

    assert run(runner, main) == ("other make", True)


@pytest.mark.parametrize("bad", [1, "text", (), object(), [1], {"a": 1}, [[None, 2]], print, StopIteration], ids=repr)
def test_bad_yield_is_raised_into_the_coroutine(runner, bad):
    @gen.coroutine
    def catches():
        try:
            yield bad
        except gen.BadYieldError as error:
            return str(error)

    assert "neither a future nor awaitable" in run(runner, catches)

    @gen.coroutine
    def catches_later():
        yield
        with pytest.raises(gen.BadYieldError):
            yield bad
        return "goes on"

    assert run(runner, catches_later) == "goes on"

    @gen.coroutine
    def does_not():
        yield bad

    with pytest.raises(gen.BadYieldError):
        run(runner, does_not)


def test_bad_list_leaves_nothing_running(runner):
    log = []

    async def native():
        try:
            await asyncio.sleep(30)
        finally:
            log.append("stopped")

    @gen.coroutine
    def main():
        running = gen.convert_yielded(native())
        yield
        with pytest.raises(gen.BadYieldError):
            yield [native(), running, 1, native()]  # the last would warn that it was never awaited
        yield
        assert not running.done()
        running.cancel()

    run(runner, main)
    assert len(asyncio.all_tasks(runner.get_loop())) == 0


def test_future_of_another_loop_is_refused(runner, loop_factory):
    other = loop_factory()

    @gen.coroutine
    def main():
        foreign = other.create_future()
        for yielded in (foreign, [foreign], {"a": foreign}):
            with pytest.raises(RuntimeError, match="different event loop"):
                yield yielded
        foreign.set_result("done ones are only looked at")
        return (yield foreign)

    assert run(runner, main) == "done ones are only looked at"
    other.close()


# Exceptions


def test_exception_before_and_after_a_wait(runner):
    @gen.coroutine
    def fails(waits):
        if waits:
            yield
        raise KeyError("no")

    @gen.coroutine
    def function_that_fails():
        raise KeyError("no")

    @gen.coroutine
    def main():
        for start in (functools.partial(fails, False), functools.partial(fails, True), function_that_fails):
            future = start()
            with pytest.raises(KeyError):
                yield future
            assert future.exception().args == ("no",)

    run(runner, main)


def test_wrong_arguments_go_into_the_future(runner):
    async def main():
        future = double()
        with pytest.raises(TypeError, match="argument"):
            await future

    runner.run(main())


def test_exception_is_raised_at_the_yield(runner):
    log = []

    @gen.coroutine
    def main():
        try:
            yield double("x" if False else None)
        except TypeError:
            log.append("caught")
        finally:
            log.append("finally")
        return (yield double(1))

    assert run(runner, main) == 2
    assert log == ["caught", "finally"]


def test_exception_may_be_replaced(runner):
    @gen.coroutine
    def fails():
        yield
        raise KeyError("first")

    @gen.coroutine
    def main():
        try:
            yield fails()
        except KeyError as error:
            raise ValueError("second") from error

    with pytest.raises(ValueError, match="second") as caught:
        run(runner, main)
    assert isinstance(caught.value.__cause__, KeyError)


def test_exceptions_do_not_leak_into_context(runner):
    """One coroutine in its `except` block must not become the context of another one's exception."""

    @gen.coroutine
    def fails(error):
        yield
        raise error

    @gen.coroutine
    def main():
        try:
            raise KeyError("outer")
        except KeyError:
            try:
                yield fails(ValueError("inner"))
            except ValueError as error:
                inner = error
        future = fails(TypeError("alone"))
        try:
            yield future
        except TypeError as error:
            alone = error
        return inner, alone

    inner, alone = run(runner, main)
    assert alone.__context__ is None
    assert inner.args == ("inner",)


def test_traceback_shows_the_coroutines_alone(runner):
    @gen.coroutine
    def bottom():
        yield
        return 1 / 0

    @gen.coroutine
    def top():
        yield bottom()

    async def main():
        with pytest.raises(ZeroDivisionError) as caught:
            await top()
        return [entry.name for entry in caught.traceback]

    assert runner.run(main()) == ["main", "top", "bottom"]


def test_stop_iteration_in_a_generator_is_a_runtime_error(runner):
    @gen.coroutine
    def main():
        yield
        next(iter(()))

    with pytest.raises(RuntimeError):
        run(runner, main)


def test_stop_iteration_from_an_executor(runner):
    @gen.coroutine
    def main():
        with pytest.raises(StopIteration):
            yield dummy_executor.submit(next, iter(()))
        with pytest.raises(RuntimeError):
            yield [dummy_executor.submit(next, iter(()))]
        return "goes on"

    assert run(runner, main) == "goes on"


@pytest.mark.parametrize("waits", [False, True])
@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, SystemExit])
def test_interrupts_reach_who_runs_the_loop(loop_factory, waits, interrupt):
    @gen.coroutine
    def main():
        if waits:
            yield
        raise interrupt

    async def run():
        await main()

    loop = loop_factory()
    try:
        with pytest.raises(interrupt):
            loop.run_until_complete(run())
        for task in asyncio.all_tasks(loop):
            task.cancel()
            loop.run_until_complete(asyncio.gather(task, return_exceptions=True))
    except interrupt:
        pass  # the task that waited for it gets it as well
    finally:
        loop.close()


def test_exception_that_nobody_saw_is_reported(runner):
    contexts = []

    @gen.coroutine
    def fails():
        yield
        raise KeyError("unseen")

    async def main():
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: contexts.append(context))
        fails()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        gc.collect()

    runner.run(main())
    assert [repr(context["exception"]) for context in contexts] == ["KeyError('unseen')"]


def test_exception_after_somebody_completed_the_future_is_reported(runner):
    contexts = []

    @gen.coroutine
    def fails():
        yield
        raise KeyError("late")

    async def main():
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: contexts.append(context))
        future = fails()
        future.set_result("somebody's own")
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return await future

    assert runner.run(main()) == "somebody's own"
    assert [repr(context["exception"]) for context in contexts] == ["KeyError('late')"]


# The decorator


def test_decorated_function_keeps_its_attributes():
    assert double.__name__ == "double"
    assert double.__doc__ == "Twice n, a turn later."
    assert double.__wrapped__.__name__ == "double"
    assert gen.is_coroutine_function(double)
    assert not gen.is_coroutine_function(double.__wrapped__)
    assert not gen.is_coroutine_function(None)


def test_method(runner):
    class Service:
        factor = 3

        @gen.coroutine
        def times(self, n, *, plus=0):
            yield
            return self.factor * n + plus

    assert run(runner, Service().times, 2) == 6
    assert run(runner, functools.partial(Service().times, plus=1), 2) == 7


def test_asynchronous_generator_function_is_refused():
    async def numbers():
        yield 1

    with pytest.raises(TypeError, match="async for"):
        gen.coroutine(numbers)


def test_return_is_an_exception_with_a_value():
    assert gen.Return().value is None
    assert gen.Return((1, 2)).value == (1, 2)
    assert pickle.loads(pickle.dumps(gen.Return(1))).value == 1


def test_before_the_loop_runs(loop_factory):
    asyncio.set_event_loop(None)
    at_once = gen.coroutine(lambda: "done")()
    assert at_once.result() == "done"

    @gen.coroutine
    def main(future):
        return (yield future)

    @gen.coroutine
    def waits():
        try:
            yield
        finally:
            log.append("closed")

    log = []
    with pytest.raises(RuntimeError, match="no event loop"):
        waits()
    assert log == ["closed"]

    loop = loop_factory()
    try:
        # The future that it waits for knows its loop.
        future = loop.create_future()
        result = main(future)
        loop.call_soon(future.set_result, 5)
        assert loop.run_until_complete(result) == 5
        asyncio.set_event_loop(loop)
        assert loop.run_until_complete(double(4)) == 8
    finally:
        asyncio.set_event_loop(None)
        loop.close()


def test_debug_mode_shows_where_it_was_called(runner):
    runner.get_loop().set_debug(True)

    async def main():
        for future in (double(1), gen.sleep(0), gen.multi([None]), gen.coroutine(lambda: 1)()):
            assert future._source_traceback[-1].filename == __file__
            await future

    runner.run(main())
