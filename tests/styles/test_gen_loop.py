"""`gen.coroutine` on the loop: its turns, its contexts, its threads, and what else can be made yieldable."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import logging
import threading

import pytest

from aioxide import gen
from aioxide.concurrent import Future


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


# Turns of the loop


def test_moment_gives_everything_else_that_is_ready_a_turn(runner):
    order = []

    @gen.coroutine
    def take_turns(name, count, what):
        for n in range(count):
            order.append(f"{name}{n}")
            yield what

    @gen.coroutine
    def main():
        yield [take_turns("a", 3, None), take_turns("b", 3, gen.moment)]

    run(runner, main)
    assert order == ["a0", "b0", "a1", "b1", "a2", "b2"]


def test_moment_can_be_awaited(runner):
    async def main():
        called = []
        asyncio.get_running_loop().call_soon(called.append, 1)
        await gen.moment
        return called

    assert runner.run(main()) == [1]
    assert repr(gen.moment) == "gen.moment"


def test_ten_thousand_done_futures_use_no_stack(runner):
    @gen.coroutine
    def main():
        future = gen.maybe_future(1)
        total = 0
        for _ in range(10_000):
            total += yield future
        return total

    assert run(runner, main) == 10_000


def test_deep_recursion_of_coroutines_that_wait(runner):
    @gen.coroutine
    def depth(n):
        yield
        return 1 + (yield depth(n - 1)) if n else 0

    assert run(runner, depth, 2_000) == 2_000


# Contexts

variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")


def test_each_call_runs_in_its_own_context(runner):
    seen = []

    @gen.coroutine
    def inner(name):
        seen.append(variable.get())
        variable.set(name)
        yield
        seen.append(variable.get())
        yield gen.sleep(0.001)
        return variable.get()

    @gen.coroutine
    def main():
        variable.set("main")
        assert (yield [inner("a"), inner("b")]) == ["a", "b"]
        assert variable.get() == "main"

    run(runner, main)
    assert seen == ["main", "main", "a", "b"]
    assert variable.get() == "unset"


def test_context_reaches_what_is_yielded(runner):
    async def native():
        before = variable.get()
        variable.set("native's own")
        return before

    @gen.coroutine
    def main():
        variable.set("main")
        seen = [(yield native()), (yield [native()])[0]]
        yield
        variable.set("later")
        seen.append((yield native()))
        return [*seen, variable.get()]

    assert run(runner, main) == ["main", "main", "later", "later"]


def test_token_can_be_reset_in_a_later_step(runner):
    @gen.coroutine
    def main():
        token = variable.set("while it lasts")
        yield gen.sleep(0)
        variable.reset(token)
        return variable.get()

    assert run(runner, main) == "unset"


# convert_yielded


class Price:
    def __init__(self, amount):
        self.amount = amount


def test_convert_yielded_takes_more_types(runner):
    @gen.convert_yielded.register(Price)
    def _(price):
        if price.amount < 0:
            raise OverflowError("below zero")
        return double(price.amount)

    @gen.coroutine
    def main():
        with pytest.raises(OverflowError):
            yield Price(-1)
        return (yield Price(2)), (yield [Price(3), Price(4)])

    assert run(runner, main) == (4, [6, 8])
    assert set(gen.convert_yielded.registry) >= {object, Price}


def test_converter_that_returns_nonsense(runner):
    class Nonsense:
        pass

    gen.convert_yielded.register(Nonsense, lambda nonsense: "text")

    @gen.coroutine
    def main():
        for yielded in (Nonsense(), [Nonsense()]):
            with pytest.raises(gen.BadYieldError):
                yield yielded

    run(runner, main)


def test_maybe_future(runner):
    async def main():
        future = Future()
        assert gen.maybe_future(future) is future
        assert gen.maybe_future(concurrent.futures.Future()).done() is False
        future.set_result(None)
        return await gen.maybe_future(3)

    assert runner.run(main()) == 3


def test_threads_with_loops_of_their_own(loop_factory):
    results = []

    @gen.coroutine
    def main(n):
        for _ in range(50):
            yield gen.moment
            yield [double(n), gen.sleep(0)]
        return threading.get_ident()

    async def run_in(n):
        return await main(n)

    def thread():
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            results.append((runner.run(run_in(1)), threading.get_ident()))

    threads = [threading.Thread(target=thread) for _ in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert len(results) == 4
    assert all(ran_in == own for ran_in, own in results)


def test_nothing_is_logged_in_ordinary_use(runner, caplog):
    with caplog.at_level(logging.DEBUG, "aioxide"):
        assert run(runner, double, 1) == 2
    assert not [record for record in caplog.records if record.name.startswith("aioxide")]


def test_what_a_waiting_coroutine_says_of_itself(runner):
    async def main():
        waiting = double(1)
        assert repr(waiting).startswith("<CoroutineFuture pending")
        assert f"of <gen.Runner of double() at {__file__}:" in repr(waiting)
        assert repr(waiting).endswith(" waiting for Moment>>")
        assert waiting.runner.get_coro().__name__ == "double"
        assert waiting.runner.get_name() == waiting.runner.get_name()
        await waiting
        assert repr(waiting).startswith("<CoroutineFuture finished result=2")

    runner.run(main())


def test_a_recording_shows_a_coroutine_by_its_name():
    timeline = pytest.importorskip("aioxide.timeline")
    from aioxide import run as run_on_our_loop

    @gen.coroutine
    def named():
        for _ in range(3):
            yield gen.sleep(0.001)

    async def main():
        with timeline.record() as recording:
            await asyncio.gather(named(), named())
        return recording.to_dict()

    lanes = [lane for lane in run_on_our_loop(main())["lanes"] if "named" in lane["name"]]
    assert [lane["kind"] for lane in lanes] == ["task", "task"]
    assert len({lane["name"] for lane in lanes}) == 2
