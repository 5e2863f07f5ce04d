"""Coroutines written as generators, under the names of `tornado.gen`.

A function decorated with `coroutine` runs until it yields something that is not there yet, lets the event loop go on
with everything else, and is resumed with the result. Calling it returns an `asyncio.Future`, so every other style can
wait for it: `await` it, give it a callback, hand it to `asyncio.gather`, or yield it from another coroutine.

    >>> import asyncio
    >>> from aioxide import gen
    >>> @gen.coroutine
    ... def double(n):
    ...     yield gen.sleep(0.001)
    ...     raise gen.Return(2 * n)         # in Python 2 a generator could not return a value
    >>> @gen.coroutine
    ... def main():
    ...     one = yield double(1)           # a future, and so another coroutine's
    ...     two, three = yield [double(2), double(3)]                 # side by side
    ...     four = yield {"four": double(4)}
    ...     yield                           # one turn of the loop
    ...     native = yield asyncio.sleep(0.001, result="awaited")     # any awaitable
    ...     return one, two, three, four, native
    >>> async def run():
    ...     return await main()
    >>> asyncio.run(run())
    (2, 4, 6, {'four': 8}, 'awaited')

What Tornado 6 does is done here, on any asyncio loop and without Tornado. What differs is better defined here:

- Cancelling a coroutine's future stops the coroutine, as cancelling a task does: what it waits for is cancelled if it
  can be, `asyncio.CancelledError` is raised at its `yield`, its `finally` blocks run (and may yield), and the future
  is cancelled when it has ended. In Tornado the future is cancelled at once and the coroutine runs on unseen.
- Cancelling the future of `multi` or `with_timeout` cancels what it waits for.
- Whatever goes wrong in converting what was yielded is raised into the coroutine, not only `BadYieldError`; and so is
  the mistake to yield a future of another loop.
- A future of an executor may be used wherever a future may: nothing runs in the executor's thread.
"""

from __future__ import annotations

import asyncio
import collections
import contextvars
import datetime as dt
import functools
import inspect
import time
from collections.abc import Callable, Coroutine, Generator
from typing import Any, ParamSpec, TypeVar, overload

from ._gen_runner import CoroutineFuture, Return, Runner, cancel_message
from ._gen_yielding import (
    BadYieldError,
    Moment,
    Multi,
    QuietExceptions,
    WaitingFuture,
    convert_yielded,
    future_to_wait_for,
    moment,
    multi,
    multi_future,
    without_own_frame,
)
from .concurrent import (
    AnyFuture,
    ReturnValueIgnoredError,
    call_when_done,
    copy_outcome,
    current_loop,
    future_set_result_unless_cancelled,
    hide_creator,
    is_future,
    logger,
    new_future,
)

__all__ = [
    "BadYieldError",
    "KeyReuseError",
    "LeakedCallbackError",
    "Multi",
    "Return",
    "ReturnValueIgnoredError",
    "Runner",
    "TimeoutError",
    "UnknownKeyError",
    "WaitIterator",
    "convert_yielded",
    "coroutine",
    "is_coroutine_function",
    "maybe_future",
    "moment",
    "multi",
    "multi_future",
    "sleep",
    "with_timeout",
]

_T = TypeVar("_T")
_P = ParamSpec("_P")

#: What `with_timeout` raises: Python's own `TimeoutError`, as is `asyncio.TimeoutError`, and Tornado's since 6.2.
TimeoutError = asyncio.TimeoutError  # noqa: A001 - Tornado's name


class KeyReuseError(Exception):
    """Kept, as in Tornado, so that old `except` clauses still import; nothing raises it."""


class UnknownKeyError(Exception):
    """Kept, as in Tornado, so that old `except` clauses still import; nothing raises it."""


class LeakedCallbackError(Exception):
    """Kept, as in Tornado, so that old `except` clauses still import; nothing raises it."""


@overload
def coroutine(func: Callable[_P, Generator[Any, Any, _T]]) -> Callable[_P, asyncio.Future[_T]]: ...


