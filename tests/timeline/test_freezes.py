"""Known freezes: the cause and the line are right, and what is no freeze is not reported."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import json
import logging
import os
import re
import socket
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import aioxide
from aioxide import timeline
from aioxide.timeline import Freeze

# Long enough that a busy machine does not change what most of the time went to.
LONG_S = 0.5
HAS_GIL = not sysconfig.get_config_var("Py_GIL_DISABLED")


@pytest.fixture
def freezes() -> Iterator[list[Freeze]]:
    seen: list[Freeze] = []
    remove = timeline.on_freeze(seen.append)
    yield seen
    remove()


def time_sleep() -> None:
    time.sleep(LONG_S)  # here


def busy_loop() -> None:
    # By its own time: what a busy machine takes from it is no work of its.
    until = time.thread_time() + LONG_S
    while time.thread_time() < until:  # here
        sum(range(100))  # here


def backtracking() -> None:
    re.match(r"(a+)+$", "a" * 25 + "b")  # here


def connect_to_nobody(address: tuple[str, int]) -> None:
    with pytest.raises(TimeoutError):
        socket.create_connection(address, timeout=LONG_S)  # here


def read_fifo(path: Path) -> None:
    path.read_bytes()  # here


def native_sleep() -> None:
    ctypes.PyDLL(None).usleep(int(LONG_S * 1e6))  # here


def collect() -> None:
    gc.collect()  # here


def take(lock: threading.Lock) -> None:
    with lock:  # here
        pass


def line_marked_here(function: Callable[..., object]) -> set[int]:
    code = function.__code__
    lines = Path(code.co_filename).read_text().splitlines()
    end = max(line for *_, line in code.co_lines() if line)
    return {n for n in range(code.co_firstlineno, end + 1) if lines[n - 1].endswith("# here")}


def frozen_by(freezes: list[Freeze], function: Callable[..., object], *args: object) -> Freeze:
    """The freeze that a task's call of `function` makes."""

    async def main() -> None:
        await asyncio.sleep(0.01)
        function(*args)
        await asyncio.sleep(0.01)

    aioxide.run(main(), debug=False)
    longest = max(freezes, key=lambda freeze: freeze.duration_s)
    assert longest.task is not None and longest.task.endswith("main)"), longest
    where = [line for file, line, name in longest.stack if name == function.__name__]
    assert where and set(where) <= line_marked_here(function), longest
    return longest


def test_time_sleep(freezes: list[Freeze]) -> None:
    freeze = frozen_by(freezes, time_sleep)
    assert (freeze.cause, freeze.syscall) == ("system call", "sleep"), freeze
    assert LONG_S <= freeze.duration_s < LONG_S + 5
    assert "a blocking system call (sleep)" in str(freeze)


def test_busy_loop(freezes: list[Freeze]) -> None:
    assert frozen_by(freezes, busy_loop).cause == "cpu", freezes


@pytest.mark.skipif(not HAS_GIL, reason="no GIL to hold")
def test_native_code_that_computes(freezes: list[Freeze]) -> None:
    assert frozen_by(freezes, backtracking).cause == "native code", freezes


