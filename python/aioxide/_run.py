"""`run`: a program on a new loop, or on many."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any, Literal, TypeVar, cast, overload

from ._event_loop import new_event_loop

_T = TypeVar("_T")

_here = threading.local()


def loop_index() -> int:
    """Which of the loops of ``aioxide.run(main, loops=N)`` this thread runs, from 0; 0 also where there is but one.

    >>> loop_index()
    0
    """
    return getattr(_here, "index", 0)


@overload
def run(main: Coroutine[Any, Any, _T], *, debug: bool | None = None) -> _T: ...


@overload
def run(
    main: Callable[[], Coroutine[Any, Any, _T]],
    *,
    debug: bool | None = None,
    loops: int,
    kind: Literal["threads", "processes"] | None = None,
) -> list[_T]: ...


def run(
    main: Coroutine[Any, Any, _T] | Callable[[], Coroutine[Any, Any, _T]],
    *,
    debug: bool | None = None,
    loops: int | None = None,
    kind: Literal["threads", "processes"] | None = None,
) -> _T | list[_T]:
    """Run a coroutine on a new aioxide loop and give its result, like `asyncio.run`.

    With `loops`, run the coroutine *function* `main` on that many loops, and give the list of their results. Each loop
    has a thread where threads run side by side (a free-threaded Python with the GIL off; the first is the calling
    thread's), else a process; `kind` chooses. `loop_index` tells them apart, and servers share a port by
    ``reuse_port=True``. The first that fails, Ctrl-C, and with processes SIGTERM, cancel all; the run ends when
    all have. What goes to and from a process must be picklable, as with `multiprocessing`.

    Raises `RuntimeError` (`TypeError` with `loops`) if a loop is running in this thread already, and whatever the
    coroutine raises; `BaseExceptionGroup` if several of many fail; `RuntimeError` for a process that was killed.

    >>> async def main():
    ...     return loop_index()
    >>> run(main())
    0
    >>> run(main, loops=2, kind="threads")
    [0, 1]
    """
    if loops is not None:
        from ._many_loops import run_many

        return run_many(cast(Callable[[], Coroutine[Any, Any, _T]], main), loops, kind, debug)
    with asyncio.Runner(debug=debug, loop_factory=new_event_loop) as runner:
        return runner.run(cast(Coroutine[Any, Any, _T], main))
