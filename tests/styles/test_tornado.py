"""The same programs on Tornado's `gen`, where it is installed, and on ours: they do the same in the same order."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import datetime as dt
import logging

import pytest

from aioxide import concurrent as our_concurrent
from aioxide import gen as our_gen

their_gen = pytest.importorskip("tornado.gen")
their_concurrent = pytest.importorskip("tornado.concurrent")

variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")


def outcome(future):
    if not future.done():
        return "pending"
    if future.cancelled():
        return "cancelled"
    return repr(future.exception() or future.result())


# Each program is a function of the module and a log; it is run as a coroutine.


def order_of_steps(gen, log):
    def child(name, turns):
        @gen.coroutine
        def steps():
            for n in range(turns):
                log.append(f"{name} {n}")
                yield gen.moment if n % 2 else None
            return name

        return steps()

    log.append("before")
    children = [child("a", 3), child("b", 1), child("c", 0)]
    log.append(list(map(outcome, children)))
    log.append((yield children))
    log.append((yield dict(enumerate(children))))


def done_futures_do_not_wait(gen, log):
    asyncio.get_running_loop().call_soon(log.append, "the loop took a turn")
    for n in range(3):
        log.append((yield gen.maybe_future(n)))
    yield []
    log.append("no turn yet")
    yield gen.moment
    log.append("after the turn")


def ways_to_return_and_raise(gen, log):
    def by_return():
        yield
        return 1

    def by_raise():
        yield
        raise gen.Return(2)

    def at_once():
        raise gen.Return(3)

    def fails():
        yield
        raise KeyError("no")

    def fails_at_once():
        raise KeyError("at once")

    def cancelled():
        yield
        raise asyncio.CancelledError

    def leaks_stop_iteration():
        yield
        raise StopIteration

    for function in (by_return, by_raise, at_once, fails, fails_at_once, cancelled, leaks_stop_iteration):
        future = gen.coroutine(function)()
        log.append((function.__name__, outcome(future)))
        while not future.done():
            yield
        log.append(outcome(future))


def what_may_be_yielded(gen, log):
    async def native():
        return "native"

    submitted = concurrent.futures.Future()
    asyncio.get_running_loop().call_soon(submitted.set_result, "concurrent")
    for yielded in (native(), [native(), None], {"a": native()}, submitted, gen.sleep(0), [], {}, [[]], gen.moment):
        log.append((yield yielded))


def what_may_not(gen, log):
    for yielded in (1, "text", (), object, [1], {"a": (2,)}):
        try:
            yield yielded
        except Exception as error:
            log.append(type(error).__name__)


def several_exceptions(gen, log):
    def fails(turns, error):
        for _ in range(turns):
            yield
        raise error

    fails = gen.coroutine(fails)
    for quiet in ((), ValueError):
        try:
            yield gen.multi([fails(5, KeyError("first")), fails(1, ValueError("other")), gen.sleep(0)], quiet)
        except Exception as error:
            log.append(repr(error))


def cancelled_children(gen, log):
    children = [asyncio.get_running_loop().create_future() for _ in range(3)]
    combined = gen.multi(children)
    children[1].cancel()
    children[0].set_result(1)
    children[2].set_result(3)
    try:
        yield combined
    except asyncio.CancelledError:
        log.append(("cancelled", combined.cancelled()))
    try:
        yield children[1]
    except asyncio.CancelledError:
        log.append("a cancelled future too")


def timeouts(gen, log):
    future = asyncio.get_running_loop().create_future()
    try:
        yield gen.with_timeout(dt.timedelta(milliseconds=1), future, message="too slow")
    except gen.TimeoutError as error:
        log.append((str(error), outcome(future)))
    future.set_exception(KeyError("late"))
    for quiet in ((), KeyError):
        late = asyncio.get_running_loop().create_future()
        try:
            yield gen.with_timeout(dt.timedelta(milliseconds=1), late, quiet_exceptions=quiet)
        except gen.TimeoutError:
            late.set_exception(KeyError("late"))
        yield
    log.append((yield gen.with_timeout(dt.timedelta(seconds=30), gen.sleep(0.001))))
    log.append(repr(future.exception()))


def iterator(gen, log):
    loop = asyncio.get_running_loop()
    futures = [loop.create_future() for _ in range(4)]
    futures[2].set_result("done before")
    for turn, n in enumerate((3, 0, 1)):
        loop.call_later(0.002 * (turn + 1), futures[n].set_result, f"result {n}")
    for waiting in (gen.WaitIterator(*futures), gen.WaitIterator(x=futures[0], y=futures[1])):
        while not waiting.done():
            result = yield waiting.next()
            log.append((waiting.current_index, result, waiting.current_future in futures))
        log.append((waiting.current_index, waiting.current_future))


def contexts(gen, log):
    def child(name):
        log.append(variable.get())
        variable.set(name)
        yield
        log.append(variable.get())

    child = gen.coroutine(child)
    variable.set("main")
    yield [child("a"), child("b")]
    log.append(variable.get())
    child("c")
    log.append(variable.get())
    yield gen.sleep(0.001)
    log.append(variable.get())


PROGRAMS = [
    order_of_steps,
    done_futures_do_not_wait,
    ways_to_return_and_raise,
    what_may_be_yielded,
    what_may_not,
    several_exceptions,
    cancelled_children,
    timeouts,
    iterator,
    contexts,
]


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.__name__)
def test_does_the_same(program, caplog):
    def run(gen):
        log = []

        async def main():
            await gen.coroutine(program)(gen, log)

        caplog.clear()
        with caplog.at_level(logging.ERROR):
            asyncio.run(main())
        logged = [record for record in caplog.records if record.name in ("tornado.application", "aioxide")]
        return log, [repr(record.exc_info[1]) for record in logged]

    ours, theirs = run(our_gen), run(their_gen)
    assert theirs[0], "the program must tell something"
    assert ours == theirs


def public_names(module):
    return {
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and getattr(value, "__module__", None) == module.__name__
    }


def test_has_every_name():
    for ours, theirs in ((our_gen, their_gen), (our_concurrent, their_concurrent)):
        missing = {name for name in public_names(theirs) if not hasattr(ours, name)}
        assert missing == set()


def test_they_work_on_each_other():
    @their_gen.coroutine
    def theirs(n):
        yield their_gen.sleep(0.001)
        if n:
            return 1 + (yield ours(n - 1))
        return 0

    @our_gen.coroutine
    def ours(n):
        yield our_gen.sleep(0.001)
        if n:
            return 1 + (yield theirs(n - 1))
        return 0

    async def main():
        return await our_gen.multi([ours(5), theirs(5)])

    assert asyncio.run(main()) == [5, 5]
    assert our_gen.is_coroutine_function(theirs)
    assert their_gen.is_coroutine_function(ours)
