"""Upgrading a connection to TLS: either side, over TLS too, over any transport."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import sys
from typing import Any

import pytest
from tests.tls.peers import Echo, Recorder, Server, connect, finish, run, serving, streaming


class UpgradingServer(Server, asyncio.Protocol):
    """Speaks in the open until it is told ``STARTTLS``, then echoes over TLS."""

    def __init__(self, context: ssl.SSLContext, times: int = 1) -> None:
        super().__init__()
        self.context = context
        self.times = times
        self.upgrading: list[asyncio.Task[None]] = []

    def data_received(self, data: bytes) -> None:
        if self.times == 0:
            self.transport.write(data)
            return
        assert data == b"STARTTLS"
        self.times -= 1
        self.upgrading.append(asyncio.get_running_loop().create_task(self.upgrade()))

    async def upgrade(self) -> None:
        lower = self.transport
        loop = asyncio.get_running_loop()
        lower.write(b"GO")
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            upgraded = await loop.start_tls(lower, self, self.context, server_side=True)
            assert upgraded is not None
            self.transport = upgraded


async def upgrade(client: Recorder, context: ssl.SSLContext) -> None:
    client.transport.write(b"STARTTLS")
    await client.until(2)
    assert bytes(client.data) == b"GO"
    client.data.clear()
    loop = asyncio.get_running_loop()
    client.transport = await loop.start_tls(client.transport, client, context, server_hostname="localhost")


@pytest.mark.parametrize("times", [1, 2, 3])
def test_both_ways_and_tls_in_tls(
    runner: asyncio.Runner, server_context: ssl.SSLContext, client_context: ssl.SSLContext, times: int
) -> None:
    async def main() -> None:
        async with serving(lambda: UpgradingServer(server_context, times), None) as port:
            loop = asyncio.get_running_loop()
            transport, client = await loop.create_connection(Recorder, "127.0.0.1", port)
            for _ in range(times):
                await upgrade(client, client_context)
                # The server's upgrade is done with the peer's last message, which is under way.
                await asyncio.sleep(0.05)
            for size in (1, 1000, 300_000):
                client.data.clear()
                client.transport.write(bytes(size))
                assert await client.until(size) == bytes(size)
            assert client.transport.get_extra_info("peername") == ("127.0.0.1", port)
            assert client.transport.get_extra_info("ssl_object").version() == "TLSv1.3"
            client.transport.close()
            assert await client.lost is None
            assert client.events.count("made") == 1
            assert transport.is_closing()

    run(runner, main())


def test_stream_writer_start_tls(
    runner: asyncio.Runner, server_context: ssl.SSLContext, client_context: ssl.SSLContext
) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert await reader.readline() == b"STARTTLS\n"
        writer.write(b"GO\n")
        await writer.drain()
        await writer.start_tls(server_context)
        assert writer.get_extra_info("ssl_object").server_side
        writer.write((await reader.readline()).upper())
        await finish(writer)

    async def main() -> None:
        async with streaming(serve, None) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"STARTTLS\n")
            assert await reader.readline() == b"GO\n"
            await writer.start_tls(client_context, server_hostname="localhost")
            writer.write(b"quiet\n")
            assert await reader.readline() == b"QUIET\n"
            assert await reader.read() == b""
            await finish(writer)

    run(runner, main())


def test_a_handshake_that_began_early_is_no_plaintext(
    runner: asyncio.Runner, server_context: ssl.SSLContext, client_context: ssl.SSLContext, loop_factory: Any
) -> None:
    """What the reader holds as the server's side begins is the peer's handshake, and never read as if encrypted."""
    if sys.version_info < (3, 14) and loop_factory is asyncio.new_event_loop:
        pytest.skip("asyncio leaves it in the reader")
    read: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while not reader._buffer:  # type: ignore[attr-defined]
            await asyncio.sleep(0)
        try:
            await writer.start_tls(server_context)
            read.append(await reader.readline())
            writer.write(read[-1].upper())
        except ssl.SSLError:
            read.append(b"refused")
        await finish(writer)

    async def main() -> None:
        async with streaming(serve, None) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            await writer.start_tls(client_context, server_hostname="localhost")
            writer.write(b"quiet\n")
            assert await reader.readline() == b"QUIET\n"
            await finish(writer)
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"injected\n")
            await writer.drain()
            with contextlib.suppress(ConnectionError):
                await asyncio.wait_for(reader.read(), 10)
            await finish(writer)

    run(runner, main())
    assert read == [b"quiet\n", b"refused"]


def test_a_proxy_over_tls(
    runner: asyncio.Runner, server_context: ssl.SSLContext, client_context: ssl.SSLContext
) -> None:
    """As an HTTPS proxy is used: TLS to it, and TLS to the target through it."""

    async def main() -> None:
        async with serving(Echo, server_context) as target:

            async def proxy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                there, back = await asyncio.open_connection("127.0.0.1", target)

                async def carry(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
                    while data := await source.read(65536):
                        sink.write(data)
                        await sink.drain()
                    sink.close()

                await asyncio.gather(carry(reader, back), carry(there, writer), return_exceptions=True)
                await finish(writer)
                await finish(back)

            async with streaming(proxy, server_context) as port:
                reader, writer = await connect(port, client_context)
                await writer.start_tls(client_context, server_hostname="localhost")
                writer.write(bytes(500_000))
                assert await reader.readexactly(500_000) == bytes(500_000)
                await finish(writer)

    run(runner, main())


def test_connect_accepted_socket(
    runner: asyncio.Runner, server_context: ssl.SSLContext, client_context: ssl.SSLContext
) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        server = Echo()
        _, (_, client) = await asyncio.gather(
            loop.connect_accepted_socket(lambda: server, ours, ssl=server_context),
            loop.create_connection(Recorder, sock=theirs, ssl=client_context, server_hostname="localhost"),
        )
        client.transport.write(b"hello")
        assert await client.until(5) == b"hello"
        client.transport.close()
        assert await client.lost is None
        assert await server.lost is None

    run(runner, main())


class Pipe(asyncio.Transport):
    """A transport that is not the loop's: what is written to one end comes out of the other in the next turn."""

    _start_tls_compatible = True

    def __init__(self) -> None:
        super().__init__()
        self.other: Pipe
        self.protocol: Any = None
        self.waiting: list[bytes] = []
        self.paused = self.closed = False

    def write(self, data: Any) -> None:
        assert not self.closed
        asyncio.get_running_loop().call_soon(self.other.receive, bytes(data))

    def receive(self, data: bytes) -> None:
        self.waiting.append(data)
        while self.waiting and not self.paused and not self.closed:
            data = self.waiting.pop(0)
            if isinstance(self.protocol, asyncio.BufferedProtocol):
                while data:
                    buffer = self.protocol.get_buffer(len(data))
                    count = min(len(buffer), len(data))
                    buffer[:count] = data[:count]
                    self.protocol.buffer_updated(count)
                    data = data[count:]
            else:
                self.protocol.data_received(data)

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False
        if self.waiting:
            self.receive(self.waiting.pop())

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self.protocol = protocol

    def get_protocol(self) -> Any:
        return self.protocol

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self._force_close(None)

    def abort(self) -> None:
        self._force_close(None)

    def _force_close(self, exc: BaseException | None) -> None:
        if not self.closed:
            self.closed = True
            asyncio.get_running_loop().call_soon(self.protocol.connection_lost, exc)


