"""`aioxide.run(main, loops=N)`: the same coroutine function on many loops, one for each core.

Where threads run side by side (a free-threaded Python with the GIL off) each loop has a thread, and the first the
calling one. Elsewhere each has a process, which the calling one looks after.
"""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import multiprocessing.connection
import pickle
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Callable, Coroutine
from typing import Any, Literal, Self, TypeAlias, TypeVar

from ._event_loop import EventLoop
from ._run import _here

_T = TypeVar("_T")
Main: TypeAlias = Callable[[], Coroutine[Any, Any, _T]]
Kind: TypeAlias = Literal["threads", "processes"]


def run_many(main: Main[_T], loops: int, kind: Kind | None, debug: bool | None) -> list[_T]:
    """Run `main()` on `loops` loops until all are done, and give their results in order; see `aioxide.run`."""
    if loops < 1:
        raise ValueError(f"loops must be 1 or more, not {loops}")
    if not callable(main):
        raise TypeError(f"with loops=, each loop calls main: give the function itself, not {main!r}")
    if kind not in (None, "threads", "processes"):
        raise ValueError(f"kind must be 'threads' or 'processes', not {kind!r}")
    with contextlib.suppress(RuntimeError):
        asyncio.get_running_loop()
        raise TypeError("aioxide.run() cannot be called from a running event loop")
    if kind is None:
        kind = "processes" if getattr(sys, "_is_gil_enabled", lambda: True)() else "threads"
    return (_run_threads if kind == "threads" else _run_processes)(main, loops, debug)


def _run_one(main: Main[_T], index: int, debug: bool | None, started: Callable[[asyncio.Task[Any]], None]) -> _T:
    """Run `main()` on a loop of this thread; `started` is told of its task."""

    async def begin() -> _T:
        task = asyncio.current_task()
        assert task is not None
        started(task)
        return await main()

    _here.index = index
    try:
        with asyncio.Runner(debug=debug, loop_factory=EventLoop) as runner:
            return runner.run(begin())
    finally:
        del _here.index


class _Outcomes:
    """What has become of each loop."""

    def __init__(self, loops: int) -> None:
        self.results: list[Any] = [None] * loops
        self.errors: list[BaseException] = []
        self.cancelled: asyncio.CancelledError | None = None

    def failed(self, error: BaseException) -> None:
        if not isinstance(error, asyncio.CancelledError):
            self.errors.append(error)
        elif self.cancelled is None:
            self.cancelled = error

    def conclude(self) -> list[Any]:
        """Give the results, or raise what went wrong. Loops that were cancelled for another's sake are no news."""
        for error in self.errors:
            if isinstance(error, (KeyboardInterrupt, SystemExit)):
                raise error
        if len(self.errors) > 1:
            raise BaseExceptionGroup("several loops failed", self.errors)
        if self.errors:
            raise self.errors[0]
        if self.cancelled is not None:
            raise self.cancelled
        return self.results


# -- threads -------------------------------------------------------------------------------------------------------


class _Threads:
    """The loops' tasks, to be cancelled from any thread once one of them has failed."""

    def __init__(self, loops: int) -> None:
        self.outcomes = _Outcomes(loops)
        self._lock = threading.Lock()
        self._tasks: dict[int, asyncio.Task[Any]] = {}
        self._ending = False

    def run(self, main: Main[Any], index: int, debug: bool | None) -> None:
        try:
            self.outcomes.results[index] = _run_one(main, index, debug, lambda task: self._started(index, task))
        except BaseException as error:  # noqa: BLE001 - it is raised in the calling thread
            with self._lock:
                self.outcomes.failed(error)
            self.cancel_all()
        finally:
            with self._lock:
                self._tasks.pop(index, None)

    def _started(self, index: int, task: asyncio.Task[Any]) -> None:
        with self._lock:
            self._tasks[index] = task
            ending = self._ending
        if ending:
            task.cancel()

    def cancel_all(self) -> None:
        """Cancel each task once: what it does in its end is not to be cancelled as well."""
        with self._lock:
            tasks = [] if self._ending else list(self._tasks.values())
            self._ending = True
        for task in tasks:
            # A loop that has ended meanwhile is closed.
            with contextlib.suppress(RuntimeError):
                task.get_loop().call_soon_threadsafe(task.cancel)


def _run_threads(main: Main[_T], loops: int, debug: bool | None) -> list[_T]:
    state = _Threads(loops)
    threads = [
        threading.Thread(target=state.run, args=(main, index, debug), name=f"aioxide-loop-{index}")
        for index in range(1, loops)
    ]
    try:
        for thread in threads:
            thread.start()
        # Signals are the main thread's: there Ctrl-C cancels this one first, and then all.
        state.run(main, 0, debug)
    except BaseException:
        state.cancel_all()
        raise
    finally:
        for thread in threads:
            if thread.ident is not None:
                _join(thread, state)
    return state.outcomes.conclude()


def _join(thread: threading.Thread, state: _Threads) -> None:
    try:
        thread.join()
    except KeyboardInterrupt as error:
        state.outcomes.failed(error)
        state.cancel_all()
        thread.join()


# -- processes -----------------------------------------------------------------------------------------------------

_CANCEL = b"cancel"


