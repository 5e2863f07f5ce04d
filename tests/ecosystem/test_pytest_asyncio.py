"""pytest-asyncio, whose hook in `conftest.py` names our loop as its factory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

import aioxide

loops: list[asyncio.AbstractEventLoop] = []


@pytest_asyncio.fixture
async def echo_port() -> AsyncIterator[int]:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
        writer.close()

    async with await asyncio.start_server(echo, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]


@pytest.mark.asyncio
@pytest.mark.parametrize("size", [1, 100_000, 3_000_000])
async def test_fixture_and_test_share_our_loop(echo_port: int, size: int) -> None:
    loops.append(asyncio.get_running_loop())
    assert type(loops[-1]) is aioxide.EventLoop

    async def talk(number: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", echo_port)
        message = bytes([number]) * size
        writer.write(message)
        writer.write_eof()
        assert await reader.read() == message
        writer.close()
        await writer.wait_closed()

    await asyncio.gather(*(talk(number) for number in range(20)))


@pytest.mark.asyncio
async def test_loops_of_earlier_tests_are_closed() -> None:
    assert len(set(map(id, loops))) == 3 and all(loop.is_closed() for loop in loops)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_loop() -> asyncio.AbstractEventLoop:
    return asyncio.get_running_loop()


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("turn", range(3))
async def test_one_loop_of_the_module(shared_loop: asyncio.AbstractEventLoop, turn: int) -> None:
    assert asyncio.get_running_loop() is shared_loop
    assert type(shared_loop) is aioxide.EventLoop and shared_loop not in loops
