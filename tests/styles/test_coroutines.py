"""`aioxide.coroutine`: generators with `yield from`, as asyncio had them until Python 3.10."""

from __future__ import annotations

import asyncio
import gc
import inspect
import warnings
from collections.abc import Coroutine

import pytest

from aioxide.concurrent import Future
from aioxide.coroutines import GeneratorCoroutine, coroutine


@coroutine
def double(n):
    """Twice n, a little later."""
    yield from asyncio.sleep(0.001)
    return 2 * n


async def native(n):
    await asyncio.sleep(0)
    return n


def test_yield_from_everything(runner):
    @coroutine
    def main():
        loop = asyncio.get_running_loop()
        results = []
        future = loop.create_future()
        loop.call_soon(future.set_result, "future")
        results.append((yield from future))
        results.append((yield from asyncio.create_task(native("task"))))
        results.append((yield from native("native")))
        results.append((yield from double("coroutine ")))
        results.append((yield from asyncio.gather(double(1), double(2))))
        results.append((yield from asyncio.wait_for(double(3), 10)))
        results.append((yield from plain_generator()))
        yield
        return results

    def plain_generator():
        # With no decorator, as old code often was.
        return (yield from double(4))

    assert runner.run(main()) == ["future", "task", "native", "coroutine coroutine ", [2, 4], 6, 8]


def test_asyncio_takes_it_for_a_coroutine(runner):
    async def main():
        assert await double(1) == 2
        assert await asyncio.create_task(double(2)) == 4
        assert await asyncio.gather(double(3), double(4)) == [6, 8]
        assert await asyncio.ensure_future(double(5)) == 10
        assert await asyncio.wait_for(double(6), 10) == 12
        assert await asyncio.shield(double(7)) == 14
        async with asyncio.TaskGroup() as group:
            task = group.create_task(double(8))
        return task.result()

    assert runner.run(main()) == 16
    assert runner.run(double(9)) == 18
    assert runner.get_loop().run_until_complete(double(10)) == 20


def test_from_another_thread(runner):
    async def main():
        loop = asyncio.get_running_loop()

        def in_thread():
            return asyncio.run_coroutine_threadsafe(double(4), loop).result(10)

        return await asyncio.to_thread(in_thread)

    assert runner.run(main()) == 8


def test_what_it_says_of_itself():
    one = double(1)
    try:
        assert isinstance(one, GeneratorCoroutine)
        assert isinstance(one, Coroutine)
        assert asyncio.iscoroutine(one)
        assert inspect.isawaitable(one)
        assert one.__name__ == one.__qualname__ == "double"
        assert repr(one).startswith("<coroutine object double at 0x")
        assert one.cr_code.co_name == "double"
        assert one.cr_frame is not None
        assert one.cr_await is None
        assert not one.cr_running
    finally:
        one.close()
    assert one.cr_frame is None


def test_function_says_that_it_is_a_coroutine_function():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # it goes in Python 3.16
        assert asyncio.iscoroutinefunction(double)
    assert double.__name__ == "double"
    assert double.__doc__ == "Twice n, a little later."


def test_task_shows_its_name_and_stack(runner):
    async def main():
        task = asyncio.create_task(double(1), name="the task")
        await asyncio.sleep(0)
        assert "coro=<double() running at " in repr(task)
        assert [frame.f_code.co_name for frame in task.get_stack()] == ["double"]
        return await task

    runner.run(main())


def test_plain_yield_of_a_future_is_asyncio_s_own_error(runner):
    """The mistake in the history: `yield` where `yield from` is meant."""
    log = []

    @coroutine
    def fetch():
        future = asyncio.get_running_loop().create_future()
        try:
            yield future
        except RuntimeError as error:
            log.append(str(error))
            raise

    async def through_await():
        await fetch()

    for start in (fetch, through_await):
        with pytest.raises(RuntimeError, match="yield was used instead of yield from"):
            runner.run(start())
    assert len(log) == 2


def test_nothing_runs_before_it_is_awaited(runner):
    log = []

    @coroutine
    def eager():
        log.append("runs")
        yield

    waiting = eager()
    assert log == []
    runner.run(waiting)
    assert log == ["runs"]


def test_exception(runner):
    @coroutine
    def fail():
        yield
        raise KeyError("no")

    @coroutine
    def catch():
        try:
            yield from fail()
        except KeyError as error:
            return error.args

    assert runner.run(catch()) == ("no",)
    with pytest.raises(KeyError):
        runner.run(fail())


def test_cancellation(runner):
    log = []

    @coroutine
    def inner():
        try:
            yield from asyncio.sleep(30)
        except asyncio.CancelledError:
            log.append("inner")
            yield from asyncio.sleep(0)
            log.append("inner, a turn later")
            raise

    @coroutine
    def outer():
        try:
            yield from inner()
        finally:
            log.append("outer")

    async def main():
        task = asyncio.create_task(outer())
        await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    runner.run(main())
    assert log == ["inner", "inner, a turn later", "outer"]


def test_function_that_is_no_generator(runner):
    @coroutine
    def value():
        return 1

    @coroutine
    def returns_native():
        return native(2)

    @coroutine
    def returns_future():
        future = Future()
        asyncio.get_running_loop().call_soon(future.set_result, 3)
        return future

    @coroutine
    def returns_coroutine():
        return double(2)

    @coroutine
    def returns_generator():
        return (n for n in [None, None])

    @coroutine
    def fails():
        raise KeyError("no")

    async def main():
        results = [await f() for f in (value, returns_native, returns_future, returns_coroutine, returns_generator)]
        with pytest.raises(KeyError):
            await fails()
        return results

    assert runner.run(main()) == [1, 2, 3, 4, None]


def test_native_coroutine_function_comes_back_as_it_is():
    assert coroutine(native) is native


def test_asynchronous_generator_function_is_refused():
    async def numbers():
        yield 1

    with pytest.raises(TypeError, match="async for"):
        coroutine(numbers)


def test_method_and_partial(runner):
    import functools

    class Service:
        factor = 3

        @coroutine
        def times(self, n):
            yield
            return self.factor * n

    assert runner.run(Service().times(2)) == 6
    assert runner.run(coroutine(functools.partial(native, 5))()) == 5


def test_wrong_arguments_are_told_at_the_call():
    with pytest.raises(TypeError):
        double()


def test_it_runs_once(runner):
    async def main():
        once = double(1)
        assert await once == 2
        with pytest.raises(RuntimeError, match="cannot reuse"):
            await once
        with pytest.raises(RuntimeError, match="cannot reuse"):
            await asyncio.create_task(once)

    runner.run(main())


def test_warns_if_it_never_ran():
    with pytest.warns(RuntimeWarning, match="coroutine 'double' was never awaited"):
        double(1)
        gc.collect()
    double(1).close()  # what was closed was meant not to run


def test_send_throw_and_close_by_hand():
    @coroutine
    def steps():
        try:
            got = yield "first"
        except KeyError as error:
            got = error
        yield got

    one = steps()
    assert one.send(None) == "first"
    assert one.send("sent") == "sent"
    with pytest.raises(StopIteration):
        one.send(None)

    for thrown in [(KeyError("k"),), (KeyError, "k"), (KeyError, KeyError("k")), (KeyError, None, None), (KeyError,)]:
        one = steps()
        one.send(None)
        assert isinstance(one.throw(*thrown), KeyError)
        one.close()
        one.close()
        with pytest.raises(RuntimeError, match="cannot reuse"):
            one.send(None)
