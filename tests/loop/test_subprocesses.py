"""Child programs: how they are started, spoken to, waited for, and that nothing of them is left."""

from __future__ import annotations

import asyncio
import errno
import gc
import os
import random
import signal
import sys
import threading
from subprocess import DEVNULL, PIPE, STDOUT
from typing import Any

import pytest
from tests.loop.support import LoopFactory, name_of, open_descriptors, run_program


async def python(program: str, *args: str, **kwargs: Any) -> tuple[int | None, bytes, bytes]:
    """Exit code, output and errors of a Python program."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-S", "-c", program, *args, **{"stdout": PIPE, "stderr": PIPE, "stdin": DEVNULL, **kwargs}
    )
    output, errors = await process.communicate()
    return process.returncode, output, errors or b""


def test_output_errors_and_exit_code(runner: asyncio.Runner) -> None:
    program = "import sys; print('out'); print('err', file=sys.stderr); sys.exit(5)"
    assert runner.run(python(program)) == (5, b"out\n", b"err\n")
    assert runner.run(python(program, stderr=STDOUT))[2] == b""


def test_input_is_given_and_closed(runner: asyncio.Runner) -> None:
    async def main() -> None:
        data = os.urandom(1_000_000)
        process = await asyncio.create_subprocess_exec("cat", stdin=PIPE, stdout=PIPE)
        output, _ = await process.communicate(data)
        assert output == data
        assert process.returncode == 0
        process = await asyncio.create_subprocess_exec("cat", stdin=PIPE, stdout=PIPE)
        assert process.stdin is not None
        assert process.stdout is not None
        for line in (b"one\n", b"two\n"):
            process.stdin.write(line)
            await process.stdin.drain()
            assert await process.stdout.readline() == line
        process.stdin.close()
        await process.stdin.wait_closed()
        assert await process.stdout.read() == b""
        assert await process.wait() == 0

    runner.run(main())


def test_a_child_that_does_not_read(runner: asyncio.Runner) -> None:
    async def main() -> None:
        process = await asyncio.create_subprocess_exec("true", stdin=PIPE)
        await process.communicate(bytes(10_000_000))
        assert await process.wait() == 0

    runner.run(main())


def test_shell(runner: asyncio.Runner) -> None:
    async def main() -> None:
        process = await asyncio.create_subprocess_shell(
            "read line; echo $line | tr a-z A-Z; exit 3", stdin=PIPE, stdout=PIPE
        )
        output, _ = await process.communicate(b"shout\n")
        assert (process.returncode, output) == (3, b"SHOUT\n")

    runner.run(main())


def test_signals_to_a_child(runner: asyncio.Runner) -> None:
    async def main() -> None:
        for send, code in (("kill", signal.SIGKILL), ("terminate", signal.SIGTERM)):
            process = await asyncio.create_subprocess_exec("sleep", "100")
            getattr(process, send)()
            assert await process.wait() == -code
            with pytest.raises(ProcessLookupError):
                process.kill()
        process = await asyncio.create_subprocess_exec("sleep", "100")
        process.send_signal(signal.SIGUSR1)
        assert await process.wait() == -signal.SIGUSR1
        assert process.returncode == -signal.SIGUSR1

    runner.run(main())


def popen_cases(directory: str) -> dict[str, tuple[dict[str, Any], str, str]]:
    """Argument of Popen, the program that shows it, and what that prints."""
    return {
        "cwd": ({"cwd": directory}, "import os; print(os.getcwd())", os.path.realpath(directory)),
        "env": ({"env": {"ONLY": "this"}}, "import os; print(os.environ['ONLY'], 'PATH' in os.environ)", "this False"),
        "start_new_session": ({"start_new_session": True}, "import os; print(os.getsid(0) == os.getpid())", "True"),
        "process_group": ({"process_group": 0}, "import os; print(os.getpgid(0) == os.getpid())", "True"),
        "umask": ({"umask": 0o077}, "import os; print(os.umask(0))", str(0o077)),
        "user": ({"user": os.getuid()}, "import os; print(os.getuid())", str(os.getuid())),
        "group": ({"group": os.getgid()}, "import os; print(os.getgid())", str(os.getgid())),
        "executable": ({"executable": sys.executable}, "print('ran')", "ran"),
        "restore_signals": (
            {"restore_signals": False},
            "import signal; print(signal.getsignal(signal.SIGPIPE) == signal.SIG_IGN)",
            "True",
        ),
        "close_fds": (
            {"close_fds": True},
            "import os; print(sorted(map(int, os.listdir('/proc/self/fd')))[:3])",
            "[0, 1, 2]",
        ),
        "pipesize": ({"pipesize": 65536}, "print('ran')", "ran"),
        "bufsize": ({"bufsize": 0}, "print('ran')", "ran"),
    }


@pytest.mark.parametrize("argument", popen_cases("."))
def test_arguments_of_popen(runner: asyncio.Runner, argument: str, tmp_path: Any) -> None:
    kwargs, program, expected = popen_cases(str(tmp_path))[argument]
    code, output, errors = runner.run(python(program, **kwargs))
    assert (code, output.decode().strip(), errors) == (0, expected, b"")


def test_a_function_runs_in_the_child_first(loop_factory: LoopFactory) -> None:
    """In a process without other threads, beside which Python warns of a fork; we must not have any, either."""
    program = """
