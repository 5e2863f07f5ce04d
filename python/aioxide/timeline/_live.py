"""Live numbers of this process for `aioxide top`: a socket in a private folder, served by a thread of its own.

A question is an empty line, the answer a line of JSON. What belongs to a loop is gathered by the loop itself; one that
does not answer in time is frozen, and is shown with its stack.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import json
import os
import socketserver
import stat
import sys
import tempfile
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from .. import _freeze, _native, _waits
from .._event_loop import EventLoop, open_loops

__all__ = ["runtime_folder", "serve", "socket_path"]

# So long a loop may take to answer until it is shown as frozen.
_PATIENCE_S: Final = 0.25
# Of so many tasks the waits are looked up; all are counted.
_WAITS_MAX: Final = 2000
_GROUPS_MAX: Final = 100
_FREEZES_KEPT: Final = 50


def runtime_folder() -> Path:
    """The folder of the sockets, which nobody but this user may enter. It is made if it is missing.

    Raises `PermissionError` if what is there belongs to somebody else, or others may enter it.
    """
    base = os.environ.get("XDG_RUNTIME_DIR")
    folder = Path(base, "aioxide") if base else Path(tempfile.gettempdir(), f"aioxide-{os.getuid()}")
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700, parents=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise PermissionError(f"{folder} is not a folder of this user's alone: sockets in it would not be private")
    return folder


def socket_path(pid: int) -> Path:
    """Where the process `pid` of this user would serve its numbers."""
    return runtime_folder() / f"{pid}.sock"


def serve() -> Callable[[], None]:
    """Let `aioxide top` look at this process; gives a function that ends that. Only its user can reach the socket.

    The environment variable ``AIOXIDE_TOP=1`` does the same when the first loop is made. A forked child does not serve.

    Raises `OSError` if the socket cannot be made, and `PermissionError` if its folder is not private. Called again, it
    changes nothing.

    >>> stop = serve()
    >>> stop()
    """
    global _server
    with _lock:
        if _server is None:
            _server = _Server(socket_path(os.getpid()))
        server = _server

    def stop() -> None:
        global _server
        with _lock:
            if _server is server:
                _server = None
                server.end()

    return stop


_lock = threading.Lock()
_server: _Server | None = None


class _Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, path: Path) -> None:
        self.path = path
        self.process = os.getpid()
        self.freezes: deque[dict[str, Any]] = deque(maxlen=_FREEZES_KEPT)
        self.pending: dict[EventLoop, _Question] = {}
        # A socket of our own number is that of a process that is gone.
        path.unlink(missing_ok=True)
        before = os.umask(0o177)
        try:
            super().__init__(os.fspath(path), _Handler)
        finally:
            os.umask(before)
        self.remove_hook = _freeze.on_freeze(self.note)
        self.thread = threading.Thread(target=self.serve_forever, name="aioxide-top", daemon=True)
        self.thread.start()

    def note(self, freeze: _freeze.Freeze) -> None:
        place = [*freeze.stack[-1]] if freeze.stack else None
        self.freezes.append(
            {
                "at_s": time.time(),
                "lasted_s": freeze.duration_s,
                "who": freeze.task or freeze.callback,
                "verdict": freeze.verdict,
                "is_own_fault": freeze.is_own_fault,
                "place": place,
            }
        )

    def end(self) -> None:
        self.remove_hook()
        self.shutdown()
        self.thread.join()
        self.server_close()
        self.path.unlink(missing_ok=True)

    def state(self, since_ns: int) -> dict[str, Any]:
        now = time.monotonic_ns()
        loops = [loop for loop in open_loops() if loop.is_running()]
        for loop in self.pending.keys() - set(loops):
            self.pending.pop(loop, None)
        questions = [self.ask(loop) for loop in loops]
        deadline = time.monotonic() + _PATIENCE_S
        return {
            "pid": os.getpid(),
            "program": sys.orig_argv,
            "python": sys.version.split()[0],
            "at_ns": now,
            "level": _native.timeline_level(),
            "usage": _native.timeline_usage(max(since_ns, now - 10_000_000_000))[:_GROUPS_MAX],
            "loops": [question.answer(deadline) for question in questions],
            "freezes": list(self.freezes),
        }

    def ask(self, loop: EventLoop) -> _Question:
        pending = self.pending.get(loop)
        if pending is None or pending.is_done.is_set():
            pending = self.pending[loop] = _Question(loop)
        return pending


class _Handler(socketserver.StreamRequestHandler):
    server: _Server

    def handle(self) -> None:
        since = time.monotonic_ns() - 1_000_000_000
        # Who looks may go away at any moment.
        with contextlib.suppress(ConnectionError):
            while self.rfile.readline(64):
                state = self.server.state(since)
                since = state["at_ns"]
                self.wfile.write(json.dumps(state, separators=(",", ":")).encode() + b"\n")


class _Question:
    """What a loop is asked, and answers when it comes to it."""

    def __init__(self, loop: EventLoop) -> None:
        self.loop = loop
        self.asked = time.monotonic()
        self.is_done = threading.Event()
        self.facts: dict[str, Any] = {}
        with contextlib.suppress(RuntimeError):  # it was closed meanwhile
            loop.call_soon_threadsafe(self.gather)

    def gather(self) -> None:
        try:
            numbers = self.loop.statistics()
            self.facts = {"numbers": numbers, **_tasks(self.loop)}
        finally:
            self.is_done.set()

    def answer(self, deadline: float) -> dict[str, Any]:
        self.is_done.wait(max(0.0, deadline - time.monotonic()))
        ident = self.loop._thread_id
        names = {thread.ident: thread.name for thread in threading.enumerate()}
        facts: dict[str, Any] = {"id": id(self.loop), "thread": names.get(ident, f"thread {ident}")}
        if self.is_done.is_set():
            return facts | self.facts
        frame = sys._current_frames().get(ident) if ident is not None else None
        return facts | {"silent_s": time.monotonic() - self.asked, "stack": _freeze.stack_of(frame)[-8:]}


def _tasks(loop: asyncio.AbstractEventLoop) -> dict[str, Any]:
    """The loop's tasks by coroutine, and what those of each wait for."""
    tasks = asyncio.all_tasks(loop)
    counts: Counter[str] = Counter()
    waits: dict[str, Counter[str]] = {}
    for number, task in enumerate(tasks):
        coroutine: Any = task.get_coro()
        name = getattr(coroutine, "__qualname__", None) or repr(coroutine)
        counts[name] += 1
        if number < _WAITS_MAX:
            waits.setdefault(name, Counter())[_waits.of_task(task) or "ready"] += 1
    groups = [
        {"name": name, "count": count, "waits": waits.get(name, Counter()).most_common(4)}
        for name, count in counts.most_common(_GROUPS_MAX)
    ]
    return {"task_count": len(tasks), "groups": groups}


def _forget_after_fork() -> None:
    """The child has the socket, but no thread that serves it."""
    global _server, _lock
    _lock = threading.Lock()
    if _server is not None:
        _server.remove_hook()
        _server.socket.close()
        _server = None


def _end_with_process() -> None:
    server = _server
    if server is not None and server.process == os.getpid():
        server.path.unlink(missing_ok=True)


os.register_at_fork(after_in_child=_forget_after_fork)
# The thread is left to the interpreter's end; only the file would stay.
atexit.register(_end_with_process)
