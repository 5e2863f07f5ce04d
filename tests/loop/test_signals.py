"""Signals and Ctrl-C: prompt in every state of the loop, and the process's own handlers left as they were."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from typing import Any

import pytest
from tests.loop.support import LoopFactory, failures, program_text, run_program


def test_a_handler_runs_on_the_loop(runner: asyncio.Runner) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        calls: list[Any] = []
        loop.add_signal_handler(signal.SIGUSR1, lambda *args: calls.append((args, asyncio.get_running_loop())), 1, 2)
        os.kill(os.getpid(), signal.SIGUSR1)
        for _ in range(1000):
            if calls:
                break
            await asyncio.sleep(0.001)
        assert calls == [((1, 2), loop)]
        assert loop.remove_signal_handler(signal.SIGUSR1)
        assert not loop.remove_signal_handler(signal.SIGUSR1)
        assert signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL

    runner.run(main())


def test_handlers_are_restored_at_close(loop_factory: LoopFactory) -> None:
    wakeup_fd = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(wakeup_fd)
    loop = loop_factory()
    loop.add_signal_handler(signal.SIGUSR1, int)
    loop.add_signal_handler(signal.SIGINT, int)
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    assert signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    after = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(wakeup_fd)
    assert after == -1


def test_a_failing_handler_is_reported(runner: asyncio.Runner) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGUSR1, lambda: 1 / 0)
        with failures(loop) as seen:
            signal.raise_signal(signal.SIGUSR1)
            await asyncio.sleep(0.01)
        assert isinstance(seen[0]["exception"], ZeroDivisionError)
        loop.remove_signal_handler(signal.SIGUSR1)

    runner.run(main())


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_signals_that_cannot_be_caught(runner: asyncio.Runner, number: int) -> None:
    async def main() -> None:
        with pytest.raises(RuntimeError, match="cannot be caught"):
            asyncio.get_running_loop().add_signal_handler(number, int)

    runner.run(main())


def test_what_is_no_signal_or_no_handler(runner: asyncio.Runner) -> None:
    async def coroutine_function() -> None: ...

    async def main() -> None:
        loop = asyncio.get_running_loop()
        for number, error in (("x", TypeError), (0, ValueError), (10_000, ValueError)):
            with pytest.raises(error):
                loop.add_signal_handler(number, int)  # type: ignore[arg-type]
            with pytest.raises(error):
                loop.remove_signal_handler(number)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="coroutines cannot be used"):
            loop.add_signal_handler(signal.SIGUSR1, coroutine_function)

    runner.run(main())


def test_other_threads_cannot_add_handlers(loop_factory: LoopFactory) -> None:
    errors: list[BaseException] = []

    def body() -> None:
        loop = loop_factory()
        try:
            loop.add_signal_handler(signal.SIGUSR1, int)
        except (ValueError, RuntimeError) as error:
            errors.append(error)
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()

    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    assert len(errors) == 1


def test_plain_python_handlers_run_while_the_loop_waits(runner: asyncio.Runner) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        heard = loop.create_future()
        before = signal.signal(signal.SIGUSR1, lambda *_: loop.call_soon_threadsafe(heard.set_result, time.monotonic()))
        sent = loop.create_future()

        def send() -> None:
            time.sleep(0.02)
            loop.call_soon_threadsafe(sent.set_result, time.monotonic())
            os.kill(os.getpid(), signal.SIGUSR1)

        thread = threading.Thread(target=send)
        thread.start()
        assert await asyncio.wait_for(heard, 5) - await sent < 1
        thread.join()
        signal.signal(signal.SIGUSR1, before)

    runner.run(main())


STATES = {
    "idle": "await asyncio.get_running_loop().create_future()",
    "waiting for a timer": "await asyncio.sleep(100)",
    "busy with callbacks": """
        def again():
            asyncio.get_running_loop().call_soon(again)
        again()
        await asyncio.sleep(100)
        """,
    "busy with a task": """
        while True:
            await asyncio.sleep(0)
        """,
    "reading": """
        one, other = socket.socketpair()
        one.setblocking(False)
        with one, other:
            await asyncio.get_running_loop().sock_recv(one, 1)
        """,
    "waiting for a thread": """
        done = threading.Event()
        try:
            await asyncio.to_thread(done.wait)
        finally:
            done.set()
        """,
}

INTERRUPTED = """
async def main():
    print("ready", flush=True)
    try:
{state}
    except asyncio.CancelledError:
        print("cancelled", flush=True)
        raise

try:
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(main())
except KeyboardInterrupt:
    print("interrupted", flush=True)
assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
"""


def interrupt(program: str) -> list[str]:
    """What `program` prints once it was sent SIGINT, which it must heed promptly."""
    with subprocess.Popen(
        [sys.executable, "-X", "dev", "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "ready\n"
            time.sleep(0.05)
            sent = time.monotonic()
            process.send_signal(signal.SIGINT)
            output, errors = process.communicate(timeout=20)
            took = time.monotonic() - sent
        finally:
            process.kill()
    assert process.returncode == 0, errors
    assert took < 10
    return output.split("\n")[:-1]


@pytest.mark.parametrize("state", STATES)
def test_ctrl_c_cancels_the_main_task(loop_factory: LoopFactory, state: str) -> None:
    program = program_text(
        loop_factory, INTERRUPTED.format(state=textwrap.indent(textwrap.dedent(STATES[state]), 8 * " "))
    )
    assert interrupt(program) == ["cancelled", "interrupted"]


def test_ctrl_c_without_a_runner_raises_out_of_run_forever(loop_factory: LoopFactory) -> None:
    program = """
loop = new_event_loop()
loop.call_soon(print, "ready")
loop.call_soon(sys.stdout.flush)
try:
    loop.run_forever()
except KeyboardInterrupt:
    print("interrupted")
print(loop.run_until_complete(asyncio.sleep(0.001, "goes on")))
loop.close()
"""
    assert interrupt(program_text(loop_factory, program)) == ["interrupted", "goes on"]


def test_ctrl_c_inside_a_blocking_callback(loop_factory: LoopFactory) -> None:
    program = """
loop = new_event_loop()
loop.call_soon(print, "ready", )
loop.call_soon(sys.stdout.flush)
loop.call_soon(time.sleep, 100)
try:
    loop.run_forever()
except KeyboardInterrupt:
    print("interrupted")
loop.close()
"""
    assert interrupt(program_text(loop_factory, program)) == ["interrupted"]


def test_a_main_task_that_swallows_ctrl_c(loop_factory: LoopFactory) -> None:
    program = """
async def main():
    print("ready", flush=True)
    try:
        await asyncio.sleep(100)
    except asyncio.CancelledError:
        asyncio.current_task().uncancel()
    return "finished in its own way"

with asyncio.Runner(loop_factory=new_event_loop) as runner:
    print(runner.run(main()))
"""
    assert interrupt(program_text(loop_factory, program)) == ["finished in its own way"]


def test_sigchld_stays_the_applications(loop_factory: LoopFactory) -> None:
    program = """
import warnings
heard = []
handler = lambda *_: heard.append("SIGCHLD")
signal.signal(signal.SIGCHLD, handler)

async def main():
    for _ in range(3):
        process = await asyncio.create_subprocess_exec("true")
        assert await process.wait() == 0
    await asyncio.sleep(0.01)

with asyncio.Runner(loop_factory=new_event_loop) as runner:
    runner.run(main())
assert signal.getsignal(signal.SIGCHLD) is handler
assert heard
print("done")
"""
    assert run_program(loop_factory, program) == "done"


def test_many_signals_are_all_noticed(runner: asyncio.Runner) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        numbers = [signal.SIGUSR1, signal.SIGUSR2, signal.SIGWINCH]
        heard: dict[int, int] = dict.fromkeys(numbers, 0)

        def hear(number: int) -> None:
            heard[number] += 1

        for number in numbers:
            loop.add_signal_handler(number, hear, number)
        for _ in range(50):
            before = dict(heard)
            for number in numbers:
                os.kill(os.getpid(), number)
            while any(heard[number] <= before[number] for number in numbers):
                await asyncio.sleep(0.0005)
        for number in numbers:
            loop.remove_signal_handler(number)

    runner.run(asyncio.wait_for(main(), 20))


def test_two_loops_in_turn_each_hear_their_own(loop_factory: LoopFactory) -> None:
    async def hear_one() -> str:
        loop = asyncio.get_running_loop()
        heard = loop.create_future()
        loop.add_signal_handler(signal.SIGUSR1, heard.set_result, "heard")
        os.kill(os.getpid(), signal.SIGUSR1)
        try:
            return await asyncio.wait_for(heard, 5)
        finally:
            loop.remove_signal_handler(signal.SIGUSR1)

    one, other = loop_factory(), loop_factory()
    for loop in (one, other, one, other):
        assert loop.run_until_complete(hear_one()) == "heard"
    one.close()
    assert other.run_until_complete(hear_one()) == "heard"
    other.close()


def test_somebody_elses_wakeup_descriptor_is_kept(loop_factory: LoopFactory) -> None:
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)
    before = signal.set_wakeup_fd(write_end, warn_on_full_buffer=False)
    loop = loop_factory()
    loop.run_until_complete(asyncio.sleep(0.001))
    loop.close()
    after = signal.set_wakeup_fd(before)
    os.close(read_end)
    os.close(write_end)
    assert after == write_end
