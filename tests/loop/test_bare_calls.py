"""What asyncio's C classes schedule, for which no handle is made; handles used again; the register of tasks."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import sys
import weakref
from typing import Any

import pytest
from tests.loop.support import LoopFactory, failures, run_once

import aioxide

variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")


def test_a_done_callback_that_fails_is_reported_with_its_handle(loop: asyncio.AbstractEventLoop) -> None:
    def fail(_future: asyncio.Future[None]) -> None:
        raise ValueError("on purpose")

    future = loop.create_future()
    future.add_done_callback(fail)
    future.set_result(None)
    with failures(loop) as seen:
        run_once(loop)
    assert [str(context["exception"]) for context in seen] == ["on purpose"]
    assert isinstance(seen[0]["handle"], asyncio.Handle)
    assert "fail" in repr(seen[0]["handle"])


def test_done_callbacks_have_their_place_among_other_callbacks(loop: asyncio.AbstractEventLoop) -> None:
    ran: list[str] = []
    future = loop.create_future()
    future.add_done_callback(lambda _: ran.append("first of the future"))
    future.add_done_callback(lambda _: ran.append("second of the future"))
    loop.call_soon(ran.append, "before")
    future.set_result(None)
    loop.call_soon(ran.append, "after")
    run_once(loop)
    assert ran == ["before", "first of the future", "second of the future", "after"]


def test_a_done_callback_runs_in_its_context(loop: asyncio.AbstractEventLoop) -> None:
    ran: list[str] = []
    context = contextvars.copy_context()
    context.run(variable.set, "set")
    future = loop.create_future()
    future.add_done_callback(lambda _: ran.append(variable.get()), context=context)
    future.set_result(None)
    run_once(loop)
    assert ran == ["set"]


def test_debug_mode_may_begin_while_something_is_scheduled(loop: asyncio.AbstractEventLoop) -> None:
    ran: list[asyncio.Future[None]] = []
    future = loop.create_future()
    future.add_done_callback(ran.append)
    future.set_result(None)
    loop.set_debug(True)
    run_once(loop)
    assert ran == [future]


def test_a_call_of_a_done_callback_is_found_by_the_collector(loop_factory: LoopFactory) -> None:
    class Owner:
        loop: asyncio.AbstractEventLoop

        def called(self, _future: asyncio.Future[None]) -> None: ...

    owner = Owner()
    owner.loop = loop_factory()
    future = owner.loop.create_future()
    future.add_done_callback(owner.called)
    future.set_result(None)
    owner.loop.close()
    gone = weakref.ref(owner)
    del owner, future
    gc.collect()
    assert gone() is None


def test_a_handle_has_nothing_of_one_before_it(loop: asyncio.AbstractEventLoop) -> None:
    ran: list[str] = []
    cancelled = loop.call_soon(ran.append, "never")
    cancelled.cancel()
    dead = weakref.ref(cancelled)
    del cancelled
    run_once(loop)
    assert dead() is None
    handle = loop.call_soon(ran.append, "ran")
    assert not handle.cancelled()
    assert weakref.getweakrefcount(handle) == 0
    run_once(loop)
    assert ran == ["ran"]


def test_a_timer_has_nothing_of_one_before_it(loop: asyncio.AbstractEventLoop) -> None:
    ran: list[str] = []
    far = loop.time() + 1000
    cancelled = loop.call_at(far, ran.append, "never")
    assert cancelled.when() == far
    cancelled.cancel()
    del cancelled
    run_once(loop)
    due = loop.time()
    timer = loop.call_at(due, ran.append, "ran")
    assert timer.when() == due
    assert not timer.cancelled()
    loop.call_later(0.01, loop.stop)
    loop.run_forever()
    assert ran == ["ran"]


def test_tasks_are_known_until_they_are_done(loop: asyncio.AbstractEventLoop) -> None:
    async def main() -> None:
        task = asyncio.ensure_future(asyncio.sleep(0))
        assert task in asyncio.all_tasks()
        await task
        assert task not in asyncio.all_tasks()

    loop.run_until_complete(main())


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="C tasks are in no WeakSet since Python 3.14")
def test_tasks_that_are_gone_leave_the_register_once_nobody_reads_it(loop: asyncio.AbstractEventLoop) -> None:
    name = "_all_tasks" if sys.version_info < (3, 12) else "_scheduled_tasks"
    register: Any = getattr(asyncio.tasks, name)

    async def main() -> None:
        tasks = [loop.create_task(asyncio.sleep(0)) for _ in range(10)]
        for number in range(10):
            await tasks[number]
        before = len(register)
        assert before >= 11
        reading = iter(register)
        next(reading)
        del tasks
        gc.collect()
        # The iterator holds the one that it gave last, and the interpreter may hold one; the others wait to be removed.
        assert len(register) <= before - 8
        assert len(register.data) == before
        reading.close()
        gc.collect()
        await loop.create_task(asyncio.sleep(0))
        assert len(register.data) <= before - 8 + 1

    loop.run_until_complete(main())


def test_what_the_loop_keeps_is_in_its_slots() -> None:
    """A loop whose `__dict__` is empty has its methods called faster."""
    loop = aioxide.new_event_loop()
    try:
        loop.run_until_complete(asyncio.sleep(0))
        assert vars(loop) == {}
    finally:
        loop.close()
