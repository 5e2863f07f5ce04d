"""Nothing that has ended waits for the garbage collector: counting references frees it."""

from __future__ import annotations

import asyncio
import gc
import sys

import pytest

from aioxide import gen
from aioxide.concurrent import Future
from aioxide.coroutines import coroutine


class Tracked:
    """Something whose life can be watched."""

    alive = 0

    def __init__(self):
        Tracked.alive += 1

    def __del__(self):
        Tracked.alive -= 1


async def native(value):
    await asyncio.sleep(0)
    return value


@gen.coroutine
def gen_result():
    local = Tracked()
    yield gen.moment
    yield [native(local), gen.sleep(0)]
    inner = Future()
    asyncio.get_running_loop().call_soon(inner.set_result, local)
    yield inner
    return local


@gen.coroutine
def gen_exception():
    local = Tracked()  # the exception's traceback holds the frame that holds this
    yield gen.moment
    raise KeyError(local)


@gen.coroutine
def gen_exception_at_once():
    local = Tracked()
    raise KeyError(local)
    yield


@gen.coroutine
def gen_exception_passed_on():
    local = Tracked()
    yield gen_exception()
    return local


@gen.coroutine
def gen_bad_yield():
    local = Tracked()
    yield 1
    return local


@gen.coroutine
def gen_bad_list():
    local = Tracked()
    yield [native(local), 1]


@gen.coroutine
def gen_failing_list():
    local = Tracked()
    yield [gen_exception(), native(local)]


@gen.coroutine
def gen_cancelled():
    local = Tracked()
    inner = gen_result()
    asyncio.get_running_loop().call_soon(inner.cancel)
    yield inner
    return local


@gen.coroutine
def gen_iterator():
    local = Tracked()
    iterator = gen.WaitIterator(native(local), gen_result())
    while not iterator.done():
        yield iterator.next()


@gen.coroutine
def gen_timeout():
    local = Tracked()
    yield gen.with_timeout(0.001, Future())
    return local


@gen.coroutine
def gen_in_time():
    local = Tracked()
    yield gen.with_timeout(30, native(local))


@coroutine
def yield_from_result():
    local = Tracked()
    yield from native(local)
    yield from asyncio.ensure_future(native(local))
    return local


@coroutine
def yield_from_exception():
    local = Tracked()
    yield
    raise KeyError(local)


@pytest.mark.skipif(
    not getattr(sys, "_is_gil_enabled", lambda: True)(), reason="free-threaded builds free some things later"
)
@pytest.mark.parametrize(
    "function",
    [
        gen_result,
        gen_exception,
        gen_exception_at_once,
        gen_exception_passed_on,
        gen_bad_yield,
        gen_bad_list,
        gen_failing_list,
        gen_cancelled,
        gen_iterator,
        gen_timeout,
        gen_in_time,
        yield_from_result,
        yield_from_exception,
    ],
    ids=lambda function: function.__name__,
)
def test_freed_at_once(runner, function):
    async def once():
        try:
            await function()
        except (KeyError, gen.BadYieldError, TimeoutError, asyncio.CancelledError):
            pass

    async def main():
        await once()  # what is made once and kept
        for _ in range(3):
            await asyncio.sleep(0)
        gc.collect()
        gc.disable()
        try:
            before = Tracked.alive
            for _ in range(10):
                await once()
            for _ in range(3):
                await asyncio.sleep(0)
            return Tracked.alive - before
        finally:
            gc.enable()
            gc.collect()

    assert runner.run(main()) == 0
