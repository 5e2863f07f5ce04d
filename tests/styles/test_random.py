"""Random trees of all styles, with failures and a cancellation at a random moment: everything begun ends, in order.

A failing run tells its seed; `AIOXIDE_SEED=<seed>` repeats it.
"""

from __future__ import annotations

import asyncio
import gc
import os
import random

import pytest

from aioxide import gen
from aioxide.concurrent import Future, dummy_executor
from aioxide.coroutines import coroutine

RUNS = 150


class Refused(Exception):
    """What leaves fail with."""


class Tree:
    """Makes operations of random styles, and counts those that have begun and not ended."""

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.open = 0
        self.begun = 0

    def __enter__(self):
        self.open += 1
        self.begun += 1

    def __exit__(self, *exc_info):
        self.open -= 1

    def grow(self, depth):
        """An operation of a random style, not begun unless its style begins at the call."""
        if depth == 0 or self.random.random() < 0.15:
            return self.random.choice([self.gen_leaf, self.native_leaf, self.yield_from_leaf, self.callback_leaf])()
        return self.random.choice(
            [self.gen_list, self.gen_sequence, self.native_group, self.native_timeout, self.yield_from_sequence]
        )(depth - 1)

    def turns(self):
        return self.random.randrange(6)

    def maybe_fail(self):
        if self.random.random() < 0.05:
            raise Refused

    @gen.coroutine
    def gen_leaf(self):
        with self:
            try:
                for _ in range(self.turns()):
                    yield self.random.choice([None, gen.moment, [], dummy_executor.submit(int), gen.sleep(0)])
                self.maybe_fail()
            finally:
                for _ in range(self.turns()):
                    yield

    async def native_leaf(self):
        with self:
            try:
                for _ in range(self.turns()):
                    await asyncio.sleep(0)
                self.maybe_fail()
            finally:
                for _ in range(self.turns()):
                    await asyncio.sleep(0)

    @coroutine
    def yield_from_leaf(self):
        with self:
            for _ in range(self.turns()):
                yield
            self.maybe_fail()
            yield from asyncio.sleep(0)

    def callback_leaf(self):
        my_future = Future()
        left = self.turns()

        def on_turn():
            nonlocal left
            left -= 1
            if my_future.done():
                return
            if left > 0:
                asyncio.get_running_loop().call_soon(on_turn)
            else:
                my_future.set_result(None)

        asyncio.get_running_loop().call_soon(on_turn)
        return my_future

    @gen.coroutine
    def gen_list(self, depth):
        with self:
            count = self.random.randrange(4)
            if self.random.random() < 0.5:
                yield gen.multi(
                    [self.grow(depth) for _ in range(count)], quiet_exceptions=(Refused, BaseExceptionGroup)
                )
            else:
                yield gen.multi(
                    {n: self.grow(depth) for n in range(count)}, quiet_exceptions=(Refused, BaseExceptionGroup)
                )

    @gen.coroutine
    def gen_sequence(self, depth):
        with self:
            for _ in range(self.random.randrange(3)):
                try:
                    yield self.grow(depth)
                except Refused:
                    yield self.gen_leaf()

    async def native_group(self, depth):
        with self:
            async with asyncio.TaskGroup() as group:
                for _ in range(self.random.randrange(4)):
                    group.create_task(self.await_one(depth))

    async def await_one(self, depth):
        await self.grow(depth)

    async def native_timeout(self, depth):
        with self:
            try:
                async with asyncio.timeout(self.random.choice([0, 0.0001, 30])):
                    await self.grow(depth)
            except TimeoutError:
                await self.gen_leaf()

    @coroutine
    def yield_from_sequence(self, depth):
        with self:
            for _ in range(self.random.randrange(3)):
                operation = self.grow(depth)
                yield from operation if asyncio.isfuture(operation) else asyncio.ensure_future(operation)


async def run_one(seed):
    tree = Tree(seed)
    root = asyncio.ensure_future(tree.grow(4))
    for _ in range(tree.random.randrange(60)):
        await asyncio.sleep(0)
    root.cancel()
    await asyncio.wait([root], timeout=20)
    assert root.done(), f"seed {seed}: never ended"
    if not root.cancelled():
        error = root.exception()
        assert error is None or isinstance(error, Refused | BaseExceptionGroup), f"seed {seed}: {error!r}"
    assert tree.open == 0, f"seed {seed}: {tree.open} of {tree.begun} operations have not ended"
    others = asyncio.all_tasks() - {asyncio.current_task()}
    assert not others, f"seed {seed}: {others} still run"
    return tree.begun


def test_everything_begun_ends(runner, caplog):
    contexts = []

    async def main():
        loop = asyncio.get_running_loop()
        loop.set_debug(False)  # a hundred times the work, and not what is tested here
        loop.set_exception_handler(lambda loop, context: contexts.append(context))
        fixed = os.environ.get("AIOXIDE_SEED")
        seeds = [int(fixed)] if fixed else [random.randrange(2**32) for _ in range(RUNS)]
        begun = 0
        for seed in seeds:
            begun += await run_one(seed)
            gc.collect(0)
            assert not contexts, f"seed {seed}: {contexts}"
        return begun

    if os.environ.get("AIOXIDE_SEED") is None:
        assert runner.run(main()) > RUNS
    else:
        runner.run(main())
    assert not caplog.records


@pytest.mark.parametrize("seed", range(20))
def test_the_same_seeds_every_time(runner, seed):
    runner.run(run_one(seed))
