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

import os
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Literal, Self

from .. import _native
from .._freeze import Freeze, freeze_threshold, on_freeze, set_freeze_threshold
from ._decorating import Decorating
from ._dump import dump, dump_on_error, dump_on_freeze, dump_on_signal
from ._export import write as _write
from ._live import serve
from ._metrics import instrument, prometheus
from ._samples import Samples

__all__ = [
    "Freeze",
    "Recording",
    "dump",
    "dump_on_error",
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


class Recording(Decorating):
    """A recording, under way inside its `with` block and readable after it. Made by `record()`.

    It also decorates a function or a coroutine function, each call of which is recorded.
    """

    def __init__(self, records_per_thread: int, to: str | os.PathLike[str] | None = None, *, gil: bool = False) -> None:
        self._records_per_thread = records_per_thread
        self._gil = gil
        self._to = to
        self._samples = Samples()
        self._data: dict[str, Any] | None = None

    def __enter__(self) -> Self:
        if not _native.timeline_start(self._records_per_thread):
            raise RuntimeError("a recording is under way already: one process can make one at a time")
        if self._gil:
            try:
                self._samples.begin()
            except BaseException:  # there can be no more threads, or Ctrl-C
                _native.timeline_stop()
                raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        sampled = self._samples.end() if self._gil else None
        self._data = _native.timeline_stop()
        if sampled is not None and self._data is not None:
            self._data["sampled"] = sampled
            self._samples.name_threads(self._data)
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
        end, index into names, state), ``wakes`` (at, from lane, to lane, when that ran), ``marks`` (at, lane, text) and
        ``freezes`` (lane, start, end, what is known of it as JSON).

        With ``record(gil=True)`` also ``sampled``: ``what`` ("gil", "cpu" or None), ``why_not``, ``samples`` and the
        intervals between them, ``median_ns`` and ``p95_ns``.

        Raises `RuntimeError` before the `with` block has ended.
        """
        if self._data is None:
            raise RuntimeError("the recording has not ended: read it after its `with` block")
        return self._data


def record(
    records_per_thread: int = 1_000_000, *, to: str | os.PathLike[str] | None = None, gil: bool = False
) -> Recording:
    """Record what every aioxide loop and marked thread of the process does inside a `with` block, or a function.

    `to` is a file that the recording is written to when it ends: see `dump` for the formats.

    `records_per_thread` bounds the memory (32 bytes each); what does not fit is counted as dropped.

    `gil` adds a lane that tells which thread had the GIL when, from a thread that looks every 0.1 ms without taking it;
    on a free-threaded Python a lane for each thread tells when it was on a CPU, from a look every 5 ms. How exact
    that was, or why it could not be, is in the recording's ``sampled``.

    Raises `RuntimeError` (on entering) if a recording is under way.
    """
    return Recording(records_per_thread, to, gil=gil)


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
