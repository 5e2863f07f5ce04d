"""Bytes arrive as they were sent: every size, both directions, both versions, every kind of protocol."""

from __future__ import annotations

import asyncio
import random
import ssl

import pytest
from tests.tls.conftest import at_version
from tests.tls.peers import (
    BufferedEcho,
    Echo,
    Recorder,
    client_of,
    connect,
    echo,
    finish,
    run,
    serving,
    streaming,
)

SIZES = [1, 2, 1000, 16 * 1024 - 1, 16 * 1024, 16 * 1024 + 1, 65 * 1024, 1024 * 1024, 16 * 1024 * 1024]


def payload(size: int) -> bytes:
    return random.Random(size).randbytes(size)


@pytest.mark.parametrize("size", SIZES)
def test_streams(
    runner: asyncio.Runner,
    server_context: ssl.SSLContext,
    client_context: ssl.SSLContext,
    version: ssl.TLSVersion,
    size: int,
) -> None:
    async def main() -> None:
        async with streaming(echo, server_context) as port:
            reader, writer = await connect(port, client_context)
            sent = payload(size)
            writer.write(sent)
            assert await reader.readexactly(size) == sent
            await finish(writer)

    with at_version(version, server_context, client_context):
        run(runner, main())


@pytest.mark.parametrize("server", [Echo, BufferedEcho, lambda: BufferedEcho(1), lambda: BufferedEcho(200_000)])
def test_protocols(
    runner: asyncio.Runner, server_context: ssl.SSLContext, client_context: ssl.SSLContext, server: type
) -> None:
    size = 3000 if server not in (Echo, BufferedEcho) else 700_000

    async def main() -> None:
        async with serving(server, server_context) as port:
            asyncio.get_running_loop()
            transport, client = await client_of(port, client_context)
            sent = payload(size)
            transport.write(sent)
            assert await client.until(size) == sent
            transport.close()
            assert await client.lost is None
            assert client.events[0] == "made" and client.events[-1] == "lost"

    run(runner, main())


def test_pieces_of_every_type_in_order(
    runner: asyncio.Runner, server_context: ssl.SSLContext, client_context: ssl.SSLContext
) -> None:
    async def main() -> None:
        async with streaming(echo, server_context) as port:
            reader, writer = await connect(port, client_context)
            choice = random.Random(20)
            expected = bytearray()
            for n in range(300):
                piece = payload(choice.choice([0, 1, 10, 500, 5000, 20_000]) + n % 3)
                expected += piece
                writer.write(choice.choice([bytes, bytearray, memoryview])(piece))
                if n % 10 == 0:
                    more = [payload(choice.randrange(6000)) for _ in range(5)]
                    expected += b"".join(more)
                    writer.writelines(more)
            assert await reader.readexactly(len(expected)) == expected
            await finish(writer)

    run(runner, main())


def test_a_bytearray_may_be_changed_after_the_write(
    runner: asyncio.Runner, server_context: ssl.SSLContext, client_context: ssl.SSLContext
) -> None:
    async def main() -> None:
        async with streaming(echo, server_context) as port:
            reader, writer = await connect(port, client_context)
            data = bytearray(b"x" * 4_000_000)
            writer.write(data)
            await asyncio.sleep(0)
            if type(asyncio.get_running_loop()).__module__.startswith("aioxide"):
                # asyncio keeps what it cannot encrypt at once by reference.
                data[:] = bytes(len(data))
            assert await reader.readexactly(len(data)) == b"x" * len(data)
            await finish(writer)

    run(runner, main())


def test_both_directions_at_once(
    runner: asyncio.Runner, server_context: ssl.SSLContext, client_context: ssl.SSLContext
) -> None:
    size = 4 * 1024 * 1024

    async def main() -> None:
        async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, key: int) -> bytes:
            async def send() -> None:
                data = payload(size + key)[:size]
                for start in range(0, size, 100_000):
                    writer.write(data[start : start + 100_000])
                    await writer.drain()

            _, received = await asyncio.gather(send(), reader.readexactly(size))
            return received

        heard = asyncio.get_running_loop().create_future()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            heard.set_result(await talk(reader, writer, 1))
            await reader.read()
            await finish(writer)

        async with streaming(serve, server_context) as port:
            reader, writer = await connect(port, client_context)
            assert await talk(reader, writer, 2) == payload(size + 1)[:size]
            assert await heard == payload(size + 2)[:size]
            await finish(writer)

    run(runner, main())


def test_unix_sockets(
    runner: asyncio.Runner, server_context: ssl.SSLContext, client_context: ssl.SSLContext, tmp_path: object
) -> None:
    async def main() -> None:
        path = f"{tmp_path}/socket"
        server = await asyncio.start_unix_server(echo, path, ssl=server_context)
        reader, writer = await asyncio.open_unix_connection(path, ssl=client_context, server_hostname="localhost")
        writer.write(b"hello")
        assert await reader.readexactly(5) == b"hello"
        await finish(writer)
        server.close()
        await server.wait_closed()

    run(runner, main())


def test_sendfile(
    runner: asyncio.Runner, server_context: ssl.SSLContext, client_context: ssl.SSLContext, tmp_path: object
) -> None:
    content = payload(300_000)
    path = f"{tmp_path}/file"
    with open(path, "wb") as file:
        file.write(content)

    async def main() -> None:
        async with serving(Echo, server_context) as port:
            loop = asyncio.get_running_loop()
            transport, client = await client_of(port, client_context)
            with open(path, "rb") as file:
                assert await loop.sendfile(transport, file, 10, 250_000) == 250_000
                assert file.tell() == 250_010
                with pytest.raises(RuntimeError):
                    await loop.sendfile(transport, file, fallback=False)
            assert await client.until(250_000) == content[10:250_010]
            transport.close()
            await client.lost

    run(runner, main())


def test_a_slow_reader_holds_the_writer_back(
    runner: asyncio.Runner, server_context: ssl.SSLContext, client_context: ssl.SSLContext
) -> None:
    size = 12 * 1024 * 1024

    async def main() -> None:
        peers: list[Recorder] = []
        async with serving(lambda: peers.append(Recorder()) or peers[0], server_context) as port:  # type: ignore[func-returns-value]
            asyncio.get_running_loop()
            transport, client = await client_of(port, client_context)
            while not peers or peers[0].transport is None:
                await asyncio.sleep(0.001)
            peer = peers[0]
            peer.transport.pause_reading()
            sent = 0
            while client.can_write.is_set() and sent < size:
                transport.write(bytes(65536))
                sent += 65536
                await asyncio.sleep(0)
            assert sent < size, "nobody held the writer back"
            assert transport.get_write_buffer_size() > 0
            assert not peer.data
            peer.transport.resume_reading()
            await client.can_write.wait()
            assert len(await peer.until(sent)) == sent
            transport.close()
            assert await client.lost is None
            assert await peer.lost is None

    run(runner, main())
