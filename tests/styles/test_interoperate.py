"""Every style waits for every other, on one loop: for results, exceptions, cancellation and timeouts."""

from __future__ import annotations

import asyncio
import concurrent.futures
import datetime as dt
import threading
from collections.abc import Callable, Iterator

import pytest

from aioxide import gen
from aioxide.concurrent import Future, chain_future
from aioxide.coroutines import coroutine

DELAY = 0.002  # seconds: everything below has to wait, if only a little


class Refused(Exception):
    """What an operation fails with."""


def finish(outcome):
    if isinstance(outcome, BaseException):
        raise outcome
    return outcome


# How an operation is written: each returns something to wait for, that ends with `outcome` after `delay` seconds.


def by_callback(outcome, delay):
    """The document's own: a callback completes `my_future`."""
    my_future = Future()

    def on_timer():
        if my_future.cancelled():
            return
        if isinstance(outcome, BaseException):
            my_future.set_exception(outcome)
        else:
            my_future.set_result(outcome)

    asyncio.get_running_loop().call_later(delay, on_timer)
    return my_future


def by_task(outcome, delay):
    return asyncio.get_running_loop().create_task(by_native(outcome, delay))


async def by_native(outcome, delay):
    await asyncio.sleep(delay)
    return finish(outcome)


@gen.coroutine
def by_gen(outcome, delay):
    yield gen.sleep(delay)
    raise gen.Return(finish(outcome))


@coroutine
def by_yield_from(outcome, delay):
    yield from asyncio.sleep(delay)
    return finish(outcome)


def by_thread(outcome, delay):
    """A `concurrent.futures.Future`, which a thread completes."""
    future = concurrent.futures.Future()

    def run():
        if not future.set_running_or_notify_cancel():
            return
        if isinstance(outcome, BaseException):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)

    timer = threading.Timer(delay, run)
    timer.start()
    future.timer = timer
    return future


# How the waiting is written: each returns something that the test can await.


def wait_by_callback(operation):
    my_future = Future()
    if isinstance(operation, concurrent.futures.Future):
        chain_future(operation, my_future)
        return my_future

    def on_done(done):
        if done.cancelled():
            my_future.cancel()
        elif done.exception() is not None:
            my_future.set_exception(done.exception())
        else:
            my_future.set_result(done.result())

    asyncio.ensure_future(operation).add_done_callback(on_done)
    return my_future


def on_the_loop(operation):
    return asyncio.wrap_future(operation) if isinstance(operation, concurrent.futures.Future) else operation


async def wait_by_native(operation):
    return await on_the_loop(operation)


@gen.coroutine
def wait_by_gen(operation):
    result = yield operation
    raise gen.Return(result)


@coroutine
def wait_by_yield_from(operation):
    operation = on_the_loop(operation)
    return (yield from operation)


def wait_in_task(operation):
    return asyncio.ensure_future(wait_by_native(operation))


async def wait_in_gather(operation):
    [result] = await asyncio.gather(on_the_loop(operation))
    return result


@gen.coroutine
def wait_in_multi(operation):
    [result] = yield [operation]
    return result


@gen.coroutine
def wait_in_multi_dict(operation):
    return (yield {"only": operation})["only"]


@gen.coroutine
def wait_in_iterator(operation):
    return (yield gen.WaitIterator(operation).next())


def wait_with_timeout(operation):
    return gen.with_timeout(dt.timedelta(seconds=30), operation)


OPERATIONS = [by_callback, by_task, by_native, by_gen, by_yield_from, by_thread]
WAITS = [
    wait_by_callback,
    wait_by_native,
    wait_by_gen,
    wait_by_yield_from,
    wait_in_task,
    wait_in_gather,
    wait_in_multi,
    wait_in_multi_dict,
    wait_in_iterator,
    wait_with_timeout,
]


@pytest.fixture(params=OPERATIONS, ids=lambda function: function.__name__)
def operation(request: pytest.FixtureRequest) -> Iterator[Callable]:
    made = []

    def start(outcome, delay=DELAY):
        made.append(request.param(outcome, delay))
        return made[-1]

    yield start
    for each in made:
        if isinstance(each, concurrent.futures.Future):
            each.timer.cancel()
            each.timer.join()


@pytest.fixture(params=WAITS, ids=lambda function: function.__name__)
def wait(request: pytest.FixtureRequest) -> Callable:
    return request.param


async def settle():
    """Let everything begin that needs no more than turns of the loop, however slow the machine."""
    for _ in range(20):
        await asyncio.sleep(0)


def test_result(runner, operation, wait):
    async def main():
        return await wait(operation("result"))

    assert runner.run(main()) == "result"


def test_exception(runner, operation, wait):
    refused = Refused("no")

    async def main():
        with pytest.raises(Refused) as caught:
            await wait(operation(refused))
        return caught.value

    assert runner.run(main()) is refused


def test_operation_that_is_cancelled(runner, operation, wait):
    """Whoever waits for what somebody else cancels is told by CancelledError, which is not its own cancellation."""

    async def main():
        started = operation("never", 30)
        if not isinstance(started, concurrent.futures.Future):
            started = asyncio.ensure_future(started)
        waiting = asyncio.ensure_future(wait(started))
        await settle()
        assert started.cancel()
        with pytest.raises((asyncio.CancelledError, concurrent.futures.CancelledError)):
            await waiting
        assert not asyncio.current_task().cancelling()

    runner.run(main())


