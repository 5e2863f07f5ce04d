"""Processes made by fork, forkserver and spawn while a loop of ours runs, each with a loop of its own."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import socket
import traceback
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.context import BaseContext
from typing import Any

import pytest

import aioxide
from tests.ecosystem.child_work import client, echo, talk_much, wait_for_signal


@pytest.fixture(params=["fork", "forkserver", "spawn"])
def context(request: pytest.FixtureRequest) -> BaseContext:
    return multiprocessing.get_context(request.param)


@pytest.fixture
def serve(runner: asyncio.Runner) -> Iterator[Callable[[Callable[[int], Awaitable[Any]]], Any]]:
    """Runs a function with the port of a server in this process."""

    def run(body: Callable[[int], Awaitable[Any]]) -> Any:
        async def main() -> Any:
            async with await asyncio.start_server(echo, "127.0.0.1", 0) as server:
                return await body(server.sockets[0].getsockname()[1])

        return runner.run(main())

    yield run


async def received(connection: Any) -> Any:
    """What comes through a pipe of multiprocessing, whose descriptor the loop watches."""
    loop = asyncio.get_running_loop()
    readable = asyncio.Event()
    loop.add_reader(connection.fileno(), readable.set)
    try:
        await asyncio.wait_for(readable.wait(), 60)
        return connection.recv()
    finally:
        loop.remove_reader(connection.fileno())


async def joined(process: Any) -> int:
    await asyncio.to_thread(process.join, 30)
    code: int = process.exitcode
    process.close()
    return code


def test_processes(context: BaseContext, serve: Callable[..., Any]) -> None:
    async def body(port: int) -> None:
        async def one() -> None:
            mine, theirs = context.Pipe()
            process = context.Process(target=client, args=(port, theirs))
            process.start()  # with fork: from amid a callback of the running loop
            assert await received(mine) == {os.getpid()}
            assert await joined(process) == 0
            mine.close()
            theirs.close()

        await asyncio.gather(*(one() for _ in range(3)))
        assert await talk_much(port) == {os.getpid()}

    serve(body)


def test_process_pool(context: BaseContext, serve: Callable[..., Any]) -> None:
    async def body(port: int) -> None:
        loop = asyncio.get_running_loop()
        with ProcessPoolExecutor(2, mp_context=context) as pool:
            results = await asyncio.gather(*(loop.run_in_executor(pool, client, port) for _ in range(12)))
        assert results == [{os.getpid()}] * 12

    serve(body)


def test_signals_reach_only_whom_they_are_sent_to(context: BaseContext, serve: Callable[..., Any]) -> None:
    async def body(port: int) -> None:
        heard: list[str] = []
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, heard.append, "parent")
        mine, theirs = context.Pipe()
        process = context.Process(target=wait_for_signal, args=(theirs,))
        process.start()
        assert await received(mine) is True
        process.terminate()
        assert await received(mine) == "heard"
        assert await joined(process) == 0
        assert heard == []
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.sleep(0.05)
        assert heard == ["parent"]
        loop.remove_signal_handler(signal.SIGTERM)
        mine.close()
        theirs.close()

    serve(body)


class Forks:
    """Children of plain `os.fork`, which end with their test."""

    def __init__(self) -> None:
        self.pids: list[int] = []

    def start(self, work: Callable[[], None]) -> int:
        """Do `work` in a child; give its pid."""
        pid = os.fork()
        if pid:
            self.pids.append(pid)
            return pid
        try:
            signal.alarm(60)  # should even the test die
            work()
            os._exit(0)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(1)

    def wait(self, pid: int) -> int:
        """The exit status of a child, once it has ended."""
        status = os.waitpid(pid, 0)[1]
        self.pids.remove(pid)
        return os.waitstatus_to_exitcode(status)

    def destroy(self) -> None:
        for pid in list(self.pids):
            os.kill(pid, signal.SIGKILL)
            self.wait(pid)


@pytest.fixture
def forks() -> Iterator[Forks]:
    forks = Forks()
    yield forks
    forks.destroy()


def test_a_forked_child_closes_what_it_inherited(serve: Callable[..., Any], forks: Forks) -> None:
    """The parent goes on with its connections, listeners and timers whatever the child does to its copies."""

    async def body(port: int) -> None:
        loop = asyncio.get_running_loop()
        left, right = socket.socketpair()
        left.setblocking(False)
        right.setblocking(False)
        seen: asyncio.Queue[bytes] = asyncio.Queue()
        loop.add_reader(right, lambda: seen.put_nowait(right.recv(100)))
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        other = await asyncio.start_server(echo, "127.0.0.1", 0)

        def close_all() -> None:
            writer.transport.abort()
            loop.remove_reader(right)
            other.close()
            right.close()
            loop.call_soon_threadsafe(print, "never")
            assert aioxide.run(talk_much(port)) == {os.getppid()}

        assert await asyncio.to_thread(forks.wait, forks.start(close_all)) == 0
        for number in range(20):
            left.send(b"%d" % number)
            assert await asyncio.wait_for(seen.get(), 5) == b"%d" % number
            writer.write(b"on\n")
            assert await asyncio.wait_for(reader.readline(), 5) == b"%d on\n" % os.getpid()
        assert await talk_much(other.sockets[0].getsockname()[1]) == {os.getpid()}
        loop.remove_reader(right)
        left.close()
        right.close()
        writer.close()
        other.close()
        await other.wait_closed()

    serve(body)


def test_a_loop_made_before_the_fork_runs_in_parent_and_child(forks: Forks) -> None:
    loop = aioxide.new_event_loop()
    listener = socket.create_server(("127.0.0.1", 0), backlog=100)
    port = listener.getsockname()[1]
    server = loop.run_until_complete(asyncio.start_server(echo, sock=listener))

    def serve_for_a_while() -> None:
        loop.add_signal_handler(signal.SIGTERM, loop.stop)
        loop.run_forever()
        loop.remove_signal_handler(signal.SIGTERM)
        server.close()
        loop.run_until_complete(server.wait_closed())
        loop.close()

    children = [forks.start(serve_for_a_while) for _ in range(3)]
    # Not accepting here until another process has been heard, the parent leaves the connections to its children.
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        answered = set().union(*(pool.submit(client, port).result(60) for _ in range(5)))
    assert answered <= set(children) and answered
    assert os.getpid() in loop.run_until_complete(_talk_until_parent_answers(port))
    for pid in children:
        os.kill(pid, signal.SIGTERM)
        assert forks.wait(pid) == 0
    assert loop.run_until_complete(talk_much(port)) == {os.getpid()}
    server.close()
    loop.run_until_complete(server.wait_closed())
    loop.close()


async def _talk_until_parent_answers(port: int) -> set[int]:
    async with asyncio.timeout(30):
        answered: set[int] = set()
        while os.getpid() not in answered:
            answered |= await talk_much(port)
        return answered
