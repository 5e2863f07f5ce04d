"""The machine inside `gen.coroutine`: one generator, one future, and the way between them."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Generator
from concurrent import futures
from typing import Any

from ._gen_yielding import Moment, future_to_wait_for, without_own_frame, without_package_frames
from .concurrent import AnyFuture, call_when_done, future_set_result_unless_cancelled

_numbers = itertools.count(1)


class Return(Exception):  # noqa: N818 - Tornado's name
    """Raised by a coroutine to return `value`; today's spelling is `return value`.

    As it is an exception, `except Exception` around it catches it. Where the coroutine uses `return` nothing does.

    Example:
        >>> Return(5).value
        5
    """

    def __init__(self, value: Any = None) -> None:
        super().__init__(value)
        self.value = value


class CoroutineFuture(asyncio.Future[Any]):
    """The future of a coroutine that has to wait. Cancelling it asks the coroutine; the rest is `asyncio.Future`."""

    #: Set while the coroutine has not ended.
    runner: Runner | None = None

    def __repr__(self) -> str:
        plain = super().__repr__()
        return plain if self.runner is None else f"{plain[:-1]} of {self.runner!r}>"

    def cancel(self, msg: Any = None) -> bool:
        """Ask the coroutine to stop; False if it has ended already. See `coroutine`."""
        if self.runner is None or self.done():
            return super().cancel(msg)
        return self.runner.cancel(msg)


def cancel_message(exc: asyncio.CancelledError) -> Any:
    """What was given to the `cancel` that raised `exc`."""
    return exc.args[0] if exc.args else None


class Runner:
    """Runs a generator that has yielded once, and completes a future with its outcome. `coroutine` makes these.

    Lives as long as `result_future` or what the generator waits for refers to it. Everything must be called in the
    thread of the future's loop.

    Args:
        ctx_run: calls `ctx_run(function, *args)` in the generator's context: `contextvars.Context.run`.
        gen: the generator.
        result_future: what to complete when it ends.
        first_yielded: what it has yielded.
    """

    __slots__ = (
        "__weakref__",
        "_cancel_message",
        "_error",
        "_must_cancel",
        "_name",
        "ctx_run",
        "finished",
        "future",
        "gen",
        "loop",
        "result_future",
        "running",
    )

    def __init__(
        self,
        ctx_run: Callable[..., Any],
        gen: Generator[Any, Any, Any],
        result_future: asyncio.Future[Any],
        first_yielded: Any,
    ) -> None:
        self.ctx_run = ctx_run
        self.gen = gen
        #: Deleted when the generator ends.
        self.result_future = result_future
        self.loop = result_future.get_loop()
        #: What the generator waits for; None while it runs, and where `_error` is to be raised into it.
        self.future: AnyFuture[Any] | Moment | None = None
        self.running = False
        self.finished = False
        self._error: BaseException | None = None
        # Cancellation was asked for, but what the generator waits for could not pass it on: raise it at the next step.
        self._must_cancel = False
        self._cancel_message: Any = None
        self._name: str | None = None
        if isinstance(result_future, CoroutineFuture):
            result_future.runner = self
        if ctx_run(self.handle_yield, first_yielded):
            # An exception's traceback keeps the frames that led to it: none may keep the future that the exception goes
            # to, nor one that it came from, or the two would wait for the garbage collector. (So elsewhere here.)
            del gen, result_future, first_yielded
            ctx_run(self.run)

    def get_coro(self) -> Generator[Any, Any, Any]:
        """The generator, under the name by which a task gives its coroutine: so a recording shows both alike."""
        return self.gen

    def get_name(self) -> str:
        """A name for messages and recordings, such as `gen-7`; given when it is first asked for."""
        if self._name is None:
            self._name = f"gen-{next(_numbers)}"
        return self._name

    def __repr__(self) -> str:
        frame = getattr(self.gen, "gi_frame", None)
        place = f" at {frame.f_code.co_filename}:{frame.f_lineno}" if frame is not None else ""
        name = getattr(self.gen, "__qualname__", type(self.gen).__qualname__)
        # Not all of the future: it may be that of a coroutine that waits for another one, and so on without end.
        waiting = "" if self.future is None else f" waiting for {type(self.future).__name__}"
        return f"<gen.Runner of {name}(){place}{waiting}>"

    def run(self) -> None:
        """Resume the generator with the outcome of what it waited for, until it has to wait again or ends."""
        if self.running or self.finished:
            return
        self.running = True
        generator = self.gen
        try:
            while True:
                value, error = None, None
                if self.future is None or self._must_cancel:
                    error = self._due_error()
                else:
                    try:
                        value = self.future.result()
                    except BaseException as exc:  # noqa: BLE001 - the generator gets it
                        error = without_own_frame(exc)
                self.future = None
                try:
                    yielded = generator.send(value) if error is None else generator.throw(error)
                except (StopIteration, Return) as end:
                    self._succeed(end.value)
                    return
                except (KeyboardInterrupt, SystemExit) as exc:
                    # As a task does: the waiting ones hear of it, and so does whoever runs the loop.
                    self._fail(exc)
                    raise
                except BaseException as exc:  # noqa: BLE001 - it goes into the future
                    self._fail(without_own_frame(exc))
                    return
                finally:
                    error = None
                if not self.handle_yield(yielded):
                    return
        finally:
            self.running = False

    def _due_error(self) -> BaseException | None:
        """What to raise into the generator where it was cancelled, or nothing could be made of what it yielded."""
        error, self._error = self._error, None
        if not self._must_cancel:
            return error
        self._must_cancel = False
        if isinstance(self.future, asyncio.Future) and self.future.done() and not self.future.cancelled():
            self.future.exception()  # has been seen with this: as with tasks, the cancellation comes in its place
        return asyncio.CancelledError(*(() if self._cancel_message is None else (self._cancel_message,)))

    def handle_yield(self, yielded: Any) -> bool:
        """Begin to wait for what was yielded; tells whether it is there already, and `run` to be called."""
        try:
            future = future_to_wait_for(yielded, self.loop)
            if isinstance(future, Moment):
                self.loop.call_soon(self._wake, future)
            elif future.done():
                self.future = future
                return True
            elif isinstance(future, futures.Future):
                call_when_done(self.loop, future, self._wake)
            else:
                future.add_done_callback(self._wake)
        except BaseException as exc:  # noqa: BLE001 - the generator gets it
            self._error = without_package_frames(exc)
            return True
        self.future = future
        if self._must_cancel:
            # It was cancelled while it ran.
            self._must_cancel = False
            self.cancel(self._cancel_message)
        return False

    def _wake(self, future: AnyFuture[Any] | Moment) -> None:
        if future is self.future:  # and not one that was given up on
            del future
            self.ctx_run(self.run)

    def cancel(self, msg: Any = None) -> bool:
        """Ask the generator to end, as `asyncio.Task.cancel` does; False if it has ended already."""
        if self.finished:
            return False
        self._cancel_message = msg
        future = self.future
        if future is None or isinstance(future, Moment):
            self._must_cancel = True  # it runs, and is told at its next yield; or the next turn tells it
        elif isinstance(future, futures.Future):
            # The executor's thread may be at it and cannot be stopped, so this does not wait for it.
            self._must_cancel = True
            future.cancel()
            self.loop.call_soon(self._wake, future)
        elif not future.cancel(msg):
            self._must_cancel = True  # it is done: its wake-up is on the way
        return True

    def _finish(self) -> asyncio.Future[Any]:
        """Note the end, and let go of the future: the frames in the traceback of its exception refer to this object."""
        self.finished = True
        future = self.result_future
        del self.result_future
        if isinstance(future, CoroutineFuture):
            future.runner = None
        return future

    def _succeed(self, result: Any) -> None:
        future_set_result_unless_cancelled(self._finish(), result)

    def _fail(self, exc: BaseException) -> None:
        future = self._finish()
        if isinstance(exc, asyncio.CancelledError):
            future.cancel(cancel_message(exc))
        elif not future.done():
            future.set_exception(exc)
        else:
            self.loop.call_exception_handler(
                {"message": "exception in a coroutine whose future is done", "exception": exc, "future": future}
            )