def _child(
    main: Main[Any], index: int, debug: bool | None, pipe: multiprocessing.connection.Connection, others: list[Any]
) -> None:
    """The body of a loop's process: it is cancelled by a word of its parent, or by its parent's end."""
    for other in others:
        other.close()
    # Ctrl-C reaches the whole process group; what it means to the loops is for the parent to say.
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if signal.getsignal(signal.SIGTERM) is _nothing:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def started(task: asyncio.Task[Any]) -> None:
        loop = task.get_loop()

        def cancel() -> None:
            loop.remove_reader(pipe.fileno())
            task.cancel()

        loop.add_reader(pipe.fileno(), cancel)

    outcome: tuple[bool, Any]
    try:
        outcome = (True, _run_one(main, index, debug, started))
    except BaseException as error:  # noqa: BLE001 - it is raised in the parent
        error.add_note(f"in the process of loop {index}:\n{''.join(traceback.format_exception(error))}")
        outcome = (False, error)
    with contextlib.suppress(BrokenPipeError):
        pipe.send_bytes(_pickled(outcome, index))


def _pickled(outcome: tuple[bool, Any], index: int) -> bytes:
    try:
        pickled = pickle.dumps(outcome)
        pickle.loads(pickled)
    except Exception as error:  # noqa: BLE001 - whatever it is, the parent is told
        instead = RuntimeError(f"loop {index} ended with what cannot be sent to another process: {outcome[1]!r}")
        instead.add_note(f"because of {error!r}")
        return pickle.dumps((False, instead))
    return pickled


class _Processes:
    """The loops' processes, and the pipes to them."""

    def __init__(self, loops: int, signals: _Signals) -> None:
        self.outcomes = _Outcomes(loops)
        self._signals = signals
        self._running: dict[multiprocessing.connection.Connection, tuple[int, Any]] = {}
        self._ending = False

    def start(self, main: Main[Any], index: int, debug: bool | None) -> None:
        context = multiprocessing.get_context()
        ours, theirs = context.Pipe()
        # A forked child inherits the parent's ends, and would keep the others from noticing the parent's end.
        others = [ours, *self._running] if context.get_start_method() == "fork" else []
        process = context.Process(
            target=_child, args=(main, index, debug, theirs, others), name=f"aioxide-loop-{index}", daemon=True
        )
        with theirs:
            process.start()
        self._running[ours] = (index, process)

    def wait(self) -> None:
        """Take the outcomes as they come; the first failure ends all, and so does a signal."""
        while self._running:
            for ready in multiprocessing.connection.wait([*self._running, self._signals.woken]):
                if isinstance(ready, multiprocessing.connection.Connection):
                    self._ended(ready)
                elif self._signals.take() is not None:
                    if self._ending:
                        # They were asked before: no more patience.
                        self.terminate()
                        return
                    self.cancel_all()

    def _ended(self, pipe: multiprocessing.connection.Connection) -> None:
        index, process = self._running.pop(pipe)
        try:
            succeeded, outcome = pickle.loads(pipe.recv_bytes())
        except (EOFError, ConnectionResetError):
            process.join()
            succeeded, outcome = False, RuntimeError(f"the process of loop {index} {_death(process.exitcode)}")
        pipe.close()
        process.join()
        if succeeded:
            self.outcomes.results[index] = outcome
        else:
            self.outcomes.failed(outcome)
            self.cancel_all()

    def cancel_all(self) -> None:
        self._ending = True
        for pipe in self._running:
            with contextlib.suppress(BrokenPipeError):
                pipe.send_bytes(_CANCEL)

    def terminate(self) -> None:
        for pipe, (_, process) in self._running.items():
            process.terminate()
            process.join()
            pipe.close()
        self._running.clear()


def _death(exit_code: int | None) -> str:
    if exit_code is not None and exit_code < 0:
        return f"was ended by {signal.Signals(-exit_code).name}"
    return f"ended with exit code {exit_code}"


class _Signals:
    """Notes Ctrl-C and SIGTERM while the processes run, where the application has no mind of its own about them.

    A handler that raises could do so anywhere, also where the exception is lost; these only wake the wait.
    """

    def __init__(self) -> None:
        self.woken, self._waker = socket.socketpair()
        self.first: int | None = None
        self._before: dict[int, Any] = {}
        self._wakeup_fd_before = -1

    def __enter__(self) -> Self:
        self.woken.setblocking(False)
        self._waker.setblocking(False)
        if threading.current_thread() is threading.main_thread():
            self._wakeup_fd_before = signal.set_wakeup_fd(self._waker.fileno(), warn_on_full_buffer=False)
            for number, default in ((signal.SIGINT, signal.default_int_handler), (signal.SIGTERM, signal.SIG_DFL)):
                if signal.getsignal(number) == default:
                    self._before[number] = signal.signal(number, _nothing)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if threading.current_thread() is threading.main_thread():
            signal.set_wakeup_fd(self._wakeup_fd_before)
        self.woken.close()
        self._waker.close()

    def take(self) -> int | None:
        """One of the signals that came and are ours, if one did."""
        try:
            numbers = [number for number in self.woken.recv(4096) if number in self._before]
        except BlockingIOError:
            return None
        if numbers and self.first is None:
            self.first = numbers[0]
        return numbers[0] if numbers else None


def _nothing(_signal: int, _frame: object) -> None:
    pass


def _run_processes(main: Main[_T], loops: int, debug: bool | None) -> list[_T]:
    with _Signals() as signals:
        state = _Processes(loops, signals)
        try:
            for index in range(loops):
                state.start(main, index, debug)
            state.wait()
        finally:
            # None is left unless something unforeseen was raised, by a handler of the application for instance.
            state.terminate()
    if signals.first == signal.SIGINT:
        raise KeyboardInterrupt
    if signals.first is not None:
        signal.raise_signal(signals.first)
    return state.outcomes.conclude()
