"""Streams whose work is native: what they answer, and what they leave alone."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable

import pytest

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
    finally:
        writer.close()


async def connected(
    serve: Serve = echo, limit: int = 1 << 16
) -> tuple[asyncio.Server, asyncio.StreamReader, asyncio.StreamWriter]:
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname(), limit=limit)
    return server, reader, writer


async def close(server: asyncio.Server, writer: asyncio.StreamWriter) -> None:
    writer.close()
    await writer.wait_closed()
    server.close()
    await server.wait_closed()


def test_streams_are_of_asyncios_classes(runner: asyncio.Runner) -> None:
    async def main() -> None:
        server, reader, writer = await connected()
        assert isinstance(reader, asyncio.StreamReader)
        assert isinstance(writer.transport.get_protocol(), asyncio.StreamReaderProtocol)
        assert type(reader).__name__ == "StreamReader"
        assert repr(reader).startswith("<StreamReader")
        await close(server, writer)

    runner.run(main())


def test_a_read_begins_when_it_is_awaited(runner: asyncio.Runner) -> None:
    async def main() -> None:
        server, reader, writer = await connected()
        later = reader.read(100)
        assert inspect.isawaitable(later) and asyncio.iscoroutine(later)
        writer.write(b"one")
        assert await asyncio.wait_for(reader.read(100), 5) == b"one"
        writer.write(b"two")
        assert await later == b"two"
        with pytest.raises(RuntimeError, match="already awaited"):
            await later
        await close(server, writer)

    runner.run(main())


def test_a_read_that_nobody_awaits_says_so(runner: asyncio.Runner) -> None:
    async def main() -> None:
        server, reader, writer = await connected()
        with pytest.warns(RuntimeWarning, match="StreamReader.read' was never awaited"):
            reader.read(1)
        await close(server, writer)

    runner.run(main())


def test_a_cancelled_read_loses_nothing(runner: asyncio.Runner) -> None:
    async def main() -> None:
        server, reader, writer = await connected()
        for ask in (
            lambda: reader.read(3),
            lambda: reader.readexactly(3),
            reader.readline,
            lambda: reader.readuntil(b"c"),
        ):
            task = asyncio.ensure_future(ask())
            await asyncio.sleep(0)
            writer.write(b"ab")
            while not reader._buffer and not task.done():
                await asyncio.sleep(0)
            task.cancel()
            done = await asyncio.gather(task, return_exceptions=True)
            writer.write(b"c")
            rest = b"abc" if isinstance(done[0], asyncio.CancelledError) else b"c"
            assert await reader.readexactly(len(rest)) == rest
        await close(server, writer)

    runner.run(main())


def test_two_readers_at_once_are_refused(runner: asyncio.Runner) -> None:
    async def main() -> None:
        server, reader, writer = await connected()
        first = asyncio.ensure_future(reader.read(1))
        await asyncio.sleep(0)
        for ask, name in (
            (reader.read(1), "read"),
            (reader.readexactly(1), "readexactly"),
            (reader.readline(), "readuntil"),
        ):
            with pytest.raises(RuntimeError, match=rf"{name}\(\) called while another coroutine"):
                await ask
        writer.write(b"x")
        assert await first == b"x"
        await close(server, writer)

    runner.run(main())


def test_lines_and_separators(runner: asyncio.Runner) -> None:
    async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for piece in (b"one\ntw", b"o\n", b"a--", b"-b---c", b"12345", b"rest\n", b"end"):
            writer.write(piece)
            await asyncio.sleep(0.005)
        writer.close()

    async def main() -> None:
        server, reader, writer = await connected(say)
        assert await reader.readline() == b"one\n"
        assert await anext(reader) == b"two\n"
        assert await reader.readuntil(b"---") == b"a---"
        assert await reader.readuntil(separator=b"---") == b"b---"
        assert await reader.readexactly(n=6) == b"c12345"
        assert [line async for line in reader] == [b"rest\n", b"end"]
        assert (await reader.readline(), await reader.read(), await reader.read(5)) == (b"", b"", b"")
        assert reader.at_eof()
        with pytest.raises(asyncio.IncompleteReadError) as caught:
            await reader.readexactly(2)
        assert (caught.value.partial, caught.value.expected) == (b"", 2)
        with pytest.raises(asyncio.IncompleteReadError) as caught:
            await reader.readuntil(b"x")
        assert (caught.value.partial, caught.value.expected) == (b"", None)
        with pytest.raises(ValueError):
            await reader.readuntil(b"")
        with pytest.raises(ValueError):
            await reader.readexactly(-1)
        await close(server, writer)

    runner.run(main())


def test_a_line_beyond_the_limit(runner: asyncio.Runner) -> None:
    async def main() -> None:
        server, reader, writer = await connected(limit=8)
        writer.write(b"0123456789abc")
        with pytest.raises(asyncio.LimitOverrunError, match="Separator is not found") as caught:
            await reader.readuntil(b"\n")
        assert caught.value.consumed > 8
        writer.write(b"\nnext\n")
        while b"\nnext" not in bytes(reader._buffer):
            reader._transport.resume_reading()
            await asyncio.sleep(0.001)
        with pytest.raises(asyncio.LimitOverrunError, match="Separator is found") as caught:
            await reader.readuntil(b"\n")
        assert caught.value.consumed == 13
        with pytest.raises(ValueError, match="Separator is found"):
            await reader.readline()
        assert await reader.readline() == b"next\n"
        await close(server, writer)

    runner.run(main())


def test_the_peers_end_and_a_lost_connection(runner: asyncio.Runner) -> None:
    async def reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.transport.abort()

    async def main() -> None:
        server, reader, writer = await connected(reset)
        writer.write(b"x" * 100_000)
        with pytest.raises(ConnectionResetError):
            while True:
                if not await reader.read(10):
                    raise ConnectionResetError
        with pytest.raises(ConnectionError):
            for _ in range(100):
                writer.write(b"x")
                await writer.drain()
                await asyncio.sleep(0.001)
        writer.close()
        server.close()
        await server.wait_closed()

    runner.run(main())


def test_more_than_the_limit_passes_with_flow_control(runner: asyncio.Runner) -> None:
    async def main() -> None:
        server, reader, writer = await connected(limit=1000)
        sent = bytes(range(256)) * 4000

        async def write() -> None:
            for start in range(0, len(sent), 50_000):
                writer.write(sent[start : start + 50_000])
                await writer.drain()
            writer.write_eof()

        task = asyncio.ensure_future(write())
        head = await reader.readexactly(200_000)  # far beyond the limit
        rest = []
        while data := await reader.read(777):
            assert len(reader._buffer) < 1_000_000
            rest.append(data)
        assert head + b"".join(rest) == sent
        await task
        await close(server, writer)

    runner.run(main())


def test_a_subclass_of_the_reader_is_left_alone(runner: asyncio.Runner) -> None:
    class Counting(asyncio.StreamReader):
        fed = 0

        def feed_data(self, data: bytes) -> None:
            self.fed += len(data)
            super().feed_data(data)

    async def main() -> None:
        server = await asyncio.start_server(echo, "127.0.0.1", 0)
        loop = asyncio.get_running_loop()
        reader = Counting(loop=loop)
        transport, _ = await loop.create_connection(
            lambda: asyncio.StreamReaderProtocol(reader, loop=loop), *server.sockets[0].getsockname()
        )
        assert type(reader) is Counting
        transport.write(b"12345")
        assert await reader.readexactly(5) == b"12345"
        assert reader.fed == 5
        transport.close()
        await asyncio.sleep(0)
        server.close()
        await server.wait_closed()

    runner.run(main())
