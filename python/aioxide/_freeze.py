"""Freezes: what blocked a loop, told while it did, and reported once it is over.

A callback that takes longer than the threshold is a *freeze*: nothing else of its loop can run meanwhile. A thread of
the engine looks at the loop's thread inside the freeze; nothing is installed in the program for that.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from types import FrameType
from typing import Any, Final

from . import _native

__all__ = ["Freeze", "freeze_threshold", "on_freeze", "set_freeze_threshold"]

_logger: Final = logging.getLogger("aioxide.freeze")
_STACK_MAX: Final = 100
_hooks: list[Callable[[Freeze], object]] = []

# What the engine calls a cause, and how it is told.
_VERDICTS: Final = {
    "cpu": "Python code used the CPU",
    "native code": "C code held the GIL",
    "system call": "a blocking system call",
    "lock": "waiting for a lock of another thread",
    "interpreter": "waiting for the GIL, which another thread had",
    "preempted": "the kernel ran something else, or the process was stopped",
    "garbage collection": "garbage collection",
    "unknown": "nobody could look in time",
}


@dataclass(frozen=True, slots=True)
class Freeze:
    """A callback that took longer than the threshold.

    `cause` is one of ``cpu``, ``native code`` (that held the GIL), ``system call``, ``lock``, ``interpreter`` (the GIL
    was another thread's), ``preempted`` (by the kernel, or the whole process stood still), ``garbage collection`` and
    ``unknown``. `syscall` names the call, `culprit` the thread that had what was waited for, where that is known.
    `stack` is where the thread was inside the freeze: (file, line, function), innermost last. `task` is the task that
    ran, `callback` the name of the callback; `cpu_s` is the CPU time that the thread used while it was looked at.
    """

    loop: asyncio.AbstractEventLoop
    duration_s: float
    cause: str
    syscall: str | None
    culprit: str | None
    task: str | None
    callback: str
    cpu_s: float
    stack: tuple[tuple[str, int, str], ...]

    @property
    def verdict(self) -> str:
        """The cause in words."""
        words = _VERDICTS[self.cause]
        details = [self.syscall] if self.syscall else []
        details += [self.culprit] if self.culprit else []
        return f"{words} ({', '.join(details)})" if details else words

    @property
    def is_own_fault(self) -> bool:
        """Whether the program did it, and not the kernel or a busy machine."""
        return self.cause not in ("preempted", "unknown")

    def __str__(self) -> str:
        who = self.task or self.callback or "a callback"
        where = "".join(f'\n  File "{file}", line {line}, in {function}' for file, line, function in self.stack)
        return f"{who} froze the loop for {self.duration_s:.3f} s: {self.verdict}{where}"


def freeze_threshold() -> float | None:
    """How long a callback may take, in seconds, until it counts as a freeze; None if freezes are not looked for.

    >>> freeze_threshold()
    0.1
    """
    return _native.timeline_freeze_threshold()


def set_freeze_threshold(seconds: float | None) -> None:
    """Set how long a callback may take, in all loops; None turns the reports off. The default is 0.1 s.

    Raises `ValueError` for what is no time.
    """
    _native.timeline_set_freeze_threshold(seconds)


def on_freeze(hook: Callable[[Freeze], object]) -> Callable[[], None]:
    """Have `hook` called with every `Freeze`; gives a function that takes the hook away again.

    It is called on the frozen loop's thread, right after the callback. What it raises goes to the loop's exception
    handler.

    >>> remove = on_freeze(print)
    >>> remove()
    """
    _hooks.append(hook)

    def remove() -> None:
        if hook in _hooks:
            _hooks.remove(hook)

    return remove


def describe(loop: asyncio.AbstractEventLoop, facts: dict[str, Any]) -> tuple[Freeze, str]:
    """A freeze, and what the picture keeps of it, as JSON. Called by the engine."""
    facts["stack"] = tuple(map(tuple, facts["stack"]))
    if isinstance(facts["culprit"], int):
        facts["culprit"] = _thread_name(facts["culprit"])
    freeze = Freeze(loop, **facts)
    return freeze, json.dumps(facts | {"verdict": freeze.verdict})


def _thread_name(native_id: int) -> str:
    names = (thread.name for thread in threading.enumerate() if thread.native_id == native_id)
    return next(names, f"thread {native_id}")


def report(freeze: Freeze) -> None:
    """Log a freeze, and hand it to the hooks. Called by the engine, once the picture shows it."""
    _logger.log(logging.WARNING if freeze.is_own_fault else logging.INFO, "%s", freeze)
    for hook in tuple(_hooks):
        try:
            hook(freeze)
        except Exception as error:  # noqa: BLE001 - a hook must not end the loop
            freeze.loop.call_exception_handler({"message": f"the freeze hook {hook!r} failed", "exception": error})


def look(tid: int) -> tuple[list[tuple[str, int, str]], str | None, list[tuple[int, str]]] | None:
    """Where the thread with the kernel's number `tid` is, which task it runs, and the names of all threads.

    Called by the engine's watchdog, in its own thread: it takes no lock that the frozen thread may hold.
    """
    known: list[threading.Thread] = list(threading._active.values())  # type: ignore[attr-defined]
    threads = [(thread.native_id, thread.name) for thread in known if thread.native_id is not None]
    ident = next((thread.ident for thread in known if thread.native_id == tid), None)
    frame = sys._current_frames().get(ident) if ident is not None else None
    if frame is None:
        return None
    return stack_of(frame), _task_of(ident), threads


def stack_of(frame: FrameType | None) -> list[tuple[str, int, str]]:
    """From the loop's callback to the innermost call; what runs the loop is left out."""
    stack: list[tuple[str, int, str]] = []
    while frame is not None and len(stack) < _STACK_MAX:
        code = frame.f_code
        if code.co_name == "run_forever" and code.co_filename.endswith("/aioxide/_event_loop.py"):
            break
        stack.append((code.co_filename, frame.f_lineno or 0, code.co_qualname))
        frame = frame.f_back
    return stack[::-1]


def _task_of(ident: int | None) -> str | None:
    from ._event_loop import open_loops

    for loop in open_loops():
        if loop._thread_id == ident:
            task = asyncio.current_task(loop)
            if task is None:
                return None
            coroutine = task.get_coro()
            return f"{task.get_name()} ({getattr(coroutine, '__qualname__', coroutine)})"
    return None
