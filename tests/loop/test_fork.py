"""Forked children: they leave their parent's loop alone, and run loops of their own."""

from __future__ import annotations

import sys

import pytest
from tests.loop.support import LoopFactory, name_of, run_program

HELPERS = """
import traceback

def in_child(body):
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        body()
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(code)

def reap(pid):
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0

async def echo_once():
    server = await asyncio.start_server(lambda r, w: w.close(), "127.0.0.1", 0)
    async with server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()
    process = await asyncio.create_subprocess_exec("true")
    assert await process.wait() == 0
    await asyncio.to_thread(int)
    return "fine"
"""


def test_a_child_closes_what_it_inherited_and_runs_its_own(loop_factory: LoopFactory) -> None:
    program = """
loop = new_event_loop()
loop.run_until_complete(asyncio.sleep(0))
one, other = socket.socketpair()
heard = loop.create_future()
loop.add_reader(one, lambda: heard.done() or heard.set_result(one.recv(10)))

def body():
    loop.remove_reader(one)
    loop.close()
    mine = new_event_loop()
    asyncio.set_event_loop(mine)
    assert mine.run_until_complete(echo_once()) == "fine"
    mine.close()

reap(in_child(body))
other.send(b"heard")
assert loop.run_until_complete(asyncio.wait_for(heard, 5)) == b"heard", "the parent's loop has lost its reader"
loop.remove_reader(one)
loop.close()
one.close(), other.close()
print("done")
"""
    if name_of(loop_factory) == "asyncio":
        pytest.skip("a child of asyncio's takes the reader out of the epoll that it shares with its parent")
    assert run_program(loop_factory, HELPERS + program) == "done"


def test_a_fork_inside_a_running_loop(loop_factory: LoopFactory) -> None:
    program = """
async def main():
    one, other = socket.socketpair()
    one.setblocking(False)
    reader, writer = await asyncio.open_unix_connection(sock=one)

    def body():
        asyncio._set_running_loop(None)
        mine = new_event_loop()
        asyncio.set_event_loop(mine)
        assert mine.run_until_complete(echo_once()) == "fine"
        mine.close()

    reap(in_child(body))
    other.send(b"still heard")
    assert await asyncio.wait_for(reader.readexactly(11), 5) == b"still heard"
    writer.close()
    await writer.wait_closed()
    other.close()
    await asyncio.sleep(0.001)
    return await asyncio.to_thread(lambda: "done")

with asyncio.Runner(loop_factory=new_event_loop) as runner:
    print(runner.run(main()))
"""
    assert run_program(loop_factory, HELPERS + program) == "done"


def test_a_child_that_goes_on_with_the_loop_it_inherited(loop_factory: LoopFactory) -> None:
    """The child leaves by `sys.exit`, so that its Runner cancels, runs and closes what belongs to the parent too."""
    program = """
async def main():
    loop = asyncio.get_running_loop()
    reader, writer = await asyncio.open_connection(sock=mine)
    heard = loop.create_future()
    loop.add_reader(one, lambda: heard.done() or heard.set_result(one.recv(10)))
    loop.add_signal_handler(signal.SIGUSR1, int)
    await asyncio.sleep(0.01)
    parted = loop.create_future()

    # A callback's, since no task may go on in a child: asyncio forgets there which loop is running.
    def part():
        pid = os.fork()
        if pid == 0:
            # Since Python 3.14 a child knows none of its parent's tasks: they are destroyed instead of cancelled.
            logging.disable()
            sys.exit(7)
        parted.set_result(pid)

    loop.call_soon(part)
    _, status = await asyncio.to_thread(os.waitpid, await parted, 0)
    assert os.waitstatus_to_exitcode(status) == 7
    other.send(b"heard")
    assert await asyncio.wait_for(heard, 5) == b"heard"
    theirs.send(b"heard too")
    assert await asyncio.wait_for(reader.readexactly(9), 5) == b"heard too"
    writer.write(b"and answered")
    await writer.drain()
    assert theirs.recv(100) == b"and answered"
    loop.remove_reader(one)
    writer.close()
    await writer.wait_closed()
    for sock in (one, other, theirs):
        sock.close()
    print("done")

one, other = socket.socketpair()
mine, theirs = socket.socketpair()
mine.setblocking(False)
with asyncio.Runner(loop_factory=new_event_loop) as runner:
    runner.run(main())
"""
    if name_of(loop_factory) == "asyncio":
        pytest.skip("a child of asyncio's takes its parent's events out of the epoll that they share")
    # The child closes nothing itself, of which it would be warned.
    assert run_program(loop_factory, program, options=("-W", "ignore")) == "done"


