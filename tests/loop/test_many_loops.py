"""`aioxide.run(main, loops=N)`: many loops in threads or processes, as one program."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import aioxide
from aioxide._many_loops import Kind

KINDS: list[Kind] = ["threads", "processes"]
BOTH = pytest.mark.parametrize("kind", KINDS)
# Processes are forked by default before 3.14, and these tests have threads.
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")


async def who() -> tuple[int, bool]:
    await asyncio.sleep(0)
    assert isinstance(asyncio.get_running_loop(), aioxide.EventLoop)
    return aioxide.loop_index(), threading.current_thread() is threading.main_thread()


@BOTH
def test_results_come_in_order(kind: Kind) -> None:
    results = aioxide.run(who, loops=4, kind=kind)
    assert [index for index, _ in results] == [0, 1, 2, 3]
    # In a process each loop is the main thread's, so that all may handle signals.
    assert [is_main for _, is_main in results] == [True, *([kind == "processes"] * 3)]
    assert aioxide.loop_index() == 0


def test_the_kind_is_what_this_python_runs_side_by_side() -> None:
    assert (len(set(aioxide.run(pid, loops=2))) == 2) == getattr(sys, "_is_gil_enabled", lambda: True)()


async def pid() -> int:
    return os.getpid()


def test_arguments_are_checked() -> None:
    coroutine = who()
    with pytest.raises(TypeError, match="give the function itself"):
        aioxide.run(coroutine, loops=2)  # type: ignore[call-overload]
    coroutine.close()
    with pytest.raises(ValueError, match="1 or more"):
        aioxide.run(who, loops=0)
    with pytest.raises(ValueError, match="'threads' or 'processes'"):
        aioxide.run(who, loops=2, kind="fibres")  # type: ignore[call-overload]

    async def main() -> None:
        with pytest.raises(TypeError, match="running event loop"):
            aioxide.run(who, loops=2)

    aioxide.run(main())


class OddError(Exception):
    pass


async def fail_in_one() -> None:
    if aioxide.loop_index() == 1:
        await asyncio.sleep(0.05)
        raise OddError("one")
    await asyncio.sleep(1000)


@BOTH
def test_the_first_failure_ends_all(kind: Kind) -> None:
    started = time.monotonic()
    with pytest.raises(OddError, match="one"):
        aioxide.run(fail_in_one, loops=3, kind=kind)
    assert time.monotonic() - started < 30


async def fail_in_all() -> None:
    try:
        await asyncio.sleep(0.05 if aioxide.loop_index() == 0 else 1000)
    finally:
        raise OddError(aioxide.loop_index())


@BOTH
def test_several_failures_are_a_group(kind: Kind) -> None:
    with pytest.raises(BaseExceptionGroup) as caught:
        aioxide.run(fail_in_all, loops=3, kind=kind)
    assert Counter(error.args for error in caught.value.exceptions) == Counter([(0,), (1,), (2,)])


async def exit_at_once() -> None:
    if aioxide.loop_index() == 1:
        sys.exit(7)
    await asyncio.sleep(1000)


@BOTH
def test_sys_exit_in_one_ends_all(kind: Kind) -> None:
    with pytest.raises(SystemExit) as caught:
        aioxide.run(exit_at_once, loops=3, kind=kind)
    assert caught.value.code == 7


async def killed() -> None:
    if aioxide.loop_index() == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    await asyncio.sleep(1000)


def test_a_killed_process_ends_the_others() -> None:
    with pytest.raises(RuntimeError, match="loop 1 was ended by SIGKILL"):
        aioxide.run(killed, loops=3, kind="processes")


async def cannot_be_sent() -> Any:
    return lambda: None


def test_what_cannot_be_sent_is_said() -> None:
    with pytest.raises((RuntimeError, BaseExceptionGroup)) as caught:
        aioxide.run(cannot_be_sent, loops=1, kind="processes")
    assert "cannot be sent to another process" in str(caught.value)


PROGRAM = """
import asyncio, os, signal, sys, threading
import aioxide

async def main():
    async def answer(reader, writer):
        writer.write(b"%d" % aioxide.loop_index())
        writer.close()
    server = await asyncio.start_server(answer, "127.0.0.1", PORT, reuse_port=True)
    os.write(1, b"ready\\n")
    try:
        await asyncio.sleep(1000)
    finally:
        server.close()
        await asyncio.sleep(0.02)
        os.write(1, b"ended\\n")

if __name__ == "__main__":
    aioxide.run(main, loops=3, kind=KIND)
"""


def popen(program: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(program)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def start(kind: Kind, port: int, folder: Path) -> subprocess.Popen[str]:
    """The program in a file, since processes that are not forked import it."""
    program = folder / "program.py"
    program.write_text(PROGRAM.replace("PORT", str(port)).replace("KIND", repr(kind)))
    child = popen(program)
    assert child.stdout is not None
    for _ in range(3):
        if child.stdout.readline() != "ready\n":
            os.killpg(child.pid, signal.SIGKILL)
            pytest.fail(str(child.communicate()))
    return child


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@BOTH
def test_loops_share_a_port_and_ctrl_c_ends_them(kind: Kind, tmp_path: Path) -> None:
    port = free_port()
    child = start(kind, port, tmp_path)
    answers: Counter[bytes] = Counter()
    for _ in range(200):
        with socket.create_connection(("127.0.0.1", port), timeout=10) as conn:
            answers[conn.recv(10)] += 1
    assert set(answers) == {b"0", b"1", b"2"}
    # As a terminal does: to the whole process group.
    os.killpg(child.pid, signal.SIGINT)
    output, errors = child.communicate(timeout=30)
    assert output == "ended\n" * 3
    assert errors.rstrip().endswith("KeyboardInterrupt")
    assert errors.count("Traceback") <= 3, errors
    assert child.returncode in (1, -signal.SIGINT)


def test_sigterm_ends_the_processes_first(tmp_path: Path) -> None:
    child = start("processes", free_port(), tmp_path)
    child.send_signal(signal.SIGTERM)
    output, errors = child.communicate(timeout=30)
    assert (output, errors) == ("ended\n" * 3, "")
    assert child.returncode == -signal.SIGTERM


def test_the_end_of_the_parent_ends_the_processes(tmp_path: Path) -> None:
    child = start("processes", free_port(), tmp_path)
    child.kill()
    output, _ = child.communicate(timeout=30)
    assert output == "ended\n" * 3


def test_a_second_ctrl_c_does_not_wait_for_processes_that_go_on(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text("""
import asyncio, os, aioxide
async def main():
    os.write(1, b"ready\\n")
    try:
        await asyncio.sleep(1000)
    finally:
        os.write(1, b"ending\\n")
        await asyncio.sleep(1000)
if __name__ == "__main__":
    aioxide.run(main, loops=2, kind="processes")
""")
    child = popen(program)
    assert child.stdout is not None
    try:
        for word in ("ready\n", "ending\n"):
            assert [child.stdout.readline() for _ in range(2)] == [word] * 2
            os.killpg(child.pid, signal.SIGINT)
        _, errors = child.communicate(timeout=30)
    finally:
        child.kill()
    assert errors.rstrip().endswith("KeyboardInterrupt")
