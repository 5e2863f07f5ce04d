"""Futures of both kinds, and `Future` before there is a loop."""

from __future__ import annotations

import asyncio
import concurrent.futures
import gc
import logging
import sys
import threading

import pytest

from aioxide import concurrent as subject
from aioxide.concurrent import (
    DummyExecutor,
    Future,
    chain_future,
    dummy_executor,
    future_add_done_callback,
    future_set_exc_info,
    future_set_exception_unless_cancelled,
    future_set_result_unless_cancelled,
    is_future,
    run_on_executor,
)


@pytest.fixture
def no_loop_set():
    """Nothing is set for this thread, and what a test sets is taken away again."""
    asyncio.set_event_loop(None)
    yield
    asyncio.set_event_loop(None)


@pytest.fixture
def loop(loop_factory):
    loop = loop_factory()
    yield loop
    loop.close()


# Future


def test_in_a_running_loop_it_is_asyncio_s_own(runner):
    async def main():
        loop = asyncio.get_running_loop()
        future = Future()
        assert type(future) is asyncio.Future
        assert future.get_loop() is loop
        assert type(Future(loop=loop)) is asyncio.Future
        loop.call_soon(future.set_result, "done")
        return await future

    assert runner.run(main()) == "done"


def test_in_a_callback_it_is_of_the_callback_s_loop(loop):
    made = []
    loop.call_soon(lambda: made.append(Future()))
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert made[0].get_loop() is loop


def test_isinstance_and_issubclass_ask_for_asyncio_futures(loop):
    future = loop.create_future()
    assert isinstance(future, Future)
    assert isinstance(Future(), asyncio.Future)
    assert not isinstance(concurrent.futures.Future(), Future)
    assert issubclass(asyncio.Task, Future)
    assert not issubclass(concurrent.futures.Future, Future)


class Derived(Future):
    """A class of the user's."""


def test_derived_class(loop):
    assert isinstance(Derived(loop=loop), Derived)
    assert not isinstance(loop.create_future(), Derived)
    assert Derived(loop=loop).get_loop() is loop

    async def main():
        future = Derived()
        asyncio.get_running_loop().call_soon(future.set_result, 1)
        return type(future), await future

    assert loop.run_until_complete(main()) == (Derived, 1)


def test_made_before_the_loop_it_takes_the_one_that_awaits_it(no_loop_set, runner):
    future = Future()
    with pytest.raises(RuntimeError, match="has met none"):
        future.get_loop()

    async def main():
        asyncio.get_running_loop().call_soon(future.set_result, "done")
        result = await future
        assert future.get_loop() is future._loop is asyncio.get_running_loop()
        return result

    assert runner.run(main()) == "done"


def test_completed_before_the_loop(no_loop_set, runner):
    future = Future()
    future.set_result("early")

    async def main():
        return await future

    assert runner.run(main()) == "early"


def test_callbacks_wait_for_the_first_loop(no_loop_set, runner):
    future = Future()
    called = []
    future.add_done_callback(lambda f: called.append((f.result(), asyncio.get_running_loop())))
    future.set_result(1)
    assert called == []

    async def main():
        future.add_done_callback(lambda f: called.append("second"))
        assert called == []
        await asyncio.sleep(0)
        return called == [(1, asyncio.get_running_loop()), "second"]

    assert runner.run(main())


def test_callback_is_called_in_its_context(no_loop_set, runner):
    import contextvars

    variable = contextvars.ContextVar("variable", default="none")
    future = Future()
    seen = []
    context = contextvars.copy_context()
    context.run(variable.set, "given")
    future.add_done_callback(lambda f: seen.append(variable.get()), context=context)
    future.set_result(None)

    async def main():
        future.get_loop()
        await asyncio.sleep(0)

    runner.run(main())
    assert seen == ["given"]


def test_the_loop_set_for_the_thread_counts(no_loop_set, loop):
    future = Future()
    called = []
    asyncio.set_event_loop(loop)
    future.add_done_callback(lambda f: called.append(f.result()))
    future.set_result(1)
    loop.run_until_complete(future)
    assert called == [1]
    assert future.get_loop() is loop


def test_a_closed_loop_set_for_the_thread_does_not_count(no_loop_set, loop_factory, runner):
    closed = loop_factory()
    asyncio.set_event_loop(closed)
    closed.close()
    future = Future()

    async def main():
        asyncio.get_running_loop().call_soon(future.set_result, 2)
        return await future

    assert runner.run(main()) == 2


def test_asking_makes_no_loop(no_loop_set):
    assert subject.find_loop() is None
    with pytest.raises(RuntimeError, match="no event loop"):
        subject.current_loop()


