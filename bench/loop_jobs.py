"""The jobs of the loop alone, that contenders do inside their own processes."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any

from bench.contenders import LoopFactory

PENDING_TIMERS = 10_000
PENDING: list[asyncio.TimerHandle] = []
CHAINS = 100
TASKS_AT_ONCE = 100


async def call_soon(operations: int) -> None:
    """Chains of callbacks, each of which schedules its next: a busy loop's ready queue is neither empty nor endless."""
    loop = asyncio.get_running_loop()
    done = loop.create_future()
    left = operations

    def step() -> None:
        nonlocal left
        left -= 1
        if left >= CHAINS:
            loop.call_soon(step)
        elif left == 0:
            done.set_result(None)

    for _ in range(CHAINS):
        loop.call_soon(step)
    await done


async def call_later(operations: int) -> None:
    """Timers that all run out within 2 ms, a thousand pending at a time."""
    loop = asyncio.get_running_loop()
    done = loop.create_future()
    left = operations
    pending = 1000

    def fire(delay: float) -> None:
        nonlocal left
        left -= 1
        if left >= pending:
            loop.call_later(delay, fire, delay)
        elif left == 0:
            done.set_result(None)

    for n in range(pending):
        delay = 0.002 * n / pending
        loop.call_later(delay, fire, delay)
    await done


async def timer_cancel(operations: int) -> None:
    """Timeouts that are set and cancelled, as around each request of a service, with many others pending."""
    loop = asyncio.get_running_loop()
    if not PENDING:
        # Once for all rounds: to set them is no part of an operation, and the first round is not counted.
        PENDING.extend(loop.call_later(3600 + n, print) for n in range(PENDING_TIMERS))
    for n in range(operations):
        loop.call_later(30, print).cancel()
        if n % 100 == 0:
            await asyncio.sleep(0)  # the loop turns between requests, and may tidy its timers then


async def sleep0(operations: int) -> None:
    for _ in range(operations):
        await asyncio.sleep(0)


async def gather(operations: int) -> None:
    async def small(n: int) -> int:
        return n

    for _ in range(operations // TASKS_AT_ONCE):
        await asyncio.gather(*[small(n) for n in range(TASKS_AT_ONCE)])


async def threadsafe(operations: int) -> None:
    """One thread schedules, as fast as it can, what another's loop runs; at most a thousand are under way."""
    loop = asyncio.get_running_loop()
    done = loop.create_future()
    room = threading.Semaphore(1000)
    left = operations

    def step() -> None:
        nonlocal left
        left -= 1
        room.release()
        if left == 0:
            done.set_result(None)

    def schedule() -> None:
        for _ in range(operations):
            room.acquire()
            loop.call_soon_threadsafe(step)

    thread = threading.Thread(target=schedule)
    thread.start()
    await done
    thread.join()


async def queue(operations: int) -> None:
    """Two tasks that hand an item to and fro by two queues."""
    there: asyncio.Queue[int] = asyncio.Queue()
    back: asyncio.Queue[int] = asyncio.Queue()

    async def answer() -> None:
        for _ in range(operations):
            await back.put(await there.get())

    answering = asyncio.get_running_loop().create_task(answer())
    for n in range(operations):
        await there.put(n)
        await back.get()
    await answering


async def executor(operations: int) -> None:
    """A function that does nothing, run by the default executor; one at a time."""
    loop = asyncio.get_running_loop()
    for _ in range(operations):
        await loop.run_in_executor(None, int)


async def subprocess(operations: int) -> None:
    """A program that does nothing, started and waited for; one at a time."""
    for _ in range(operations):
        process = await asyncio.create_subprocess_exec("/bin/true")
        if await process.wait() != 0:
            raise RuntimeError(f"/bin/true ended with {process.returncode}")


async def subprocess_pipe(operations: int) -> None:
    """A program that writes a word, started, read by a pipe, and waited for; one at a time."""
    for _ in range(operations):
        process = await asyncio.create_subprocess_exec("/bin/echo", "word", stdout=asyncio.subprocess.PIPE)
        output, _ = await process.communicate()
        if output != b"word\n" or process.returncode != 0:
            raise RuntimeError(f"/bin/echo wrote {output!r}, and ended with {process.returncode}")


def start_and_stop(factory: LoopFactory, operations: int) -> None:
    """A new loop each time, which runs a coroutine that does nothing, and is closed."""

    async def nothing() -> None:
        pass

    for _ in range(operations):
        loop = factory()
        try:
            loop.run_until_complete(nothing())
        finally:
            loop.close()


LOOP_JOBS: dict[str, Callable[[int], Coroutine[Any, Any, None]]] = {
    "call_soon": call_soon,
    "call_later": call_later,
    "timer_cancel": timer_cancel,
    "sleep0": sleep0,
    "gather": gather,
    "threadsafe": threadsafe,
    "queue": queue,
    "executor": executor,
    "subprocess": subprocess,
    "subprocess_pipe": subprocess_pipe,
}
