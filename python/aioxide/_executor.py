"""Calls on a `ThreadPoolExecutor`, without a `concurrent.futures.Future` for each.

asyncio has the executor make a future of its own kind for a call, chains it to the loop's both ways, and so spends more
on the pair than on the hand-over. Here the executor's queue gets an item that brings its result to the loop itself;
threads, limits, shutting down and the end of the process stay the executor's business.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, thread
from typing import Any, Final, cast

__all__ = ["submit", "takes_items"]

_thread = cast(Any, thread)
# What `submit` below does in its place. One that a tracer has replaced is left to be called as it is.
_SUBMIT: Final = ThreadPoolExecutor.submit
_IS_KNOWN: Final = sys.version_info < (3, 16) and getattr(_SUBMIT, "__globals__", None) is vars(thread)
_TAKING: Final = ThreadPoolExecutor if _IS_KNOWN else None


class _Item:
    """One call, in the form that an executor's threads and its `shutdown` know: they `run` it, or end its `future`."""

    __slots__ = ("_args", "_function", "_future", "_loop")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        future: asyncio.Future[Any],
        function: Callable[..., Any],
        args: tuple[Any, ...],
    ) -> None:
        self._loop = loop
        self._future = future
        self._function = function
        self._args = args

    def run(self, _context: object = None) -> None:
        """Call the function, unless its future was cancelled meanwhile; since 3.14 the thread's context is given."""
        if self._future.cancelled():
            return
        try:
            result = self._function(*self._args)
        except BaseException as error:  # noqa: BLE001 - whatever it is, the loop gets it
            self.set_exception(error)
            # The error's traceback holds this frame, which shall not hold the error in turn.
            del self
        else:
            try:
                self._loop.call_soon_threadsafe(_set_result, self._future, result)
            except RuntimeError:
                self._is_unwanted()

    @property
    def future(self) -> _Item:
        return self

    def cancel(self) -> None:
        """The executor was shut down, and wants none of its queue."""
        try:
            self._loop.call_soon_threadsafe(self._future.cancel)
        except RuntimeError:
            self._is_unwanted()

    def set_exception(self, error: BaseException) -> None:
        """The function failed, or the executor's threads cannot begin."""
        try:
            self._loop.call_soon_threadsafe(_set_exception, self._future, error)
        except RuntimeError:
            self._is_unwanted()

    def _is_unwanted(self) -> None:
        """Raise again what is handled now, unless it says that the loop is closed: nobody waits any more then."""
        if not self._loop.is_closed():
            raise


def _set_result(future: asyncio.Future[Any], result: object) -> None:
    if not future.cancelled():
        future.set_result(result)


def _set_exception(future: asyncio.Future[Any], error: BaseException) -> None:
    if future.cancelled():
        return
    # As asyncio translates what came by a concurrent.futures.Future.
    if type(error) is concurrent.futures.CancelledError:
        error = asyncio.CancelledError(*error.args).with_traceback(error.__traceback__)
    elif type(error) is concurrent.futures.InvalidStateError:
        error = asyncio.InvalidStateError(*error.args).with_traceback(error.__traceback__)
    future.set_exception(error)


def takes_items(executor: object) -> bool:
    """Whether `submit` may stand in for `executor.submit`: a plain thread pool, whose method nobody has replaced."""
    return type(executor) is _TAKING and getattr(executor.submit, "__func__", None) is _SUBMIT


def submit(
    loop: asyncio.AbstractEventLoop, executor: Any, function: Callable[..., Any], args: tuple[Any, ...]
) -> asyncio.Future[Any]:
    """Have a thread of `executor` call `function(*args)`; returns a future of `loop`, whose thread this is.

    `executor` is one that `takes_items`. Raises `RuntimeError` if it was shut down, or the interpreter is going, and
    `BrokenThreadPool` if its threads could not begin.
    """
    with executor._shutdown_lock, _thread._global_shutdown_lock:
        if not (executor._broken or executor._shutdown or _thread._shutdown):
            future = loop.create_future()
            executor._work_queue.put(_Item(loop, future, function, args))
            executor._adjust_thread_count()
            return future
    # It says itself why not, in the words of its version.
    return asyncio.wrap_future(executor.submit(function, *args), loop=loop)