def test_it_belongs_to_one_loop_only(no_loop_set, loop_factory):
    future = Future()

    async def wait():
        await asyncio.wait_for(asyncio.shield(future), 0.001)

    with asyncio.Runner(loop_factory=loop_factory) as first, pytest.raises(TimeoutError):
        first.run(wait())

    async def wait_again():
        await future

    with (
        asyncio.Runner(loop_factory=loop_factory) as second,
        pytest.raises(RuntimeError, match="attached to a different loop"),
    ):
        second.run(wait_again())


def test_cancel_before_the_loop(no_loop_set, runner):
    future = Future()
    called = []
    future.add_done_callback(called.append)
    assert future.cancel()
    assert future.cancelled()

    async def main():
        with pytest.raises(asyncio.CancelledError):
            await future
        future.get_loop()
        await asyncio.sleep(0)

    runner.run(main())
    assert called == [future]


def test_exception_that_nobody_saw_is_logged(no_loop_set, caplog):
    future = Future()
    future.set_exception(ValueError("unseen"))
    with caplog.at_level(logging.ERROR, "aioxide"):
        del future
        gc.collect()
    assert "never retrieved" in caplog.text
    assert "unseen" in caplog.text


def test_exception_that_nobody_saw_goes_to_the_loop_s_handler(no_loop_set, loop):
    contexts = []
    loop.set_exception_handler(lambda loop, context: contexts.append(context))
    future = Future()
    asyncio.set_event_loop(loop)
    future.get_loop()
    error = ValueError("unseen")
    future.set_exception(error)
    del future
    gc.collect()
    assert [context["exception"] for context in contexts] == [error]


def test_asyncio_takes_it_as_its_own(no_loop_set, runner):
    first, second, third = Future(), Future(), Future()

    async def main():
        loop = asyncio.get_running_loop()
        for future in (first, second, third):
            loop.call_soon(future.set_result, future)
        gathered = await asyncio.gather(first, asyncio.shield(second), asyncio.wait_for(third, 10))
        assert gathered == [first, second, third]
        assert asyncio.ensure_future(first) is first
        done, pending = await asyncio.wait([first])
        assert (done, pending) == ({first}, set())

    runner.run(main())


def test_debug_mode_shows_where_it_was_made(loop):
    loop.set_debug(True)

    async def main():
        return Future()._source_traceback[-1]

    entry = loop.run_until_complete(main())
    assert entry.filename == __file__
    assert entry.line == "return Future()._source_traceback[-1]"


@pytest.mark.skipif(not sys.flags.dev_mode, reason="tells about python -X dev")
def test_debug_mode_shows_where_it_was_made_without_a_loop(no_loop_set):
    assert Future()._source_traceback[-1].filename == __file__


# The functions


def both_kinds():
    yield concurrent.futures.Future()
    yield Future()


def test_is_future(no_loop_set):
    assert all(map(is_future, both_kinds()))
    assert not is_future(None)
    assert not is_future(object)


def test_set_unless_cancelled(no_loop_set, caplog):
    for future in both_kinds():
        future_set_result_unless_cancelled(future, 1)
        assert future.result() == 1
        with pytest.raises((asyncio.InvalidStateError, concurrent.futures.InvalidStateError)):
            future_set_result_unless_cancelled(future, 2)
    for future in both_kinds():
        future.cancel()
        future_set_result_unless_cancelled(future, 1)
        assert future.cancelled()
    assert not caplog.records
    for future in both_kinds():
        future_set_exception_unless_cancelled(future, ValueError("no"))
        assert str(future.exception()) == "no"
    for future in both_kinds():
        future.cancel()
        future_set_exception_unless_cancelled(future, ValueError("to the log"))
        assert "to the log" in caplog.text
        caplog.clear()


def test_set_unless_cancelled_at_that_moment_by_another_thread():
    class Racing(concurrent.futures.Future):
        def set_result(self, result):
            self.cancel()
            super().set_result(result)

    future = Racing()
    future_set_result_unless_cancelled(future, 1)
    assert future.cancelled()


def test_set_exc_info(no_loop_set):
    for future in both_kinds():
        try:
            raise KeyError("key")
        except KeyError:
            future_set_exc_info(future, sys.exc_info())
        assert isinstance(future.exception(), KeyError)
    with pytest.raises(ValueError, match="no exception"):
        future_set_exc_info(Future(), (None, None, None))


def test_add_done_callback_calls_at_once_when_done(no_loop_set):
    for future in both_kinds():
        called = []
        future.set_result(1)
        future_add_done_callback(future, called.append)
        assert called == [future]


def test_add_done_callback_to_a_pending_one(runner):
    async def main():
        for future in both_kinds():
            called = []
            future_add_done_callback(future, called.append)
            assert called == []
            future.set_result(1)
            await asyncio.sleep(0)
            assert called == [future]

    runner.run(main())