async def main():
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-S", "-c", "import os; print(os.nice(0) - int(os.environ['NICE']))",
        stdout=asyncio.subprocess.PIPE, preexec_fn=lambda: os.nice(3), env={**os.environ, "NICE": str(os.nice(0))})
    output, _ = await process.communicate()
    return output.decode().strip()

with asyncio.Runner(loop_factory=new_event_loop) as runner:
    runner.run(asyncio.sleep(0.01))
    print(runner.run(main()))
"""
    assert run_program(loop_factory, program) == "3"


def test_a_child_has_real_pipes(runner: asyncio.Runner) -> None:
    """Not socket pairs, which a child cannot open by ``/dev/stdin``."""
    program = """
import os, stat
kinds = [stat.S_ISFIFO(os.fstat(fd).st_mode) for fd in (0, 1, 2)]
with open("/dev/stdin", "rb") as again:
    print(kinds, again.read())
"""

    async def main() -> None:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-S", "-c", program, stdin=PIPE, stdout=PIPE, stderr=PIPE
        )
        assert await process.communicate(b"given") == (b"[True, True, True] b'given'\n", b"")

    runner.run(main())


def test_descriptors_can_be_passed(runner: asyncio.Runner) -> None:
    async def main() -> None:
        read_end, write_end = os.pipe()
        code, _, errors = await python(f"import os; os.write({write_end}, b'passed')", pass_fds=(write_end,))
        os.close(write_end)
        assert (code, errors) == (0, b"")
        assert os.read(read_end, 100) == b"passed"
        os.close(read_end)

    runner.run(main())


@pytest.mark.parametrize(
    "kwargs",
    [{"universal_newlines": True}, {"text": True}, {"encoding": "utf-8"}, {"errors": "strict"}, {"shell": True}],
)
def test_arguments_that_are_refused(runner: asyncio.Runner, kwargs: dict[str, Any]) -> None:
    async def main() -> None:
        with pytest.raises(ValueError):
            await asyncio.create_subprocess_exec("true", **kwargs)
        with pytest.raises(ValueError):
            await asyncio.get_running_loop().subprocess_exec(asyncio.SubprocessProtocol, "true", **kwargs)

    runner.run(main())


def test_programs_that_cannot_be_started(runner: asyncio.Runner, tmp_path: Any) -> None:
    async def main() -> None:
        before = open_descriptors()
        with pytest.raises(FileNotFoundError):
            await asyncio.create_subprocess_exec("no-such-program", stdin=PIPE, stdout=PIPE, stderr=PIPE)
        with pytest.raises(PermissionError):
            await asyncio.create_subprocess_exec(str(tmp_path), stdin=PIPE, stdout=PIPE)
        with pytest.raises(FileNotFoundError):
            await asyncio.create_subprocess_exec("true", cwd=str(tmp_path / "nowhere"))
        assert open_descriptors() == before

    runner.run(asyncio.sleep(0))
    runner.run(main())


def test_the_protocol_of_a_child(runner: asyncio.Runner) -> None:
    calls: list[Any] = []

    class Protocol(asyncio.SubprocessProtocol):
        def connection_made(self, transport: Any) -> None:
            calls.append("connection_made")
            assert isinstance(transport, asyncio.SubprocessTransport)

        def pipe_data_received(self, fd: int, data: bytes) -> None:
            calls.append((fd, data))

        def pipe_connection_lost(self, fd: int, exc: BaseException | None) -> None:
            calls.append(("lost", fd, exc))

        def process_exited(self) -> None:
            calls.append("exited")

        def connection_lost(self, exc: BaseException | None) -> None:
            calls.append("connection_lost")
            ended.set_result(None)

    async def main() -> None:
        nonlocal ended
        loop = asyncio.get_running_loop()
        ended = loop.create_future()
        transport, _ = await loop.subprocess_shell(Protocol, "echo out; echo err >&2; exit 4")
        assert transport.get_pid() > 0
        stdin = transport.get_pipe_transport(0)
        assert isinstance(stdin, asyncio.WriteTransport)
        assert stdin.get_extra_info("pipe") is not None
        assert isinstance(transport.get_pipe_transport(1), asyncio.ReadTransport)
        assert transport.get_pipe_transport(3) is None
        assert transport.get_extra_info("subprocess").pid == transport.get_pid()
        await ended
        assert transport.get_returncode() == 4
        transport.close()

    ended: Any = None
    runner.run(main())
    assert calls[0] == "connection_made"
    assert calls[-1] == "connection_lost"
    assert calls.index("exited") < len(calls) - 1
    for expected in ((1, b"out\n"), (2, b"err\n"), ("lost", 1, None), ("lost", 2, None)):
        assert expected in calls


def test_closing_a_transport_kills_the_child(runner: asyncio.Runner) -> None:
    async def main() -> None:
        transport, protocol = await asyncio.get_running_loop().subprocess_exec(
            asyncio.SubprocessProtocol, "sleep", "100", stdin=None, stdout=None, stderr=None
        )
        pid = transport.get_pid()
        transport.close()
        assert transport.is_closing()
        assert protocol is not None
        for _ in range(1000):
            if transport.get_returncode() is not None:
                assert not os.path.exists(f"/proc/{pid}")
                return
            await asyncio.sleep(0.005)
        pytest.fail("the child is still there")

    runner.run(main())


@pytest.mark.parametrize("step", range(6))
def test_cancelling_the_start_of_a_child_leaves_nothing(runner: asyncio.Runner, step: int) -> None:
    async def main() -> None:
        before, others = open_descriptors(), children()
        task = asyncio.ensure_future(asyncio.create_subprocess_exec("sleep", "0.05", stdin=PIPE, stdout=PIPE))
        for _ in range(step):
            await asyncio.sleep(0)
        task.cancel()
        try:
            process = await task
        except asyncio.CancelledError:
            pass
        else:
            await process.communicate()
        for _ in range(1000):
            if open_descriptors() == before and children() == others:
                return
            await asyncio.sleep(0.005)
        assert open_descriptors() == before
        assert children() == others

    runner.run(asyncio.sleep(0))
    runner.run(main())


@pytest.mark.parametrize("step", range(6))
def test_cancelling_everything_while_a_child_starts_ends(loop_factory: LoopFactory, step: int) -> None:
    """As a Runner does in its end: the task that connects the pipes is cancelled with the one that waits for it."""
    if not name_of(loop_factory).startswith("aioxide"):
        pytest.skip("asyncio before 3.15 waits for ever")

    async def main() -> None:
        before, others = open_descriptors(), children()
        task = asyncio.ensure_future(asyncio.create_subprocess_exec("sleep", "1000", stdin=PIPE, stdout=PIPE))
        for _ in range(step):
            await asyncio.sleep(0)
        for each in asyncio.all_tasks() - {asyncio.current_task()}:
            each.cancel()
        async with asyncio.timeout(20):
            await asyncio.wait([task])
        if not task.cancelled():
            process = task.result()
            process.kill()
            await process.communicate()
        del task
        await asyncio.sleep(0.01)
        assert children() == others
        gc.collect()
        assert open_descriptors() == before

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(asyncio.sleep(0))
        runner.run(main())


def children() -> list[int]:
    """The children of this process, dead ones that nobody has reaped included."""
    with open(f"/proc/self/task/{os.getpid()}/children") as listing:
        found = {int(word) for word in listing.read().split()}
    for thread in os.listdir("/proc/self/task"):
        try:
            with open(f"/proc/self/task/{thread}/children") as listing:
                found |= {int(word) for word in listing.read().split()}
        except FileNotFoundError:
            continue
    return sorted(found)


def test_many_children_of_many_loops_in_many_threads(loop_factory: LoopFactory) -> None:
    seed = random.randrange(1 << 32)
    print("seed", seed)
    random.seed(seed)
    before, others = open_descriptors(), children()
    failed: list[BaseException] = []

    async def one(n: int) -> None:
        code = random.randrange(256)
        process = await asyncio.create_subprocess_exec("sh", "-c", f"cat; exit {code}", stdin=PIPE, stdout=PIPE)
        output, _ = await process.communicate(b"%d" % n)
        assert (output, process.returncode) == (b"%d" % n, code)

    async def main() -> None:
        for _ in range(3):
            await asyncio.gather(*(one(n) for n in range(8)))

    def body() -> None:
        try:
            with asyncio.Runner(loop_factory=loop_factory) as runner:
                runner.run(main())
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=body) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert children() == others
    assert open_descriptors() == before


def test_exit_is_noticed_without_a_thread_or_a_watcher(loop_factory: LoopFactory) -> None:
    if not name_of(loop_factory).startswith("aioxide"):
        pytest.skip("asyncio has a thread for each child before 3.12")

    async def main() -> None:
        threads = threading.active_count()
        process = await asyncio.create_subprocess_exec("sleep", "0.05")
        assert threading.active_count() == threads
        assert await process.wait() == 0

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(main())


@pytest.mark.parametrize("error", [errno.EMFILE, errno.ESRCH])
def test_a_child_without_a_pidfd_is_not_left_running(
    loop_factory: LoopFactory, monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    if not name_of(loop_factory).startswith("aioxide"):
        pytest.skip("asyncio leaves it running")

    def no_pidfd(pid: int, flags: int = 0) -> int:
        raise OSError(error, os.strerror(error))

    async def main() -> None:
        assert await (await asyncio.create_subprocess_exec("true")).wait() == 0
        before, others = open_descriptors(), children()
        monkeypatch.setattr(os, "pidfd_open", no_pidfd)
        with pytest.raises(OSError, match=os.strerror(error)):
            await asyncio.create_subprocess_exec("sleep", "1000", stdin=PIPE, stdout=PIPE)
        await asyncio.sleep(0.01)
        assert children() == others
        assert open_descriptors() == before

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(main())


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="there are no watchers any more")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_chosen_watcher_is_asked(loop_factory: LoopFactory) -> None:
    asked = []

    class Watcher(asyncio.ThreadedChildWatcher):
        def add_child_handler(self, pid: int, callback: Any, *args: Any) -> None:
            asked.append(pid)
            super().add_child_handler(pid, callback, *args)

    async def main() -> int:
        process = await asyncio.create_subprocess_exec("true")
        await process.wait()
        return process.pid

    policy = asyncio.get_event_loop_policy()
    before = policy.get_child_watcher()
    policy.set_child_watcher(Watcher())
    try:
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            assert asked == [runner.run(main())]
    finally:
        policy.set_child_watcher(before)
