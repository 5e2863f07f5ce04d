"""What a `gen.coroutine` may yield, and how each such thing becomes a future. `aioxide.gen` has the public names."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Generator, Iterable, Mapping
from concurrent import futures
from typing import Any, TypeAlias

from .concurrent import PACKAGE, AnyFuture, call_when_done, current_loop, hide_creator, logger, settable

#: The types of exceptions that are not worth a line in the log.
QuietExceptions: TypeAlias = type[BaseException] | tuple[type[BaseException], ...]


class BadYieldError(Exception):
    """A coroutine yielded what cannot be waited for. It is raised into the coroutine, at that `yield`."""


class Moment:
    """The type of `moment`: looks like a future done with None, but waits for one turn of the loop."""

    __slots__ = ()

    def done(self) -> bool:
        """Always true."""
        return True

    def result(self) -> None:
        """Always None."""
        return

    def __await__(self) -> Generator[None, None, None]:
        yield

    __iter__ = __await__  # yield from gen.moment

    def __repr__(self) -> str:
        return "gen.moment"


#: `yield gen.moment` (or `yield None`, or a bare `yield`) lets the loop run everything else that is ready, then goes
#: on. It can be awaited as well.
moment = Moment()


@functools.singledispatch
def convert_yielded(yielded: Any) -> AnyFuture[Any] | Moment:
    """Turn what a coroutine yielded into something with `done()` and `result()` that the coroutine can wait for.

    A future of either kind is returned as it is; None is `moment`; a list or dict becomes `multi` of it; any other
    awaitable is started as a task on the current loop. Whoever has another type to yield registers a function that
    makes one of the former out of it, as with every `functools.singledispatch`:

        >>> from pathlib import Path
        >>> from aioxide import gen
        >>> @gen.convert_yielded.register
        ... def _(path: Path):
        ...     return asyncio.get_running_loop().run_in_executor(None, path.exists)
        >>> @gen.coroutine
        ... def main():
        ...     return (yield Path("/"))
        >>> async def run():
        ...     return await main()
        >>> asyncio.run(run())
        True

    Must be called in the loop's thread.

    Raises:
        BadYieldError: for anything else.
        RuntimeError: where an awaitable needs a loop to be started on and there is none.
    """
    if isinstance(yielded, asyncio.Future | futures.Future):
        return yielded
    if yielded is None or yielded is moment:
        return moment
    if asyncio.isfuture(yielded):
        return yielded
    if isinstance(yielded, list | dict):
        return multi(yielded)
    if inspect.isawaitable(yielded):
        return asyncio.ensure_future(yielded, loop=current_loop())
    raise BadYieldError(f"a coroutine yielded {yielded!r}, which is neither a future nor awaitable")


_converters = convert_yielded.registry
_convert = _converters[object]


def future_to_wait_for(yielded: Any, loop: asyncio.AbstractEventLoop) -> AnyFuture[Any] | Moment:
    """`convert_yielded`, and a check that `loop` can wait for it: `RuntimeError` if it belongs to a different loop."""
    # Choosing by type costs more than all the rest, and there is nothing to choose from until somebody registers one.
    future = _convert(yielded) if len(_converters) == 1 else convert_yielded(yielded)
    if isinstance(future, asyncio.Future):
        if not future.done() and future.get_loop() is not loop:
            raise RuntimeError(f"{future!r} belongs to a different event loop than the one that is to wait for it")
    elif not isinstance(future, Moment | futures.Future) and not asyncio.isfuture(future):
        raise BadYieldError(f"what is registered with convert_yielded made {future!r}, which is no future")
    return future


class WaitingFuture(asyncio.Future[Any]):
    """A future that waits for others: cancelling it cancels them, and it is cancelled once they have ended.

    That is how a task treats what it awaits: when it is done, nothing of what it stood for still runs. A future of a
    thread that is running already cannot be cancelled; it is left alone and not waited for.
    """

    __slots__ = ("cancel_message", "cancel_requested", "pending")

    def __init__(self, *, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop=loop)
        self.pending: set[AnyFuture[Any]] = set()
        self.cancel_requested = False
        self.cancel_message: Any = None

    def cancel(self, msg: Any = None) -> bool:
        """Ask what is waited for to cancel itself; see `asyncio.Future.cancel`."""
        if self.done():
            return False
        self.cancel_requested = True
        self.cancel_message = msg
        waits = False
        for child in list(self.pending):
            if isinstance(child, futures.Future):
                self.pending.discard(child)
                child.cancel()
            elif child.cancel(msg):
                waits = True
        return waits or super().cancel(msg)

    def end_cancelled(self) -> bool:
        """If `cancel` was called, do now what it put off. Tells whether the future is done."""
        if self.cancel_requested and not self.done():
            super().cancel(self.cancel_message)
        return self.done()


def multi(children: Iterable[Any] | Mapping[Any, Any], quiet_exceptions: QuietExceptions = ()) -> asyncio.Future[Any]:
    """Wait for many things at once.

    `children` is an iterable of anything that can be yielded, or a mapping with such values; the future's result is
    the list of their results in the same order, or a dict with the same keys. In a coroutine, yielding a list or dict
    does this by itself. It waits for all the children, also when one fails; then it raises the exception of the first
    in order that has one, and logs the others' unless they are instances of `quiet_exceptions` (a type or a tuple of
    types). A child that was cancelled counts as one that failed with `asyncio.CancelledError`, never logged.

    Cancelling the future cancels the children, and waits for them to end: as with `asyncio.gather`, and unlike
    Tornado, which leaves them running.

    Raises:
        BadYieldError: at once, if a child cannot be waited for; the other children's awaitables are not left running.
        RuntimeError: where there is no loop, or a child belongs to a different one.

    Example:
        >>> async def double(n):
        ...     return 2 * n
        >>> async def main():
        ...     return await multi([double(1), double(2)]), await multi({"three": double(3)})
        >>> asyncio.run(main())
        ([2, 4], {'three': 6})
    """
    loop = current_loop()
    keys = list(children) if isinstance(children, Mapping) else None
    values = list(children.values() if isinstance(children, Mapping) else children)
    waited = _convert_all(values, loop)
    combined = WaitingFuture(loop=loop)
    hide_creator(combined)
    pending = combined.pending
    pending.update(child for child in waited if not isinstance(child, Moment) and not child.done())

    def on_done(child: AnyFuture[Any]) -> None:
        if child not in pending:
            return  # it runs in a thread, and `cancel` gave it up
        pending.discard(child)
        if not pending:
            _combine(combined, keys, waited, quiet_exceptions)

    if pending:
        for child in list(pending):
            call_when_done(loop, child, on_done)
    else:
        _combine(combined, keys, waited, quiet_exceptions)
    return combined


#: `multi` under the two other names that it has had.
Multi = multi_future = multi


def _convert_all(values: list[Any], loop: asyncio.AbstractEventLoop) -> list[AnyFuture[Any] | Moment]:
    converted: list[AnyFuture[Any] | Moment] = []
    try:
        for value in values:
            converted.append(future_to_wait_for(value, loop))
    except BaseException:
        # Nobody will hear of these: neither of the tasks just started, nor of the coroutines that never will be.
        for value, future in zip(values, converted, strict=False):
            if future is not value and not isinstance(future, Moment):
                future.cancel()
        for value in values[len(converted) :]:
            if inspect.iscoroutine(value):
                value.close()
        raise
    return converted


def _combine(
    combined: WaitingFuture,
    keys: list[Any] | None,
    children: list[AnyFuture[Any] | Moment],
    quiet_exceptions: QuietExceptions,
) -> None:
    """All `children` are done: complete `combined` with their results or the first exception."""
    results = []
    first: BaseException | None = None
    for child in children:
        if not child.done():
            continue  # given up
        try:
            results.append(child.result())
        except BaseException as exc:  # noqa: BLE001 - it is passed on, or logged
            if first is None and not combined.cancel_requested:
                first = without_own_frame(exc)
            elif not isinstance(exc, asyncio.CancelledError | futures.CancelledError) and not isinstance(
                exc, quiet_exceptions
            ):
                logger.error("another exception among those waited for together", exc_info=exc)
    if combined.end_cancelled():
        return
    if first is not None:
        combined.set_exception(settable(first))
    elif keys is not None:
        combined.set_result(dict(zip(keys, results, strict=True)))
    else:
        combined.set_result(results)


def without_own_frame(exc: BaseException) -> BaseException:
    """`exc`, just caught, without the traceback entry of the frame that caught it.

    Tracebacks then show the user's code alone, and the frame, which may hold the very future that `exc` goes to, is not
    kept in a reference cycle.
    """
    if exc.__traceback__ is not None:
        exc.__traceback__ = exc.__traceback__.tb_next
    return exc


def without_package_frames(exc: BaseException) -> BaseException:
    """`exc` without the traceback entries of this package that come before any of the user's.

    The frames of those entries also hold the frames that called them, and so make the same kind of cycle.
    """
    entry = exc.__traceback__
    while entry is not None and entry.tb_frame.f_code.co_filename.startswith((PACKAGE, functools.__file__)):
        entry = entry.tb_next
    exc.__traceback__ = entry
    return exc