@pytest.mark.skipif(not HAS_GIL, reason="no GIL to hold")
def test_native_code_that_makes_many_objects() -> None:
    """In a process of its own: in that of all tests the look inside came when the call was over."""
    program = """
import asyncio, json, aioxide
from aioxide import timeline
def big_json():
    json.loads(text)
async def main():
    await asyncio.sleep(0.01)
    big_json()
text = json.dumps([{"number": n} for n in range(2_000_000)])
freezes = []
timeline.on_freeze(freezes.append)
aioxide.run(main())
longest = max(freezes, key=lambda freeze: freeze.duration_s)
print(longest.cause, [line for _, line, name in longest.stack if name == "big_json"])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "native code [5]\n", done


@pytest.mark.skipif(not HAS_GIL, reason="no GIL to hold")
def test_native_code_that_waits(freezes: list[Freeze]) -> None:
    freeze = frozen_by(freezes, native_sleep)
    assert (freeze.cause, freeze.syscall) == ("native code", "sleep"), freeze


def test_connecting_to_a_black_hole(freezes: list[Freeze]) -> None:
    with socket.socket() as listener:
        # A backlog that is full: further connections get no answer.
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        address = listener.getsockname()
        fillers = []
        for _ in range(3):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(address)
            fillers.append(filler)
        time.sleep(0.05)
        freeze = frozen_by(freezes, connect_to_nobody, address)
        for filler in fillers:
            filler.close()
    assert (freeze.cause, freeze.syscall) == ("system call", "poll"), freeze


def test_reading_a_fifo(freezes: list[Freeze]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "fifo")
        os.mkfifo(path)

        def write() -> None:
            time.sleep(LONG_S)
            path.write_bytes(b"at last")

        thread = threading.Thread(target=write)
        thread.start()
        freeze = frozen_by(freezes, read_fifo, path)
        thread.join()
    assert (freeze.cause, freeze.syscall) == ("system call", "open"), freeze


def test_garbage_collection(freezes: list[Freeze]) -> None:
    kept = [[n] for n in range(4_000_000)]
    assert frozen_by(freezes, collect).cause == "garbage collection", freezes
    del kept


def test_a_lock_that_a_thread_holds(freezes: list[Freeze]) -> None:
    lock = threading.Lock()
    held = threading.Event()

    def hold() -> None:
        with lock:
            held.set()
            time.sleep(LONG_S)

    thread = threading.Thread(target=hold, name="holder")
    thread.start()
    held.wait()
    freeze = frozen_by(freezes, take, lock)
    thread.join()
    assert freeze.cause == "lock", freeze


@pytest.mark.skipif(not HAS_GIL, reason="no GIL to hog")
def test_a_thread_that_hogs_the_gil() -> None:
    """In a process of its own: which thread it is can be told only where no other waits for something."""
    program = """
import asyncio, ctypes, threading, time, aioxide
from aioxide import timeline
go, over = threading.Event(), threading.Event()
def hog():
    go.wait()
    ctypes.PyDLL(None).usleep(500_000)
    over.wait()
threading.Thread(target=hog, name="the hog").start()
def let_go_and_wait():
    go.set()
    time.sleep(0.02)  # here: it gets the GIL back only when the other thread lets go of it
async def main():
    await asyncio.sleep(0.01)
    let_go_and_wait()
timeline.on_freeze(lambda freeze: print(freeze.cause, freeze.culprit, sep=", "))
aioxide.run(main())
over.set()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "interpreter, the hog\n", done


def test_a_stopped_process() -> None:
    program = """
import asyncio, os, signal, subprocess, sys, time, aioxide
from aioxide import timeline
def stopped():
    stopper.stdin.close()
    until = time.process_time() + 0.03
    while time.process_time() < until:
        pass
async def main():
    stopped()
pid = os.getpid()
stopper = subprocess.Popen([sys.executable, "-c", "import os, signal, sys, time; sys.stdin.read();"
    f"os.kill({pid}, signal.SIGSTOP); time.sleep(1); os.kill({pid}, signal.SIGCONT)"], stdin=subprocess.PIPE)
time.sleep(0.5)
timeline.on_freeze(lambda freeze: print(freeze.cause))
aioxide.run(main())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == ["preempted"], done
    assert done.stderr == "", "what the program cannot help is no warning"


def test_a_plain_callback_is_named(freezes: list[Freeze]) -> None:
    async def main() -> None:
        asyncio.get_running_loop().call_soon(time_sleep)
        await asyncio.sleep(LONG_S / 2)

    aioxide.run(main(), debug=False)
    (freeze,) = freezes
    assert freeze.task is None
    assert [name for _, _, name in freeze.stack][-1] == "time_sleep"


def test_it_is_logged_and_marked_in_the_picture(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        time_sleep()

    with caplog.at_level(logging.INFO, logger="aioxide.freeze"), timeline.record() as recording:
        aioxide.run(main(), debug=False)
    (logged,) = [record for record in caplog.records if record.name == "aioxide.freeze"]
    assert logged.levelno == logging.WARNING and "froze the loop for" in logged.message
    data = recording.to_dict()
    ((lane, start, end, text),) = data["freezes"]
    assert next(each["name"] for each in data["lanes"] if each["id"] == lane).endswith("main")
    assert end - start >= LONG_S * 1e9
    assert json.loads(text)["cause"] == "system call"


def test_a_hook_that_fails_reaches_the_exception_handler() -> None:
    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: seen.append(context))
        time.sleep(0.15)
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    def fail(freeze: Freeze) -> None:
        raise LookupError

    seen: list[dict[str, object]] = []
    remove = timeline.on_freeze(fail)
    aioxide.run(main(), debug=False)
    remove()
    assert [type(context["exception"]) for context in seen] == [LookupError]


def test_no_false_report_in_a_loaded_run(freezes: list[Freeze]) -> None:
    async def work(number: int) -> None:
        for _ in range(300):
            sum(range(200))
            await asyncio.sleep(0.0005 * (number % 4))

    async def main() -> None:
        await asyncio.gather(*(work(number) for number in range(50)))
        # What waits long freezes nothing.
        await asyncio.sleep(0.3)
        await asyncio.to_thread(time.sleep, 0.3)

    aioxide.run(main(), debug=False)
    assert not [freeze for freeze in freezes if freeze.is_own_fault]


def test_the_threshold_can_be_set(freezes: list[Freeze]) -> None:
    async def main() -> None:
        time.sleep(0.06)

    try:
        timeline.set_freeze_threshold(0.04)
        aioxide.run(main(), debug=False)
        assert [freeze.cause for freeze in freezes] == ["system call"]
        timeline.set_freeze_threshold(None)
        aioxide.run(main(), debug=False)
        assert len(freezes) == 1
        for wrong in (0, -1, float("nan")):
            with pytest.raises(ValueError, match="no time that a freeze can take"):
                timeline.set_freeze_threshold(wrong)
    finally:
        timeline.set_freeze_threshold(0.1)


def test_a_fork_finds_one_thread() -> None:
    program = """
