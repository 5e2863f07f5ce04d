"""When to dump: on demand, on a signal, on a freeze, when a timeout or a cancellation leaves a block."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Self

from .. import _native
from .._freeze import Freeze, on_freeze
from ._decorating import Decorating
from ._export import checked_name, write

__all__ = ["dump", "dump_on_error", "dump_on_freeze", "dump_on_signal"]


def dump(path: str | os.PathLike[str]) -> None:
    """Write what is recorded so far to a file; without a `record()` under way, what the flight recorder still has.

    The format is that of the name's ending: ``.html`` is a page that needs nothing else, ``.pftrace`` is for
    ui.perfetto.dev, ``.trace.json`` for Chrome's viewer, ``.profile.json`` for profiler.firefox.com, and ``.json`` is
    the dictionary that `Recording.to_dict` documents.

    Raises `ValueError` for another ending, and `OSError`.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     dump(f"{folder}/last.html")
    """
    write(path, _native.timeline_snapshot())


def _fresh(folder: str | os.PathLike[str], why: str, ending: str) -> Path:
    """A name that no dump of this process has had."""
    stamp = time.strftime("%Y%m%d-%H%M%S")
    for number in range(1000):
        path = Path(folder, f"timeline-{why}-{os.getpid()}-{stamp}{f'-{number}' if number else ''}{ending}")
        if not path.exists():
            return path
    raise FileExistsError(f"too many dumps in {os.fspath(folder)}")


def dump_on_signal(
    folder: str | os.PathLike[str] = ".", *, signum: int = signal.SIGUSR2, ending: str = ".html"
) -> Callable[[], None]:
    """Dump into `folder` whenever the process gets the signal; gives a function that ends that. Main thread only.

    Raises `ValueError` in another thread, as `signal.signal` does. A dump that fails raises its `OSError` where the
    signal arrives.
    """

    def handle(_signum: int, _frame: FrameType | None) -> None:
        dump(_fresh(folder, "signal", ending))

    before: Any = signal.signal(signum, handle)

    def remove() -> None:
        if signal.getsignal(signum) is handle:
            signal.signal(signum, before)

    return remove


def dump_on_freeze(
    folder: str | os.PathLike[str] = ".", *, at_most: int = 10, ending: str = ".html"
) -> Callable[[], None]:
    """Dump into `folder` after each freeze that the program made, `at_most` so many; gives a function that ends that.

    The loop goes on only when the dump is written, which takes some tenths of a second.
    """
    left = at_most

    def handle(freeze: Freeze) -> None:
        nonlocal left
        if freeze.is_own_fault and left > 0:
            left -= 1
            dump(_fresh(folder, "freeze", ending))

    return on_freeze(handle)


class dump_on_error(Decorating):  # noqa: N801 - it is called like the functions beside it
    """Dump into `folder` when one of `kinds` leaves a `with` block, or a function or coroutine that this decorates.

    By default these are timeouts and cancellations: what was everybody waiting for, when the time was over? The newest
    records are in the dump, and waits that had not ended. At most `at_most` dumps are made by all blocks together of
    one object. The exception goes on; if the dump cannot be written, the reason is added to it as a note.

    >>> import asyncio, tempfile, aioxide
    >>> async def main(folder):
    ...     with dump_on_error(folder):
    ...         async with asyncio.timeout(0.001):
    ...             await asyncio.sleep(1)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     try:
    ...         aioxide.run(main(folder))
    ...     except TimeoutError:
    ...         [path.suffix for path in Path(folder).iterdir()]
    ['.html']
    """

    def __init__(
        self,
        folder: str | os.PathLike[str] = ".",
        *,
        kinds: type[BaseException] | tuple[type[BaseException], ...] = (TimeoutError, asyncio.CancelledError),
        at_most: int = 10,
        ending: str = ".html",
    ) -> None:
        self._folder = folder
        self._kinds = kinds
        self._left = at_most
        self._ending = checked_name(ending)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if not isinstance(error, self._kinds) or self._left <= 0:
            return
        self._left -= 1
        try:
            dump(_fresh(self._folder, type(error).__name__, self._ending))
        except OSError as failure:
            error.add_note(f"its timeline could not be written: {failure}")