@overload
def coroutine(func: Callable[_P, Coroutine[Any, Any, _T]]) -> Callable[_P, asyncio.Future[_T]]: ...


@overload
def coroutine(func: Callable[_P, _T]) -> Callable[_P, asyncio.Future[_T]]: ...


def coroutine(func: Callable[..., Any]) -> Callable[..., asyncio.Future[Any]]:
    """Make a generator function a coroutine: called, it returns an `asyncio.Future` for what the generator returns.

    The generator begins to run at the call, without a turn of the loop, and runs until it yields what is not done yet.
    `convert_yielded` tells what it may yield. It runs in a copy of its caller's context (`contextvars`), the same one
    from beginning to end. An exception that it raises goes into the future, also one raised at once; so do wrong
    arguments. A function that is no generator may be decorated too: what it returns or raises goes into the future. If
    that is a coroutine object, as of an `async def` function, it is awaited.

    Cancelling the future works as for a task: if the coroutine waits for something, that is asked to cancel, and
    `asyncio.CancelledError` is raised at the `yield` when it has ended (at once if it cannot be cancelled: a call that
    an executor is running is left to itself). The future is cancelled when the coroutine has ended by that
    exception; a coroutine that catches it goes on, and what it returns is the result. Use `asyncio.shield` around what
    is shared with others.

    Must be called in the thread of the loop; a loop need not be running as long as the coroutine does not wait, or
    yields a future whose loop is known.

    Raises:
        TypeError: on decorating an asynchronous generator function.
        RuntimeError: from the call, if the coroutine has to wait and there is no loop to wait on.

    Example:
        >>> @coroutine
        ... def answer():
        ...     value = yield asyncio.sleep(0, result=41)
        ...     return value + 1
        >>> async def main():
        ...     return await answer()
        >>> asyncio.run(main())
        42
    """
    if inspect.isasyncgenfunction(func):
        raise TypeError(f"{func!r} is an asynchronous generator function: iterate it with `async for`")

    @functools.wraps(func)
    def wrapper(*args: Any, **kwargs: Any) -> asyncio.Future[Any]:
        ctx_run = contextvars.copy_context().run
        try:
            generator = ctx_run(func, *args, **kwargs)
            if isinstance(generator, Coroutine):
                generator = _wait_for(generator)
            if not isinstance(generator, Generator):
                return _done(generator)
            # Most calls in busy code find all they need there already, so waiting is prepared for only at need.
            yielded = ctx_run(next, generator)
        except (StopIteration, Return) as end:
            return _done(end.value)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as exc:  # noqa: BLE001 - it goes into the future
            return _failed(without_own_frame(exc))
        return _waiting(ctx_run, generator, yielded)

    wrapper.__dict__["__tornado_coroutine__"] = True
    return wrapper


def _wait_for(awaitable: object) -> Generator[object, Any, Any]:
    return (yield awaitable)


def _done(value: Any) -> asyncio.Future[Any]:
    future = new_future()
    future.set_result(value)
    return future


def _failed(exc: BaseException) -> asyncio.Future[Any]:
    future = new_future()
    if isinstance(exc, asyncio.CancelledError):
        future.cancel(cancel_message(exc))
    else:
        future.set_exception(exc)
    return future


def _waiting(ctx_run: Callable[..., Any], generator: Generator[Any, Any, Any], yielded: Any) -> asyncio.Future[Any]:
    loop = asyncio._get_running_loop()
    if loop is None:
        # A future made for a loop that does not run yet tells which; anything else needs one set for the thread.
        try:
            loop = yielded.get_loop() if asyncio.isfuture(yielded) else current_loop()
        except RuntimeError:
            ctx_run(generator.close)
            raise
    future = CoroutineFuture(loop=loop)
    hide_creator(future)
    try:
        Runner(ctx_run, generator, future, yielded)
        return future
    finally:
        del future, generator, yielded  # as in Runner


def is_coroutine_function(func: Any) -> bool:
    """Whether `func` was made by `coroutine`, be it this one or Tornado's.

    Example:
        >>> is_coroutine_function(coroutine(print)), is_coroutine_function(print)
        (True, False)
    """
    return bool(getattr(func, "__tornado_coroutine__", False))


