"""Futures: the style between callbacks and coroutines, under the names of `tornado.concurrent`.

A *future* stands for a result that is not there yet. Two kinds are met here: `asyncio.Future`, which belongs to the
thread of its event loop, and `concurrent.futures.Future`, which executors make and which any thread may complete.
`Future` is the first kind. Everything else here takes both and sees to it that no callback of a loop's future
runs outside the loop's thread.

Unless said otherwise the functions must be called in the thread of the loop that they concern.

    >>> import asyncio
    >>> def fetch_length(fetch_future):
    ...     my_future = Future()
    ...     fetch_future.add_done_callback(lambda f: my_future.set_result(len(f.result())))
    ...     return my_future
    >>> async def main():
    ...     body = Future()
    ...     asyncio.get_running_loop().call_later(0.001, body.set_result, b"hello")
    ...     return await fetch_length(body)
    >>> asyncio.run(main())
    5
"""

from __future__ import annotations

import asyncio
import functools
import logging
import os
import sys
from collections.abc import Callable
from concurrent import futures
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar, cast, overload

__all__ = [
    "FUTURES",
    "DummyExecutor",
    "Future",
    "ReturnValueIgnoredError",
    "chain_future",
    "dummy_executor",
    "future_add_done_callback",
    "future_set_exc_info",
    "future_set_exception_unless_cancelled",
    "future_set_result_unless_cancelled",
    "is_future",
    "run_on_executor",
]

_T = TypeVar("_T")

#: Either kind of future, for annotations.
AnyFuture: TypeAlias = "asyncio.Future[_T] | futures.Future[_T]"

logger = logging.getLogger("aioxide")


class ReturnValueIgnoredError(Exception):
    """Kept so that old `except` clauses still import; nothing raises it since Tornado 6.0."""


if sys.version_info >= (3, 14):

    def _thread_loop() -> asyncio.AbstractEventLoop | None:
        """The loop that `asyncio.set_event_loop` gave this thread, or None."""
        try:
            return asyncio.get_event_loop()
        except RuntimeError:
            return None

else:

    def _thread_loop() -> asyncio.AbstractEventLoop | None:
        """The loop that `asyncio.set_event_loop` gave this thread, or None."""
        # Before 3.14 get_event_loop() makes a loop where none was set, which nobody would close. The standard
        # policies, and those derived from them, keep the one that was set in this slot.
        local = getattr(asyncio.get_event_loop_policy(), "_local", None)
        return cast("asyncio.AbstractEventLoop | None", getattr(local, "_loop", None))


