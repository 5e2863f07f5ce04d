"""Calls on executors: results, errors, cancelling, shutting down, on pools of threads and on what else has `submit`."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import gc
import random
import sys
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Self

import pytest

from aioxide import EventLoop

from .support import LoopFactory, failures


def test_executors(runner: asyncio.Runner) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        assert await loop.run_in_executor(None, threading.get_ident) != threading.get_ident()
        with pytest.raises(ZeroDivisionError):
            await loop.run_in_executor(None, divmod, 1, 0)
        with concurrent.futures.ThreadPoolExecutor(1, "mine") as executor:
            name = await loop.run_in_executor(executor, lambda: threading.current_thread().name)
            assert name.startswith("mine")
            loop.set_default_executor(executor)
            assert await asyncio.to_thread(lambda: threading.current_thread().name) == name
        numbers = await asyncio.gather(*(loop.run_in_executor(concurrent_pool, pow, n, 2) for n in range(100)))
        assert numbers == [n * n for n in range(100)]
        with pytest.raises(TypeError):
            loop.set_default_executor(object())  # type: ignore[arg-type]

    with concurrent.futures.ThreadPoolExecutor(4) as concurrent_pool:
        runner.run(main())


def test_the_default_executor_is_shut_down(loop_factory: LoopFactory) -> None:
    loop = loop_factory()
    before = threading.active_count()
    loop.run_until_complete(loop.run_in_executor(None, int))
    loop.run_until_complete(loop.shutdown_default_executor())
    assert threading.active_count() == before
    with pytest.raises(RuntimeError, match="shutdown"):
        loop.run_in_executor(None, int)
    loop.close()


class Held:
    """A pool of one thread, which is busy until the block ends."""

    def __init__(self) -> None:
        self.pool = ThreadPoolExecutor(1, "held")
        self.go, self.began = threading.Event(), threading.Event()

    def wait(self) -> str:
        self.began.set()
        assert self.go.wait(30)
        return "went"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.go.set()
        self.pool.shutdown()


def test_what_is_cancelled_in_the_queue_never_runs(runner: asyncio.Runner) -> None:
    ran: list[int] = []

    async def main(held: Held) -> None:
        loop = asyncio.get_running_loop()
        first = loop.run_in_executor(held.pool, held.wait)
        queued = [loop.run_in_executor(held.pool, ran.append, n) for n in range(6)]
        for future in queued[::2]:
            future.cancel()
        await asyncio.sleep(0.01)
        held.go.set()
        results = await asyncio.gather(first, *queued, return_exceptions=True)
        assert results[0] == "went"
        assert [isinstance(each, asyncio.CancelledError) for each in results[1:]] == [True, False] * 3
        assert ran == [1, 3, 5]

    with Held() as held:
        runner.run(main(held))


def test_what_is_cancelled_while_it_runs_ends_in_silence(runner: asyncio.Runner) -> None:
    async def main(held: Held) -> None:
        loop = asyncio.get_running_loop()
        running = loop.run_in_executor(held.pool, held.wait)
        await asyncio.to_thread(held.began.wait)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        held.go.set()
        assert await loop.run_in_executor(held.pool, abs, -1) == 1

    with Held() as held, failures(runner.get_loop()) as seen:
        runner.run(main(held))
    assert seen == []


def test_a_pool_that_is_shut_down_cancels_its_queue(runner: asyncio.Runner) -> None:
    async def main(held: Held) -> None:
        loop = asyncio.get_running_loop()
        running = loop.run_in_executor(held.pool, held.wait)
        queued = [loop.run_in_executor(held.pool, abs, n) for n in range(3)]
        held.pool.shutdown(wait=False, cancel_futures=True)
        for future in queued:
            with pytest.raises(asyncio.CancelledError):
                await asyncio.wait_for(future, 10)
        held.go.set()
        assert await running == "went"
        with pytest.raises(RuntimeError, match="after shutdown"):
            loop.run_in_executor(held.pool, abs, 1)

    with Held() as held:
        runner.run(main(held))


def test_a_pool_whose_threads_cannot_begin(runner: asyncio.Runner) -> None:
    entered = threading.Event()

    def begin() -> None:
        assert entered.wait(30)
        raise OSError("no licence")

    async def main(pool: ThreadPoolExecutor) -> None:
        loop = asyncio.get_running_loop()
        futures = [loop.run_in_executor(pool, abs, n) for n in range(3)]
        entered.set()
        for future in futures:
            with pytest.raises(concurrent.futures.BrokenExecutor):
                await asyncio.wait_for(future, 10)
        with pytest.raises(concurrent.futures.BrokenExecutor):
            await loop.run_in_executor(pool, abs, 1)

    with ThreadPoolExecutor(1, initializer=begin) as pool:
        runner.run(main(pool))


@pytest.mark.parametrize(
    ("error", "seen"),
    [
        (concurrent.futures.CancelledError("c"), asyncio.CancelledError),
        (concurrent.futures.InvalidStateError("i"), asyncio.InvalidStateError),
        (concurrent.futures.TimeoutError("t"), TimeoutError),
        (KeyError("k"), KeyError),
        (GeneratorExit(), GeneratorExit),
    ],
    ids=repr,
)
def test_errors_come_over_as_asyncio_has_them(
    runner: asyncio.Runner, error: BaseException, seen: type[BaseException]
) -> None:
    def fail() -> None:
        raise error

    async def main() -> None:
        with ThreadPoolExecutor(1) as pool, pytest.raises(seen) as caught:
            await asyncio.get_running_loop().run_in_executor(pool, fail)
        assert caught.value.args == error.args
        # asyncio keeps the traceback of what it translates since Python 3.13.
        if sys.version_info >= (3, 13) or isinstance(asyncio.get_running_loop(), EventLoop):
            assert any(entry.name == "fail" for entry in caught.traceback)

    runner.run(main())


@pytest.mark.parametrize("fails", [False, True])
def test_nothing_is_kept_of_a_call(runner: asyncio.Runner, fails: bool) -> None:
    class Big:
        pass

    def work(argument: Big) -> Big:
        if fails:
            raise ValueError(argument)
        return argument

    async def main() -> None:
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(1) as pool:
            argument = Big()
            left = weakref.ref(argument)
            try:
                assert await loop.run_in_executor(pool, work, argument) is argument
            except ValueError as error:
                error.__traceback__ = None
            del argument
            await loop.run_in_executor(pool, int)  # the thread has forgotten the last call
            assert left() is None

    gc.collect()
    gc.disable()
    try:
        runner.run(main())
    finally:
        gc.enable()


def test_a_call_has_the_context_of_its_thread(runner: asyncio.Runner) -> None:
    name: contextvars.ContextVar[str] = contextvars.ContextVar("name", default="nobody")

    async def main() -> None:
        name.set("main")
        with ThreadPoolExecutor(1) as pool:
            loop = asyncio.get_running_loop()
            await loop.run_in_executor(pool, int)
            assert await loop.run_in_executor(pool, name.get) == "nobody"
            assert await asyncio.to_thread(name.get) == "main"

    if not getattr(sys.flags, "thread_inherit_context", False):
        runner.run(main())


def test_a_loop_that_closes_before_the_call_ends(loop_factory: LoopFactory, capfd: pytest.CaptureFixture[str]) -> None:
    loop = loop_factory()
    with Held() as held:
        future = loop.run_in_executor(held.pool, held.wait)
        assert held.began.wait(30)
        future.cancel()
        loop.close()
        with pytest.raises(RuntimeError, match="closed"):
            loop.run_in_executor(held.pool, abs, 1)
    assert capfd.readouterr().err == ""


class Noting(ThreadPoolExecutor):
    """A pool that sees what is submitted, as tracers do."""

    seen = 0

    def submit(self, *args: Any, **kwargs: Any) -> Any:
        self.seen += 1
        return super().submit(*args, **kwargs)


def test_a_submit_of_the_users_own_is_called(runner: asyncio.Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        with Noting(1) as noting, ThreadPoolExecutor(1) as patched, ThreadPoolExecutor(1) as plain:
            assert await loop.run_in_executor(noting, abs, -2) == 2
            assert noting.seen == 1
            asked: list[Any] = []

            def noting(submit: Callable[..., Any]) -> Callable[..., Any]:
                def note(*args: Any) -> Any:
                    asked.append(args)
                    return submit(*args)

                return note

            monkeypatch.setattr(patched, "submit", noting(patched.submit))
            assert await loop.run_in_executor(patched, abs, -3) == 3
            assert len(asked) == 1
            monkeypatch.setattr(ThreadPoolExecutor, "submit", noting(ThreadPoolExecutor.submit))
            assert await loop.run_in_executor(plain, abs, -4) == 4
            assert len(asked) == 2

    runner.run(main())


def test_many_calls_some_cancelled(runner: asyncio.Runner) -> None:
    seed = random.randrange(1 << 32)
    print("seed", seed)
    rng = random.Random(seed)

    async def call(n: int) -> int:
        return await asyncio.get_running_loop().run_in_executor(pool, lambda: n * n)

    async def main() -> None:
        for batch in range(20):
            tasks = [asyncio.create_task(call(batch * 50 + n)) for n in range(50)]
            await asyncio.sleep(0)
            for task in tasks:
                if rng.random() < 0.3:
                    task.cancel()
                if rng.random() < 0.1:
                    await asyncio.sleep(0)
            results = await asyncio.gather(*tasks, return_exceptions=True)
            for n, result in enumerate(results, batch * 50):
                assert isinstance(result, asyncio.CancelledError) or result == n * n

    with ThreadPoolExecutor(4) as pool, failures(runner.get_loop()) as seen:
        runner.run(main())
    assert seen == []
