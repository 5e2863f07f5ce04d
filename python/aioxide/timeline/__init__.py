"""What ran when: record a piece of a program and read it back as lanes, slices and wakes.

Without being asked, every loop keeps its last records, as an aircraft's flight recorder does: `snapshot()` shows them.

>>> import asyncio, aioxide
>>> from aioxide import timeline
>>> with timeline.record() as recording:
...     aioxide.run(asyncio.sleep(0.001))
>>> data = recording.to_dict()
>>> sorted({lane["kind"] for lane in data["lanes"]})
['callback', 'loop', 'task']
"""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Literal, ParamSpec, Self, TypeVar, cast

from .. import _native
from .._freeze import Freeze, freeze_threshold, on_freeze, set_freeze_threshold
from ._dump import dump, dump_on_freeze, dump_on_signal
from ._export import write as _write
from ._live import serve
from ._metrics import instrument, prometheus

__all__ = [
    "Freeze",
    "Recording",
    "dump",
    "dump_on_freeze",
    "dump_on_signal",
    "freeze_threshold",
    "instrument",
    "level",
    "mark",
    "on_freeze",
    "prometheus",
    "record",
    "serve",
    "set_freeze_threshold",
    "set_level",
    "snapshot",
    "thread_lane",
    "waiting",
]

_P = ParamSpec("_P")
_R = TypeVar("_R")


class Recording:
    """A recording, under way inside its `with` block and readable after it. Made by `record()`.

    It also decorates a function or a coroutine function, each call of which is recorded.
    """

    def __init__(self, records_per_thread: int, to: str | os.PathLike[str] | None = None) -> None:
        self._records_per_thread = records_per_thread
        self._to = to
        self._data: dict[str, Any] | None = None

    def __call__(self, function: Callable[_P, _R]) -> Callable[_P, _R]:
        """Record every call of `function`, or every run of the coroutines that it makes."""

        @functools.wraps(function)
        def record_call(*args: _P.args, **kwargs: _P.kwargs) -> _R:
            with self:
                return function(*args, **kwargs)

        @functools.wraps(function)
        async def record_coroutine(*args: _P.args, **kwargs: _P.kwargs) -> Any:
            with self:
                return await cast(Any, function)(*args, **kwargs)

        return cast(Callable[_P, _R], record_coroutine) if inspect.iscoroutinefunction(function) else record_call

    def __enter__(self) -> Self:
        if not _native.timeline_start(self._records_per_thread):
            raise RuntimeError("a recording is under way already: one process can make one at a time")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._data = _native.timeline_stop()
        if self._to is not None:
            self.save(self._to)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the recording to a file, in a format that `dump` knows.

        Raises `RuntimeError` before the `with` block has ended, and what `dump` raises.
        """
        _write(path, self.to_dict())

    def to_dict(self) -> dict[str, Any]:
        """The recording as plain data, all times in nanoseconds since its start.

        Keys: ``format`` (1), ``start_ns`` and ``end_ns`` (of the monotonic clock), ``clock_error_ns`` (what a clock
        reading costs: no time is more exact), ``dropped`` (records that did not fit, or were overwritten),
        ``grouped_steps`` (callbacks that came too fast to be told apart), ``names``, ``lanes`` (``id``, ``name``,
        ``kind``, ``thread``, ``group``: the coroutine's name, ``source``: where that is), ``slices`` (lane, start,
        end, index into names, state), ``wakes`` (at, from lane, to lane), ``marks`` (at, lane, text) and ``freezes``
        (lane, start, end, what is known of it as JSON).

        Raises `RuntimeError` before the `with` block has ended.
        """
        if self._data is None:
            raise RuntimeError("the recording has not ended: read it after its `with` block")
        return self._data


def record(records_per_thread: int = 1_000_000, *, to: str | os.PathLike[str] | None = None) -> Recording:
    """Record what every aioxide loop and marked thread of the process does inside a `with` block, or a function.

    `to` is a file that the recording is written to when it ends: see `dump` for the formats.

    `records_per_thread` bounds the memory (32 bytes each); what does not fit is counted as dropped.

    Raises `RuntimeError` (on entering) if a recording is under way.
    """
    return Recording(records_per_thread, to)


def snapshot() -> dict[str, Any]:
    """What the flight recorder still has, or of a recording under way everything so far; see `Recording.to_dict`.

    >>> sorted(snapshot())[:4]
    ['clock_error_ns', 'dropped', 'end_ns', 'format']
    """
    return _native.timeline_snapshot()


def level() -> str:
    """How much is recorded now: ``"counters"``, ``"flight"`` (the default) or, inside a `record()`, ``"full"``."""
    return _native.timeline_level()


def set_level(level: Literal["counters", "flight"]) -> None:
    """Record nothing but counters, or also the last records of each thread (at most 64 MiB in all).

    What was recorded so far is forgotten.

    Raises `RuntimeError` inside a `record()`, and `ValueError` for another level.

    >>> set_level("counters")
    >>> set_level("flight")
    """
    if not _native.timeline_set_level(level):
        raise RuntimeError("the level cannot be changed while a recording is under way")


def mark(text: str) -> None:
    """Write `text` into the lane of whatever runs on this thread; does nothing when nothing is recorded."""
    _native.timeline_mark(text)


@contextmanager
def thread_lane(name: str) -> Iterator[None]:
    """Give the calling thread a lane of its own for the time of a `with` block.

    >>> with record() as recording, thread_lane("worker"):
    ...     mark("here")
    >>> [mark[2] for mark in recording.to_dict()["marks"]]
    ['here']
    """
    token = _native.timeline_thread_begin(name)
    try:
        yield
    finally:
        if token is not None:
            _native.timeline_thread_end(token)


@contextmanager
def waiting(what: str) -> Iterator[None]:
    """Say that the calling thread waits for `what` in a `with` block; for code in a `thread_lane`, not in tasks.

    HTTP calls that block say so by themselves.

    >>> import threading
    >>> with record() as recording, thread_lane("worker"):
    ...     with waiting("the door"):
    ...         threading.Event().wait(0.001)
    False
    >>> data = recording.to_dict()
    >>> [data["names"][name] for _, _, _, name, state in data["slices"] if state == "wait"]
    ['the door']
    """
    token = _native.timeline_wait_begin(what)
    try:
        yield
    finally:
        if token is not None:
            _native.timeline_wait_end(token)
