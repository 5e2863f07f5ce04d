"""Processes made by fork, forkserver and spawn while a loop of ours runs, each with a loop of its own.

What a plain `os.fork` leaves to parent and child is tested with the loop itself, not here.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.context import BaseContext
from typing import Any

import pytest
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