def maybe_future(x: Any) -> AnyFuture[Any]:
    """`x` itself if it is a future of either kind, else a done future with `x` as its result.

    Other awaitables count as values here, which is seldom wanted: `convert_yielded` takes all that can be waited for.

    Example:
        >>> maybe_future("value").result()
        'value'
    """
    return x if is_future(x) else _done(x)


def sleep(duration: float) -> asyncio.Future[None]:
    """A future that is done with None after `duration` seconds; at the loop's next turn if that is not above 0.

    The time runs from the call. Must be called in the loop's thread; `RuntimeError` where there is no loop.
    Cancelling the future cancels its timer.

    Example:
        >>> async def main():
        ...     return await sleep(0.001)
        >>> asyncio.run(main())
    """
    loop = current_loop()
    future: asyncio.Future[None] = asyncio.Future(loop=loop)
    hide_creator(future)
    timer = loop.call_later(duration, future_set_result_unless_cancelled, future, None)
    future.add_done_callback(lambda _: timer.cancel())
    return future


# Numbers from here on, 9 September 2001, are moments; the clock that counts from 1970 has long passed it, and no
# timeout is 31 years.
_FIRST_MOMENT = 1e9


def _seconds_until(timeout: float | dt.timedelta) -> float:
    if isinstance(timeout, dt.timedelta):
        return timeout.total_seconds()
    return timeout - time.time() if timeout >= _FIRST_MOMENT else timeout


def with_timeout(
    timeout: float | dt.timedelta,
    future: Any,
    quiet_exceptions: QuietExceptions = (),
    *,
    message: str | Callable[[], str] | None = None,
) -> asyncio.Future[Any]:
    """A future that ends as `future` does, or with `TimeoutError` if that takes too long.

    The timeout does not cancel `future`, which can be waited for again (`asyncio.wait_for` cancels). If it fails after
    the timeout, the exception is logged unless it is an instance of `quiet_exceptions`, a type or tuple of types, or a
    cancellation. Cancelling the future returned does cancel `future`.

    Must be called in the loop's thread.

    Args:
        timeout: a `dt.timedelta` from now; or a number: seconds from now, or, from 10**9 on, a moment of
            `time.time()`. (In Tornado a number is always such a moment. It is never one of `loop.time()`.)
        future: anything that can be yielded.
        quiet_exceptions: what not to log when it comes too late.
        message: of the `TimeoutError`, or a function that makes it when it is needed.

    Raises:
        BadYieldError: if `future` cannot be waited for.
        RuntimeError: where there is no loop.

    Example:
        >>> async def main():
        ...     slow = sleep(60)
        ...     try:
        ...         await with_timeout(dt.timedelta(milliseconds=1), slow)
        ...     except TimeoutError as error:
        ...         return str(error), slow.cancel()
        >>> asyncio.run(main())
        ('timed out', True)
    """
    loop = current_loop()
    waited = future_to_wait_for(future, loop)
    result = WaitingFuture(loop=loop)
    hide_creator(result)
    if isinstance(waited, Moment):
        result.set_result(None)
        return result
    if waited.done():
        copy_outcome(waited, result)
        return result
    result.pending.add(waited)
    # Emptied by the timeout: `waited` may live on for long, and must not keep alive what nobody waits for any more.
    outstanding = [result]

    def on_timeout() -> None:
        if outstanding[0].cancel_requested:
            return  # whoever asked for that waits for it
        late = outstanding.pop()
        late.pending.clear()
        if late.done():
            return
        try:
            text = message() if callable(message) else message
        except Exception as exc:  # noqa: BLE001 - whoever waits must hear of it
            late.set_exception(exc)
        else:
            late.set_exception(TimeoutError("timed out" if text is None else text))

    timer = loop.call_later(max(0.0, _seconds_until(timeout)), on_timeout)

    def on_done(done: AnyFuture[Any]) -> None:
        timer.cancel()
        if outstanding:
            in_time = outstanding.pop()
            in_time.pending.clear()
            if done.cancelled():
                in_time.cancel(in_time.cancel_message)
            elif not in_time.done():
                copy_outcome(done, in_time)
            else:
                done.exception()  # has been seen with this: the cancellation comes in its place
        elif not done.cancelled():
            exc = done.exception()
            if exc is not None and not isinstance(exc, quiet_exceptions):
                logger.error("exception in %r after its timeout", done, exc_info=exc)

    call_when_done(loop, waited, on_done)
    return result


