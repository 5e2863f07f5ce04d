"""When to dump: on demand, on a signal, on a freeze."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

from .. import _native
from .._freeze import Freeze, on_freeze
from ._export import write

__all__ = ["dump", "dump_on_freeze", "dump_on_signal"]


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
