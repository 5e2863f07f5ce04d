"""Servers that the tests start, and that never outlive them."""

from __future__ import annotations

import os
import pwd
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS_MAX = 30.0
STOP_SECONDS_MAX = 15.0


def free_port() -> int:
    """A TCP port of the loopback that nobody listened on a moment ago."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def accepts(port: int) -> bool:
    """Whether somebody listens on a port of the loopback."""
    with socket.socket() as sock:
        sock.settimeout(1)
        return sock.connect_ex(("127.0.0.1", port)) == 0


def wait_until(condition: Callable[[], object], what: str, seconds: float = START_SECONDS_MAX) -> None:
    """Return when `condition` holds; raise `TimeoutError` naming `what` if it does not within `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} did not come true within {seconds} seconds")
        time.sleep(0.02)


def alive_in_session(session: int) -> list[int]:
    """The processes of a session that have not ended (those that nobody has reaped yet have)."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            state, _parent, _group, its_session = (entry / "stat").read_text().rpartition(")")[2].split()[:4]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(its_session) == session and state not in "ZX":
            found.append(int(entry.name))
    return found


class Server:
    """A running server process, the leader of a session of its own, and what it wrote."""

    def __init__(self, process: subprocess.Popen[bytes], log: IO[bytes]) -> None:
        self.process = process
        self._log = log

    def log(self) -> str:
        """What the server has written to its standard output and error so far."""
        return os.pread(self._log.fileno(), 1 << 20, 0).decode(errors="replace")

    def running(self) -> bool:
        return self.process.poll() is None

    def stop(self, stop_signal: int) -> int:
        """Ask the leader to end; give back its exit status. Raises `TimeoutError` if it does not end."""
        if self.running():
            self.process.send_signal(stop_signal)
        try:
            return self.process.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            raise TimeoutError(f"{self.process.args!r} ignores signal {stop_signal}; it wrote:\n{self.log()}") from None

    def destroy(self) -> None:
        """End everything that is left of the session."""
        for pid in alive_in_session(self.process.pid):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self.process.wait()
        wait_until(lambda: not alive_in_session(self.process.pid), "the end of the killed processes", 10)


@contextmanager
def serving(
    command: Sequence[str | Path],
    ready: Callable[[], object],
    *,
    cwd: Path = ROOT,
    env: Mapping[str, str] | None = None,
    user: str | None = None,
    stop_signal: int = signal.SIGTERM,
    status: int = 0,
) -> Iterator[Server]:
    """Run a server while the body runs, from when `ready()` holds until it has ended with `status`.

    Whatever happens, nothing that it started lives on. A server that leaves processes behind fails the test.
    """
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            [os.fspath(each) for each in command],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=cwd,
            env={**os.environ, **(env or {})},
            user=user,
            group=None if user is None else pwd.getpwnam(user).pw_gid,
            extra_groups=None if user is None else [],
            start_new_session=True,
        )
        server = Server(process, log)
        try:
            wait_until(lambda: ready() or not server.running(), f"the start of {command[0]}")
            assert server.running(), f"{command} ended with {process.returncode}; it wrote:\n{server.log()}"
            yield server
            assert server.stop(stop_signal) == status, server.log()
            wait_until(lambda: not alive_in_session(process.pid), "the end of the server's processes", 10)
        except BaseException:
            sys.stderr.write(server.log())
            raise
        finally:
            server.destroy()


def run_program(program: Path, *args: str, seconds: float = 60, env: Mapping[str, str] | None = None) -> str:
    """Run a Python program in an interpreter of its own, and give what it printed.

    It must end with status 0, leave no process behind and write nothing to standard error.
    """
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-W", "error::ResourceWarning", program, *args],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, **(env or {})},
        start_new_session=True,
    )
    try:
        output, errors = process.communicate(timeout=seconds)
        left = alive_in_session(process.pid)
    finally:
        for pid in alive_in_session(process.pid):
            os.kill(pid, signal.SIGKILL)
        if process.poll() is None:
            process.wait()
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                stream.close()
    assert process.returncode == 0, f"ended with {process.returncode}\n{output}\n{errors}"
    assert not errors, errors
    assert not left, f"left behind: {left}"
    return output
