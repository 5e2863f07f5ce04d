"""`aioxide top`: what the loops of a running program do, live in the terminal.

The program serves its numbers on a socket of its user's (`aioxide.timeline.serve`). What is drawn is plain text with a
few escape sequences, from Python: a terminal library in Rust would be in every wheel for a screen that is drawn once a
second, and could ask the program nothing that this cannot.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import termios
import time
import tty
from collections.abc import Iterator
from typing import Any, BinaryIO, Final

from .._arguments import checked, seconds
from ..timeline._live import runtime_folder, socket_path
from ._screen import fitted, screen

__all__ = ["add_arguments", "execute", "takes_program"]

takes_program = True

# So long a program that was just started may take until it serves.
_START_S: Final = 30.0
# A frozen program, or one whose C code has the GIL, answers late.
_ANSWER_S: Final = 30.0
# The first picture should not be waited for.
_FIRST_S: Final = 0.1
_ENTER: Final = "\x1b[?1049h\x1b[?25l"
_LEAVE: Final = "\x1b[?25h\x1b[?1049l"
_HOME: Final = "\x1b[H"
_REST_OF_LINE: Final = "\x1b[K"
_REST_OF_SCREEN: Final = "\x1b[J"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to a parser."""
    parser.usage = "aioxide top [options] [PID | SCRIPT [ARGUMENT ...] | -m MODULE [ARGUMENT ...]]"
    parser.add_argument(
        "--interval",
        type=checked(seconds),
        default=1.0,
        metavar="DURATION",
        help="how often it is drawn anew (default: 1s)",
    )
    parser.add_argument("--once", action="store_true", help="print one picture after an interval, and end")
    parser.epilog = (
        "PID is a process that was started with `aioxide run --top` or AIOXIDE_TOP=1 in its environment, or called "
        "aioxide.timeline.serve(). A script is run, and shown what it wrote when the look at it is over. "
        "Without either, the processes are listed."
    )


def execute(arguments: argparse.Namespace) -> int:
    """Run the command; returns its exit status."""
    if not arguments.program:
        return _list()
    if not arguments.program[0].isdecimal():
        return _run_and_look(arguments.program, arguments)
    pid = int(arguments.program[0])
    try:
        connection = _connect(pid)
    except OSError as error:
        print(f"aioxide top: {_why_not(pid, error)}", file=sys.stderr)
        return 1
    with connection:
        _look(connection, arguments)
    return 0


def _list() -> int:
    found = 0
    for path in sorted(runtime_folder().glob("*.sock")):
        if path.stem.isdecimal():
            try:
                with _connect(int(path.stem)) as connection, connection.makefile("rwb") as stream:
                    print(f"{path.stem:>8}  {' '.join(_ask(stream)['program'])}")
                    found += 1
            except ConnectionRefusedError:
                path.unlink(missing_ok=True)  # the process was killed
    if not found:
        print("no process serves its numbers: start one with `aioxide run --top`, or AIOXIDE_TOP=1 in its environment")
    return 0


def _why_not(pid: int, error: OSError) -> str:
    if not isinstance(error, (FileNotFoundError, ConnectionRefusedError)):
        return f"process {pid}: {error}"
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return f"there is no process {pid}"
    except PermissionError:
        return f"process {pid} belongs to somebody else"
    return (
        f"process {pid} serves no numbers: start it with `aioxide run --top` or AIOXIDE_TOP=1, "
        "or have it call aioxide.timeline.serve()"
    )


def _connect(pid: int) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(_ANSWER_S)
    try:
        connection.connect(os.fspath(socket_path(pid)))
    except BaseException:
        connection.close()
        raise
    return connection


def _run_and_look(program: list[str], arguments: argparse.Namespace) -> int:
    """Run a program with its output kept, and show that when the look at it is over; gives its exit status."""
    with tempfile.TemporaryFile() as output:
        command = [sys.executable, "-m", "aioxide", "run", "--top", *program]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)
        try:
            connection = _connect_to_started(process)
            if connection is not None:
                with connection:
                    _look(connection, arguments)
        finally:
            _end(process)
            output.seek(0)
            sys.stdout.flush()
            shutil.copyfileobj(output, sys.stdout.buffer)
            sys.stdout.flush()
    return process.returncode


def _connect_to_started(process: subprocess.Popen[bytes]) -> socket.socket | None:
    """None if it ended before."""
    deadline = time.monotonic() + _START_S
    while process.poll() is None:
        try:
            return _connect(process.pid)
        except (FileNotFoundError, ConnectionRefusedError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)
    return None


def _end(process: subprocess.Popen[bytes]) -> None:
    """Whoever leaves the picture leaves the program: it gets a Ctrl-C, and is killed if that is not enough."""
    for number, patience in ((signal.SIGINT, 5.0), (signal.SIGTERM, 2.0), (signal.SIGKILL, None)):
        if process.poll() is not None:
            return
        process.send_signal(number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(patience)


def _ask(stream: Any) -> dict[str, Any]:
    stream.write(b"\n")
    stream.flush()
    answer = stream.readline()
    if not answer:
        raise EOFError
    state: dict[str, Any] = json.loads(answer)
    return state


def _look(connection: socket.socket, arguments: argparse.Namespace) -> None:
    """Draw what the process says until it ends, or the user has enough."""
    with contextlib.suppress(EOFError, ConnectionError), connection.makefile("rwb") as stream:
        before = _ask(stream)
        if arguments.once or not sys.stdout.isatty():
            is_over = False
            while not is_over:
                time.sleep(arguments.interval)
                state = _ask(stream)
                print("\n".join(screen(before, state)), flush=True)
                before, is_over = state, arguments.once
            return
        with _terminal() as keys:
            interval = _FIRST_S
            while not _has_enough(keys, interval):
                state = _ask(stream)
                size = shutil.get_terminal_size()
                lines = fitted(screen(before, state), size.columns, size.lines - 1)
                text = "".join(f"{line}{_REST_OF_LINE}\r\n" for line in lines)
                sys.stdout.write(_HOME + text + _REST_OF_SCREEN)
                sys.stdout.flush()
                before, interval = state, arguments.interval


@contextlib.contextmanager
def _terminal() -> Iterator[BinaryIO | None]:
    """The other screen of the terminal, with keys read as they are pressed."""
    keys: BinaryIO | None = sys.stdin.buffer if sys.stdin.isatty() else None
    settings = termios.tcgetattr(keys.fileno()) if keys else None
    if keys:
        tty.setcbreak(keys.fileno())
    sys.stdout.write(_ENTER)
    try:
        yield keys
    finally:
        sys.stdout.write(_LEAVE)
        sys.stdout.flush()
        if keys and settings:
            termios.tcsetattr(keys.fileno(), termios.TCSADRAIN, settings)


def _has_enough(keys: BinaryIO | None, interval: float) -> bool:
    """Wait for the next picture; whether the user wants no more."""
    if keys is None:
        time.sleep(interval)
        return False
    deadline = time.monotonic() + interval
    while (left := deadline - time.monotonic()) > 0:
        if select.select([keys], [], [], left)[0] and os.read(keys.fileno(), 64)[:1] in (b"q", b"Q", b"\x1b", b""):
            return True
    return False