@pytest.mark.parametrize("source_kind", [0, 1])
@pytest.mark.parametrize("target_kind", [0, 1])
@pytest.mark.parametrize("early", [False, True])
@pytest.mark.parametrize("outcome", ["result", ValueError("no"), "cancelled"], ids=str)
def test_chain(runner, source_kind, target_kind, early, outcome):
    async def main():
        source, target = list(both_kinds())[source_kind], list(both_kinds())[target_kind]
        if not early:
            chain_future(source, target)
        if outcome == "cancelled":
            source.cancel()
        elif isinstance(outcome, Exception):
            source.set_exception(outcome)
        else:
            source.set_result(outcome)
        if early:
            chain_future(source, target)
        while not target.done():
            await asyncio.sleep(0)
        if outcome == "cancelled":
            assert target.cancelled()
        elif isinstance(outcome, Exception):
            assert target.exception() is outcome
        else:
            assert target.result() == outcome
        if isinstance(outcome, Exception):
            source.exception()

    runner.run(main())


def test_chain_leaves_a_done_target_alone(runner):
    async def main():
        source, target = Future(), Future()
        chain_future(source, target)
        target.set_result("mine")
        source.set_result("theirs")
        await asyncio.sleep(0)
        return target.result()

    assert runner.run(main()) == "mine"


def test_chain_from_a_thread_calls_back_in_the_loop_s_thread(runner):
    async def main():
        source, target = concurrent.futures.Future(), Future()
        chain_future(source, target)
        threads = []
        target.add_done_callback(lambda f: threads.append(threading.current_thread()))
        thread = threading.Thread(target=source.set_result, args=(1,))
        thread.start()
        assert await target == 1
        await asyncio.sleep(0)
        thread.join()
        return threads

    assert runner.run(main()) == [threading.current_thread()]


def test_chain_of_a_stop_iteration(runner):
    """asyncio refuses StopIteration as an exception; whoever waits must not wait for ever."""

    async def main():
        source, target = concurrent.futures.Future(), Future()
        chain_future(source, target)
        source.set_exception(StopIteration(3))
        with pytest.raises(RuntimeError) as caught:
            await target
        return caught.value.__cause__

    assert isinstance(runner.run(main()), StopIteration)


def test_source_that_ends_after_its_target_s_loop(loop_factory, caplog):
    source = concurrent.futures.Future()

    async def main():
        chain_future(source, Future())

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(main())
    source.set_result("too late")
    assert not caplog.records  # concurrent.futures would log an exception of a callback


# Executors


def test_dummy_executor():
    assert isinstance(dummy_executor, DummyExecutor)
    assert dummy_executor.submit(int, "7").result() == 7
    assert isinstance(dummy_executor.submit(int, "x").exception(), ValueError)
    with dummy_executor as executor:
        assert executor.submit(threading.current_thread).result() is threading.current_thread()
    assert dummy_executor.submit(int).done()


def test_dummy_executor_lets_a_keyboard_interrupt_through():
    def interrupt():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        dummy_executor.submit(interrupt)


class Worker:
    def __init__(self, executor):
        self.executor = executor
        self.other = dummy_executor

    @run_on_executor
    def double(self, n):
        """Twice n."""
        return 2 * n, threading.current_thread()

    @run_on_executor()
    def fail(self):
        raise ValueError("in the executor")

    @run_on_executor(executor="other")
    def here(self):
        return threading.current_thread()


def test_run_on_executor(runner):
    async def main():
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            worker = Worker(pool)
            future = worker.double(21)
            assert isinstance(future, asyncio.Future)
            result, thread = await future
            assert result == 42
            assert thread is not threading.current_thread()
            with pytest.raises(ValueError, match="in the executor"):
                await worker.fail()
            assert await worker.here() is threading.current_thread()

    runner.run(main())
    assert Worker.double.__doc__ == "Twice n."


def test_run_on_executor_takes_back_what_was_not_begun(runner):
    async def main():
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            worker = Worker(pool)
            begin = threading.Event()
            pool.submit(begin.wait)
            future = worker.double(1)
            future.cancel()
            begin.set()
            with pytest.raises(asyncio.CancelledError):
                await future

    runner.run(main())


def test_run_on_executor_without_a_loop(no_loop_set):
    with pytest.raises(RuntimeError, match="no event loop"):
        Worker(dummy_executor).double(1)


@pytest.mark.parametrize("args, kwargs", [((len, len), {}), (("executor",), {}), ((), {"pool": "executor"})])
def test_run_on_executor_misused(args, kwargs):
    with pytest.raises(TypeError):
        run_on_executor(*args, **kwargs)