class WaitIterator:
    """Gives the results of several futures as they come, and tells which one each is from.

    Made of futures, or anything else that can be yielded, all by position or all by keyword:

        >>> @coroutine
        ... def main():
        ...     iterator = WaitIterator(slow=sleep(0.1), quick=asyncio.sleep(0, result="first"))
        ...     while not iterator.done():
        ...         try:
        ...             result = yield iterator.next()
        ...         except OSError as error:
        ...             print(error, "from", iterator.current_index)
        ...         else:
        ...             print(result, "from", iterator.current_index)
        >>> async def run():
        ...     await main()
        >>> asyncio.run(run())
        first from quick
        None from slow

    It is an asynchronous iterator as well: `async for result in WaitIterator(...)`, which ends at the first exception.

    A future given twice gives its result twice. Must be used in the loop's thread.

    Attributes:
        current_index: the position or keyword of the future whose result came last; None before the first and
            once `done` has said so.
        current_future: that future (for an awaitable that was no future, the task that runs it), or None.

    Raises:
        ValueError: if futures are given both by position and by keyword.
        BadYieldError: if something given cannot be waited for, or is None.
        RuntimeError: where there is no loop, or a future belongs to a different one.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        if args and kwargs:
            raise ValueError("give a WaitIterator its futures by position or by keyword, not both")
        self.current_index: int | str | None = None
        self.current_future: AnyFuture[Any] | None = None
        self._indices: dict[AnyFuture[Any], collections.deque[int | str]] = {}
        self._finished: collections.deque[AnyFuture[Any]] = collections.deque()
        self._next: asyncio.Future[Any] | None = None
        named: list[tuple[int | str, Any]] = [*kwargs.items()] if kwargs else [*enumerate(args)]
        loop = current_loop()
        for index, value in named:
            future = future_to_wait_for(value, loop)
            if isinstance(future, Moment):
                raise BadYieldError(f"a WaitIterator was given {value!r}, which gives no result to wait for")
            self._indices.setdefault(future, collections.deque()).append(index)
        for future, indices in self._indices.items():
            for _ in indices:
                if future.done():
                    self._finished.append(future)
                else:
                    call_when_done(loop, future, self._on_done)

    def done(self) -> bool:
        """Whether every result has been given."""
        if self._indices:
            return False
        self.current_index = self.current_future = None
        return True

    def next(self) -> asyncio.Future[Any]:
        """A future for the next result. It is not one of those given, and may be cancelled without losing a result.

        Only one may be waited for at a time: the next call cancels an earlier one that is pending.

        Raises:
            RuntimeError: if every result has been given.
        """
        if not self._indices:
            raise RuntimeError("every result of this WaitIterator has been given")
        if self._next is not None:
            self._next.cancel()
            self._next = None
        following = new_future()
        if self._finished:
            self._give(self._finished.popleft(), following)
        else:
            self._next = following
        return following

    def _on_done(self, future: AnyFuture[Any]) -> None:
        following, self._next = self._next, None
        if following is None or following.done():
            self._finished.append(future)
        else:
            self._give(future, following)

    def _give(self, future: AnyFuture[Any], following: asyncio.Future[Any]) -> None:
        indices = self._indices[future]
        self.current_future = future
        self.current_index = indices.popleft()
        if not indices:
            del self._indices[future]
        copy_outcome(future, following)

    def __aiter__(self) -> WaitIterator:
        return self

    def __anext__(self) -> asyncio.Future[Any]:
        if self.done():
            raise StopAsyncIteration
        return self.next()