def find_loop() -> asyncio.AbstractEventLoop | None:
    """The loop running in this thread, else the open one set by `asyncio.set_event_loop`, else None. Makes none."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        loop = _thread_loop()
    return None if loop is None or loop.is_closed() else loop


def current_loop() -> asyncio.AbstractEventLoop:
    """What `find_loop` finds; `RuntimeError` where it finds none."""
    loop = find_loop()
    if loop is None:
        raise RuntimeError("no event loop is running in this thread, and none was set for it")
    return loop


#: How the names of this package's files begin.
PACKAGE = os.path.dirname(__file__) + os.sep


def hide_creator(future: asyncio.Future[Any]) -> None:
    """In debug mode, let the place where `future` was made be the one that called this package, not one in it."""
    stack = getattr(future, "_source_traceback", None)
    while stack and stack[-1].filename.startswith(PACKAGE):
        del stack[-1]


class _LoopToCome:
    """What a `Future` made outside every loop has for a loop: the real one once known, and a waiting room until then.

    C code of asyncio keeps the loop given to a future's constructor for good and calls only these methods of it.
    """

    __slots__ = ("_loop", "_waiting")

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiting: list[tuple[Callable[..., object], tuple[Any, ...], Any]] = []

    def find(self) -> asyncio.AbstractEventLoop | None:
        if self._loop is None:
            self._loop = find_loop()
            if self._loop is not None:
                waiting, self._waiting = self._waiting, []
                for callback, args, context in waiting:
                    self._loop.call_soon(callback, *args, context=context)
        return self._loop

    def call_soon(self, callback: Callable[..., object], *args: Any, context: Any = None) -> None:
        loop = self.find()
        if loop is None:
            self._waiting.append((callback, args, context))
        else:
            loop.call_soon(callback, *args, context=context)

    def get_debug(self) -> bool:
        # Decides only whether the future notes where it was made.
        return sys.flags.dev_mode if self._loop is None else self._loop.get_debug()

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        if self._loop is not None:
            self._loop.call_exception_handler(context)
        else:
            logger.error("%s: %r", context.get("message"), context.get("future"), exc_info=context.get("exception"))


if TYPE_CHECKING:
    Future = asyncio.Future
else:

    class _FutureType(type):
        """Makes `Future(...)` a plain `asyncio.Future` wherever a loop is running, and isinstance ask for those."""

        def __call__(cls, *args, **kwargs):
            future = None
            if cls is Future and not args:
                loop = kwargs.get("loop")
                if loop is None:
                    loop = asyncio._get_running_loop()
                if loop is not None:
                    # asyncio's tasks have a faster path for exactly this class than for a class derived from it.
                    future = asyncio.Future(loop=loop)
            if future is None:
                future = super().__call__(*args, **kwargs)
            hide_creator(future)
            return future

        def __instancecheck__(cls, instance):
            return isinstance(instance, asyncio.Future) if cls is Future else super().__instancecheck__(instance)

        def __subclasscheck__(cls, subclass):
            return issubclass(subclass, asyncio.Future) if cls is Future else super().__subclasscheck__(subclass)

    class Future(asyncio.Future, metaclass=_FutureType):
        """A result that is not there yet: an `asyncio.Future` that may be made before there is a loop.

        Made while a loop is running in this thread it is a plain `asyncio.Future` of that loop. Made elsewhere it
        belongs to no loop yet, and takes, as `asyncio.Lock` and `asyncio.Queue` do, the first that it meets: the one
        running in the thread, or else set by `asyncio.set_event_loop`, when it is first awaited, yielded, completed
        or given a callback. If it is completed before that, its callbacks wait until it meets one. From then on it
        belongs to that loop, and to its thread.

        Every `asyncio.Future` is an instance of this class, so `isinstance(x, Future)` asks what it asks in Tornado.
        Type checkers see `asyncio.Future` itself.

        Args:
            loop: the loop to belong to from the start.

        Raises:
            RuntimeError: from `get_loop()`, where no loop has been met; and, as with every asyncio future, when it
                is awaited on another loop than its own.

        Example:
            >>> import asyncio
            >>> at_import_time = Future()
            >>> async def main():
            ...     asyncio.get_running_loop().call_soon(at_import_time.set_result, "done")
            ...     return await at_import_time
            >>> asyncio.run(main())
            'done'
        """

        __slots__ = ("_to_come",)

        def __init__(self, *, loop=None):
            if loop is None:
                loop = asyncio._get_running_loop() or _LoopToCome()
            self._to_come = loop if isinstance(loop, _LoopToCome) else None
            super().__init__(loop=loop)

        def get_loop(self):
            """The loop that the future belongs to; `RuntimeError` if it has met none yet."""
            if self._to_come is None:
                return super().get_loop()
            loop = self._to_come.find()
            if loop is None:
                raise RuntimeError("this Future was made outside every event loop and has met none yet")
            return loop

        @property
        def _loop(self):
            # Parts of asyncio that are written in Python read the loop here.
            return self.get_loop()

        def add_done_callback(self, fn, *, context=None):
            """Have the loop call `fn(future)` soon after the future is done; see `asyncio.Future`."""
            if self._to_come is not None:
                self._to_come.find()
            super().add_done_callback(fn, context=context)


def new_future() -> asyncio.Future[Any]:
    """`Future()`, by the shortest way."""
    loop = asyncio._get_running_loop()
    future: asyncio.Future[Any] = Future() if loop is None else asyncio.Future(loop=loop)
    hide_creator(future)
    return future


#: What `is_future` accepts, for use with `isinstance`.
FUTURES = (futures.Future, asyncio.Future)


def is_future(x: object) -> bool:
    """Whether `x` is a future of either kind.

    Example:
        >>> is_future(futures.Future()), is_future(Future()), is_future("soon")
        (True, True, False)
    """
    return isinstance(x, FUTURES)


class DummyExecutor(futures.Executor):
    """An executor that runs each call at once, in the thread that submits it.

    For tests, and for code that takes an executor where none is needed. It has no state and may be used from
    every thread. `shutdown` does nothing: later calls still run.

    Example:
        >>> DummyExecutor().submit(pow, 2, 10).result()
        1024
    """

    def submit(self, fn: Callable[..., _T], /, *args: Any, **kwargs: Any) -> futures.Future[_T]:
        """Call `fn(*args, **kwargs)` now; the future that comes back is done, with its result or its exception."""
        future: futures.Future[_T] = futures.Future()
        try:
            result = fn(*args, **kwargs)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as exc:  # noqa: BLE001 - whatever the call raised is its outcome
            future.set_exception(exc)
        else:
            future.set_result(result)
        try:
            return future
        finally:
            del future  # its exception's traceback holds this frame: no cycle


#: A `DummyExecutor` to share.
dummy_executor = DummyExecutor()


@overload
def run_on_executor(fn: Callable[..., _T], /) -> Callable[..., asyncio.Future[_T]]: ...


@overload
def run_on_executor(*, executor: str = ...) -> Callable[[Callable[..., _T]], Callable[..., asyncio.Future[_T]]]: ...


def run_on_executor(*args: Any, **kwargs: Any) -> Any:
    """Make a blocking method run on an executor of its object and return an `asyncio.Future`.

    Used bare, the method runs on `self.executor`; as `@run_on_executor(executor="name")` on the attribute of that
    name. The method must be called where a loop is running (or set for the thread); the future belongs to that loop.
    Cancelling it takes the call back if the executor has not begun it.

    Raises:
        TypeError: for anything but one function, or the one keyword `executor`.
        RuntimeError: from the method, where there is no loop.

    Example:
        >>> class Files:
        ...     executor = dummy_executor
        ...     @run_on_executor
        ...     def double(self, n):
        ...         return 2 * n
        >>> async def main():
        ...     return await Files().double(21)
        >>> asyncio.run(main())
        42
    """
    attribute = kwargs.pop("executor", "executor")
    if kwargs or len(args) > 1 or (args and not callable(args[0])):
        raise TypeError("run_on_executor takes one function, or the keyword argument executor=<attribute name>")

    def decorate(fn: Callable[..., _T]) -> Callable[..., asyncio.Future[_T]]:
        @functools.wraps(fn)
        def method(self: Any, *args: Any, **kwargs: Any) -> asyncio.Future[_T]:
            loop = current_loop()
            submitted: futures.Future[_T] = getattr(self, attribute).submit(fn, self, *args, **kwargs)
            return asyncio.wrap_future(submitted, loop=loop)

        return method

    return decorate(args[0]) if args else decorate


def call_when_done(loop: asyncio.AbstractEventLoop, future: AnyFuture[_T], callback: Callable[[Any], object]) -> None:
    """Have `loop` call `callback(future)`, in its own thread, soon after a future of either kind is done.

    If the loop is closed by then there is no one left to tell, and nothing is called.
    """
    if not isinstance(future, futures.Future):
        future.add_done_callback(callback)
        return

    def on_done(done: futures.Future[_T]) -> None:
        # In whichever thread completed it.
        try:
            loop.call_soon_threadsafe(callback, done)
        except RuntimeError:
            if not loop.is_closed():
                raise

    future.add_done_callback(on_done)


def chain_future(a: AnyFuture[_T], b: AnyFuture[_T]) -> None:
    """When `a` is done let `b` end the same way: with its result, its exception, or cancelled.

    Either may be of either kind. If `b` is done by itself before, the outcome of `a` is dropped. Cancelling `b` does
    not cancel `a` (see `asyncio.wrap_future` for a link in both directions). If `a` is done already, so is `b` when
    this returns, except where `a` is of the concurrent kind and `b` belongs to a loop: then in the loop's next turn.

    Thread rules: where one of the two belongs to a loop, call this in that loop's thread. Only two
    `concurrent.futures.Future` may be chained anywhere.

    Example:
        >>> source, target = futures.Future(), futures.Future()
        >>> chain_future(source, target)
        >>> source.set_result("through")
        >>> target.result()
        'through'
    """

    def copy(done: AnyFuture[_T]) -> None:
        copy_outcome(done, b)

    if isinstance(a, futures.Future) and not isinstance(b, futures.Future):
        call_when_done(b.get_loop(), a, copy)
    else:
        future_add_done_callback(a, copy)


def copy_outcome(done: AnyFuture[_T], to: AnyFuture[_T]) -> None:
    """End `to` as `done` has ended, if it is not done itself. In the thread of the loop of `to`, if it has one."""
    if to.done():
        return
    if done.cancelled():
        to.cancel()
        return
    exc = done.exception()
    if exc is not None:
        _settle(to, to.set_exception, settable(exc))
    else:
        _settle(to, to.set_result, done.result())


def settable(exc: BaseException) -> BaseException:
    """`exc`, or if an asyncio future would refuse it as its exception, a `RuntimeError` caused by it."""
    if not isinstance(exc, StopIteration):
        return exc
    error = RuntimeError(f"the future's exception was a {type(exc).__name__}, which cannot be raised into a coroutine")
    error.__cause__ = exc
    return error


def _settle(future: AnyFuture[Any], setter: Callable[[Any], None], outcome: object) -> bool:
    """Call `setter(outcome)` and tell whether it took: False if `future` was cancelled, be it this very moment."""
    if future.cancelled():
        return False
    try:
        setter(outcome)
    except futures.InvalidStateError:
        # Another thread may cancel a concurrent future between the question and the call.
        if not future.cancelled():
            raise
        return False
    return True


def future_set_result_unless_cancelled(future: AnyFuture[_T], value: _T) -> None:
    """Complete `future` with `value`, or do nothing if it was cancelled.

    Raises:
        asyncio.InvalidStateError: or `concurrent.futures.InvalidStateError`, by the future's kind, if it is already
            done in another way.

    Example:
        >>> future = futures.Future()
        >>> future.cancel()
        True
        >>> future_set_result_unless_cancelled(future, 1)
    """
    _settle(future, future.set_result, value)


def future_set_exception_unless_cancelled(future: AnyFuture[_T], exc: BaseException) -> None:
    """Complete `future` with the exception `exc`; if it was cancelled, log `exc`, which nobody else would see.

    Raises:
        asyncio.InvalidStateError: or `concurrent.futures.InvalidStateError`, by the future's kind, if it is already
            done in another way.

    Example:
        >>> future = futures.Future()
        >>> future_set_exception_unless_cancelled(future, ValueError("no"))
        >>> future.exception()
        ValueError('no')
    """
    if not _settle(future, future.set_exception, exc):
        logger.error("exception after its future was cancelled", exc_info=exc)


def future_set_exc_info(
    future: AnyFuture[_T], exc_info: tuple[type[BaseException] | None, BaseException | None, TracebackType | None]
) -> None:
    """As `future_set_exception_unless_cancelled`, from a triple as `sys.exc_info()` gives it.

    Raises:
        ValueError: if there is no exception in the triple.

    Example:
        >>> future = futures.Future()
        >>> try:
        ...     1 / 0
        ... except ZeroDivisionError:
        ...     future_set_exc_info(future, sys.exc_info())
        >>> future.exception()
        ZeroDivisionError('division by zero')
    """
    if exc_info[1] is None:
        raise ValueError("future_set_exc_info was given no exception")
    future_set_exception_unless_cancelled(future, exc_info[1])


@overload
def future_add_done_callback(future: futures.Future[_T], callback: Callable[[futures.Future[_T]], object]) -> None: ...


@overload
def future_add_done_callback(future: asyncio.Future[_T], callback: Callable[[asyncio.Future[_T]], object]) -> None: ...


def future_add_done_callback(future: AnyFuture[_T], callback: Callable[..., object]) -> None:
    """Call `callback(future)` when `future` is done: now, if it is done already.

    That "now" is the difference from an asyncio future's own `add_done_callback`, which always waits for the loop's
    next turn. A pending `concurrent.futures.Future` calls in the thread that completes it.

    Example:
        >>> future = futures.Future()
        >>> future.set_result("at once")
        >>> future_add_done_callback(future, lambda f: print(f.result()))
        at once
    """
    if future.done():
        callback(future)
    else:
        future.add_done_callback(callback)