def test_the_childs_signals_are_not_the_parents(loop_factory: LoopFactory) -> None:
    program = """
async def main():
    loop = asyncio.get_running_loop()
    heard = []
    loop.add_signal_handler(signal.SIGUSR1, heard.append, "parent")

    def body():
        asyncio._set_running_loop(None)
        mine = new_event_loop()
        child_heard = mine.create_future()

        async def wait():
            mine.add_signal_handler(signal.SIGUSR1, child_heard.set_result, "child")
            os.kill(os.getpid(), signal.SIGUSR1)
            return await asyncio.wait_for(child_heard, 5)

        assert mine.run_until_complete(wait()) == "child"
        mine.close()

    reap(in_child(body))
    await asyncio.sleep(0.01)
    assert heard == [], "the parent heard of its child's signal"
    os.kill(os.getpid(), signal.SIGUSR1)
    await asyncio.sleep(0.01)
    assert heard == ["parent"]
    print("done")

with asyncio.Runner(loop_factory=new_event_loop) as runner:
    runner.run(main())
"""
    if name_of(loop_factory) == "asyncio" and sys.version_info < (3, 12):
        pytest.skip("asyncio's child shares its parent's wake-up descriptor before Python 3.12")
    assert run_program(loop_factory, HELPERS + program) == "done"


def test_a_child_of_another_thread(loop_factory: LoopFactory) -> None:
    program = """
import warnings
warnings.simplefilter("ignore", DeprecationWarning)

def fork():
    def body():
        # The thread that ran the loop is not here; the loop cannot be run or closed, but must not be in the way.
        mine = new_event_loop()
        asyncio.set_event_loop(mine)
        assert mine.run_until_complete(asyncio.sleep(0.001, "fine")) == "fine"
        mine.close()
    reap(in_child(body))
    return "done"

async def main():
    ticks = asyncio.get_running_loop().create_task(asyncio.sleep(0.05))
    print(await asyncio.to_thread(fork))
    await ticks

with asyncio.Runner(loop_factory=new_event_loop) as runner:
    runner.run(main())
"""
    assert run_program(loop_factory, HELPERS + program) == "done"


MULTIPROCESSING = """
import asyncio, multiprocessing, sys, warnings
warnings.simplefilter("ignore", DeprecationWarning)
if sys.argv[2] == "aioxide":
    from aioxide import new_event_loop
else:
    from asyncio import new_event_loop

def work(connection):
    async def main():
        await asyncio.sleep(0.001)
        process = await asyncio.create_subprocess_exec("true")
        return await process.wait()
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        connection.send(runner.run(main()))
    connection.close()

def run(context):
    mine, theirs = context.Pipe()
    process = context.Process(target=work, args=(theirs,))
    process.start()
    theirs.close()
    answer = mine.recv()
    mine.close()
    process.join()
    assert process.exitcode == 0
    return answer

async def main():
    context = multiprocessing.get_context(sys.argv[1])
    if sys.argv[1] != "fork":  # a fork beside threads is not for multiprocessing
        assert await asyncio.to_thread(run, context) == 0
    assert run(context) == 0  # from the loop's own thread, inside a callback
    await asyncio.sleep(0.001)

if __name__ == "__main__":
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(main())
    print("done")
"""


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_multiprocessing(loop_factory: LoopFactory, method: str, tmp_path: object) -> None:
    program = tmp_path / "program.py"  # type: ignore[operator]
    program.write_text(MULTIPROCESSING)
    launcher = f"""
import subprocess
print(subprocess.run([sys.executable, {str(program)!r}, {method!r}, {name_of(loop_factory)!r}],
                     check=True, capture_output=True, text=True).stdout.strip())
"""
    assert run_program(loop_factory, launcher) == "done"