def test_a_transport_of_somebody_else(
    runner: asyncio.Runner, server_context: ssl.SSLContext, client_context: ssl.SSLContext
) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        one, other = Pipe(), Pipe()
        one.other, other.other = other, one
        server, client = Echo(), Recorder()
        upgraded = await asyncio.gather(
            loop.start_tls(one, server, server_context, server_side=True),
            loop.start_tls(other, client, client_context, server_hostname="localhost"),
        )
        server.transport, client.transport = upgraded  # type: ignore[assignment]
        client.events.append("made")
        client.transport.write(bytes(200_000))
        assert await client.until(200_000) == bytes(200_000)
        client.transport.close()
        assert await client.lost is None
        assert await server.lost is None

    run(runner, main())


def test_what_cannot_be_upgraded(runner: asyncio.Runner, client_context: ssl.SSLContext) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        with pytest.raises(TypeError, match=r"ssl\.SSLContext"):
            await loop.start_tls(asyncio.Transport(), asyncio.Protocol(), None)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="not supported by start_tls"):
            await loop.start_tls(asyncio.Transport(), asyncio.Protocol(), client_context)

    run(runner, main())


def test_a_failed_upgrade_tells_why(
    runner: asyncio.Runner, server_context: ssl.SSLContext, client_context: ssl.SSLContext
) -> None:
    async def main() -> None:
        async with serving(lambda: UpgradingServer(server_context), None) as port:
            loop = asyncio.get_running_loop()
            _, client = await loop.create_connection(Recorder, "127.0.0.1", port)
            client.transport.write(b"STARTTLS")
            await client.until(2)
            with pytest.raises(ssl.SSLCertVerificationError):
                await loop.start_tls(client.transport, client, client_context, server_hostname="wrong.test")
            assert client.transport.is_closing()

    run(runner, main())