def test_cancelling_who_waits(runner, operation, wait):
    """The operation is cancelled with who waits for it, except where a future in between keeps them apart."""

    async def main():
        started = operation("never", 30)
        waiting = asyncio.ensure_future(wait(started))
        await settle()
        assert waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert waiting.cancelled()
        if isinstance(started, asyncio.Future | concurrent.futures.Future) and wait not in (
            wait_by_callback,
            wait_in_iterator,
        ):
            assert started.cancelled()
        await cancel_all_others()

    runner.run(main())


async def cancel_all_others():
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


@pytest.mark.parametrize("limit", ["asyncio.timeout", "asyncio.wait_for", "gen.with_timeout"])
def test_timeout(runner, operation, wait, limit):
    async def main():
        waiting = asyncio.ensure_future(wait(operation("never", 30)))
        await settle()
        with pytest.raises(TimeoutError):
            if limit == "asyncio.timeout":
                async with asyncio.timeout(DELAY):
                    await waiting
            elif limit == "asyncio.wait_for":
                await asyncio.wait_for(waiting, DELAY)
            else:
                await gen.with_timeout(dt.timedelta(seconds=DELAY), waiting)
        assert waiting.cancelled() is (limit != "gen.with_timeout")
        waiting.cancel()
        await cancel_all_others()

    runner.run(main())


def test_gather_of_all_styles(runner):
    async def main():
        return await asyncio.gather(
            by_callback(1, DELAY), by_task(2, DELAY), by_native(3, DELAY), by_gen(4, DELAY), by_yield_from(5, DELAY)
        )

    assert runner.run(main()) == [1, 2, 3, 4, 5]


def test_multi_of_all_styles(runner):
    @gen.coroutine
    def main():
        started = [operation(n, DELAY) for n, operation in enumerate(OPERATIONS)]
        return (yield {"all": started, "done": gen.maybe_future("value"), "moment": None})

    async def run():
        return await main()

    assert runner.run(run()) == {"all": [0, 1, 2, 3, 4, 5], "done": "value", "moment": None}


def test_task_group_of_all_styles(runner):
    async def main():
        results = []
        async with asyncio.TaskGroup() as group:
            for operation in (by_native, by_yield_from):
                group.create_task(operation(1, DELAY)).add_done_callback(lambda t: results.append(t.result()))
            group.create_task(wait_by_native(by_gen(1, DELAY))).add_done_callback(lambda t: results.append(t.result()))
        return results

    assert runner.run(main()) == [1, 1, 1]


def test_task_group_that_fails_stops_a_gen_coroutine(runner):
    log = []

    @gen.coroutine
    def patient():
        try:
            yield gen.sleep(30)
        finally:
            yield gen.moment
            log.append("cleaned up")

    async def main():
        with pytest.raises(ExceptionGroup) as caught:
            async with asyncio.TaskGroup() as group:
                group.create_task(wait_by_native(patient()))
                group.create_task(by_native(Refused(), DELAY))
        assert [type(exc) for exc in caught.value.exceptions] == [Refused]
        assert log == ["cleaned up"]

    runner.run(main())


def test_cancellation_through_a_tower_of_styles(runner):
    """native awaits gen yields `yield from` awaits gen yields native: cancelled from the top, cleaned up from below."""
    log = []

    async def bottom():
        try:
            await asyncio.sleep(30)
        finally:
            log.append("native")

    @gen.coroutine
    def fourth():
        try:
            yield bottom()
        finally:
            log.append("gen")

    @coroutine
    def third():
        try:
            yield from fourth()
        finally:
            log.append("yield from")

    @gen.coroutine
    def second():
        try:
            yield [third(), None]
        finally:
            log.append("gen with list")

    async def first():
        try:
            await second()
        finally:
            log.append("native on top")

    async def main():
        task = asyncio.ensure_future(first())
        await settle()
        task.cancel("enough")
        with pytest.raises(asyncio.CancelledError):
            await task
        return list(log)

    assert runner.run(main()) == ["native", "gen", "yield from", "gen with list", "native on top"]


def test_exception_through_a_tower_of_styles(runner):
    async def bottom():
        await asyncio.sleep(0)
        raise Refused("at the bottom")

    @gen.coroutine
    def third():
        yield bottom()

    @coroutine
    def second():
        yield from third()

    async def main():
        with pytest.raises(Refused, match="at the bottom") as caught:
            await second()
        return [entry.name for entry in caught.traceback]

    names = runner.run(main())
    assert [name for name in names if name in ("main", "second", "third", "bottom")] == [
        "main",
        "second",
        "third",
        "bottom",
    ]
    assert "_step" not in names and "run" not in names  # the machine's own frames are of no use to the reader


@pytest.mark.skipif(not hasattr(asyncio, "eager_task_factory"), reason="eager tasks came with Python 3.12")
@pytest.mark.parametrize("waits", [False, True])
def test_eager_tasks(runner, waits):
    """Tasks that run at once, and may be done before anybody waits."""

    async def native(n):
        if waits:
            await asyncio.sleep(DELAY)
        return n

    @coroutine
    def by_generator(n):
        return (yield from native(n))

    @gen.coroutine
    def main():
        assert (yield native(1)) == 1
        assert (yield by_generator(2)) == 2
        assert (yield [native(3), by_generator(4)]) == [3, 4]
        assert (yield gen.with_timeout(30, native(5))) == 5
        return (yield gen.WaitIterator(by_generator(6)).next())

    async def run():
        asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
        task = asyncio.create_task(by_generator(7))
        assert task.done() is not waits
        return await task, await main()

    assert runner.run(run()) == (7, 6)