import asyncio, os, time, warnings, aioxide
warnings.simplefilter("error")
async def main():
    time.sleep(0.12)
    assert len(os.listdir("/proc/self/task")) == 2
    for _ in range(5):
        pid = os.fork()
        if pid == 0:
            os._exit(len(os.listdir("/proc/self/task")))
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 1
    assert len(os.listdir("/proc/self/task")) == 2
aioxide.run(main())
if os.fork() == 0:
    async def child():
        time.sleep(0.3)
    seen = []
    aioxide.timeline.on_freeze(seen.append)
    aioxide.run(child())
    os._exit(40 + (seen[0].cause == "system call"))
print(os.waitstatus_to_exitcode(os.wait()[1]))
"""
    done = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.returncode) == ("41\n", 0), done.stderr


def test_it_sleeps_while_no_loop_runs() -> None:
    program = """
import asyncio, os, time, aioxide
def switches():
    return sum(int(line.split()[1]) for task in os.listdir("/proc/self/task") if int(task) != os.getpid()
        for line in open(f"/proc/self/task/{task}/status") if line.startswith("voluntary"))
async def main():
    await asyncio.sleep(2)
    before = switches()
    await asyncio.sleep(2)
    print(switches() - before)
aioxide.run(main())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert int(done.stdout) <= 10


@pytest.mark.parametrize(
    "ending",
    [
        "pass",
        "sys.exit(0)",
        "raise SystemExit",
        "time.sleep(0.3)",
        "threading.Thread(target=hang, daemon=True).start()",
    ],
)
def test_the_interpreter_ends_while_it_looks(ending: str) -> None:
    program = f"""
import asyncio, sys, threading, time, aioxide
aioxide.timeline.set_freeze_threshold(0.002)
async def freeze():
    for _ in range(20):
        time.sleep(0.004)
        await asyncio.sleep(0)
def hang():
    asyncio.set_event_loop(None)
    while True:
        aioxide.run(freeze())
aioxide.run(freeze())
{ending}
"""
    done = subprocess.run(
        [sys.executable, "-c", "import logging; logging.disable()\n" + program],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_pytest_fails_a_test_that_blocks_the_loop(tmp_path: Path) -> None:
    Path(tmp_path, "test_it.py").write_text(
        """
import asyncio, time, aioxide
async def blocks():
    time.sleep(0.2)  # the culprit
async def waits():
    await asyncio.sleep(0.2)
def test_blocks():
    aioxide.run(blocks(), debug=False)
def test_waits():
    aioxide.run(waits(), debug=False)
"""
    )
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--aioxide-freeze=50ms", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=60)
    assert "1 failed, 1 passed" in done.stdout, done.stdout + done.stderr
    assert 'test_it.py", line 4, in blocks' in done.stdout
    command[-2] = "--aioxide-freeze=soon"
    assert subprocess.run(command, capture_output=True, cwd=tmp_path, timeout=60).returncode == 4
