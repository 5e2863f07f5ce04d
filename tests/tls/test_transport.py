"""What a TLS transport shows of itself and does, the same on asyncio's loop and on ours."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
import ssl
import warnings
from collections.abc import AsyncIterator
from typing import Any

import pytest
from tests.tls.peers import Echo, Recorder, client_of, run, serving


@contextlib.asynccontextmanager
async def pair(
    server_context: ssl.SSLContext, client_context: ssl.SSLContext, **options: Any
) -> AsyncIterator[tuple[Recorder, Recorder]]:
    """A client's and a server's protocol, connected."""
    servers: list[Recorder] = []

    def make() -> Recorder:
        servers.append(Recorder())
        return servers[-1]

    async with serving(make, server_context, **options) as port:
        asyncio.get_running_loop()
        _, client = await client_of(port, client_context, **options)
        while not servers:
            await asyncio.sleep(0.001)
        await servers[0].made
        try:
            yield client, servers[0]
        finally:
            client.transport.abort()
            await client.lost


def test_extra_info(runner: asyncio.Runner, server_context: ssl.SSLContext, client_context: ssl.SSLContext) -> None:
    async def main() -> None:
        async with pair(server_context, client_context) as (client, server):
            info = client.transport.get_extra_info
            assert isinstance(info("ssl_object"), ssl.SSLObject)
            assert info("sslcontext") is client_context
            assert info("peercert") == info("ssl_object").getpeercert()
            assert ("DNS", "localhost") in info("peercert")["subjectAltName"]
            assert info("cipher") == info("ssl_object").cipher()
            assert info("compression") is None
            assert info("peername") == server.transport.get_extra_info("sockname")
            assert info("socket").fileno() > 0
            assert info("nothing of this name", 7) == 7
            assert server.transport.get_extra_info("peercert") is None
            assert info("ssl_object").version() == "TLSv1.3"
            assert info("ssl_object").server_hostname == "localhost"
            assert server.transport.get_extra_info("ssl_object").server_side

    run(runner, main())


def test_it_is_an_asyncio_transport(
    runner: asyncio.Runner, server_context: ssl.SSLContext, client_context: ssl.SSLContext
) -> None:
    async def main() -> None:
        async with pair(server_context, client_context) as (client, _):
            transport = client.transport
            assert isinstance(transport, asyncio.Transport)
            assert transport.get_protocol() is client
            assert transport.can_write_eof() is False
            with pytest.raises(NotImplementedError):
                transport.write_eof()
            with pytest.raises(TypeError, match="bytes-like"):
                transport.write("text")
            transport.write(b"")
            assert transport.is_reading() and not transport.is_closing()
            other = Recorder()
            transport.set_protocol(other)
            assert transport.get_protocol() is other
            transport.set_protocol(client)

    run(runner, main())


def test_limits(runner: asyncio.Runner, server_context: ssl.SSLContext, client_context: ssl.SSLContext) -> None:
    async def main() -> None:
        async with pair(server_context, client_context) as (client, _):
            transport = client.transport
            assert transport.get_write_buffer_limits() == (128 * 1024, 512 * 1024)
            transport.set_write_buffer_limits(high=1000)
            assert transport.get_write_buffer_limits() == (250, 1000)
            transport.set_write_buffer_limits(low=100)
            assert transport.get_write_buffer_limits() == (100, 400)
            transport.set_write_buffer_limits(high=10, low=10)
            with pytest.raises(ValueError, match="must be >="):
                transport.set_write_buffer_limits(high=1, low=2)
            with pytest.raises(ValueError, match="must be >="):
                transport.set_write_buffer_limits(high=-1, low=-2)
            assert transport.get_write_buffer_size() == 0
            assert transport.get_read_buffer_limits() == (64 * 1024, 256 * 1024)
            transport.set_read_buffer_limits(high=1000, low=10)
            assert transport.get_read_buffer_limits() == (10, 1000)
            assert transport.get_read_buffer_size() == 0

    run(runner, main())


def test_close_says_goodbye_on_both_sides(
    runner: asyncio.Runner, server_context: ssl.SSLContext, client_context: ssl.SSLContext
) -> None:
    async def main() -> None:
        async with pair(server_context, client_context) as (client, server):
            client.transport.write(b"last words")
            client.transport.close()
            assert client.transport.is_closing()
            client.transport.close()
            assert await server.lost is None
            assert await client.lost is None
            assert server.events == ["made", "data", "eof", "lost"]
            assert bytes(server.data) == b"last words"
            assert client.events in (["made", "eof", "lost"], ["made", "lost"])

    run(runner, main())


def test_what_was_written_before_close_arrives(
    runner: asyncio.Runner, server_context: ssl.SSLContext, client_context: ssl.SSLContext
) -> None:
    size = 8 * 1024 * 1024

    async def main() -> None:
        async with pair(server_context, client_context) as (client, server):
            server.transport.pause_reading()
            client.transport.write(bytes(size))
            client.transport.close()
            await asyncio.sleep(0.05)
            assert not client.lost.done()
            server.transport.resume_reading()
            assert await server.lost is None
            assert len(server.data) == size
            assert await client.lost is None

    run(runner, main())


def test_abort_is_at_once(
    runner: asyncio.Runner, server_context: ssl.SSLContext, client_context: ssl.SSLContext
) -> None:
    async def main() -> None:
        async with pair(server_context, client_context) as (client, server):
            client.transport.write(bytes(8 * 1024 * 1024))
            client.transport.abort()
            assert client.transport.is_closing()
            assert await client.lost is None
            await server.lost
            assert client.events[-1] == "lost"

    run(runner, main())


def test_writes_after_close_lead_nowhere(
    runner: asyncio.Runner,
    server_context: ssl.SSLContext,
    client_context: ssl.SSLContext,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def main() -> None:
        async with pair(server_context, client_context) as (client, server):
            client.transport.close()
            for _ in range(10):
                client.transport.write(b"too late")
            await server.lost
            await client.lost
            assert not server.data

    run(runner, main())
    assert "SSL connection is closed" in caplog.text


def test_pause_and_resume_reading(
    runner: asyncio.Runner, server_context: ssl.SSLContext, client_context: ssl.SSLContext
) -> None:
    async def main() -> None:
        async with pair(server_context, client_context) as (client, server):
            server.transport.pause_reading()
            server.transport.pause_reading()
            assert not server.transport.is_reading()
            client.transport.write(b"x" * 100_000)
            await asyncio.sleep(0.05)
            assert not server.data
            server.transport.resume_reading()
            server.transport.resume_reading()
            assert await server.until(100_000) == b"x" * 100_000

    run(runner, main())


def test_pausing_inside_of_data_received(
    runner: asyncio.Runner, server_context: ssl.SSLContext, client_context: ssl.SSLContext
) -> None:
    class Careful(Recorder):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self.transport.pause_reading()
            asyncio.get_running_loop().call_later(0.001, self.transport.resume_reading)

    async def main() -> None:
        servers: list[Careful] = []

        def make() -> Careful:
            servers.append(Careful())
            return servers[-1]

        async with serving(make, server_context) as port:
            asyncio.get_running_loop()
            transport, client = await client_of(port, client_context)
            for n in range(200):
                transport.write(bytes([n]) * 5000)
            while not servers:
                await asyncio.sleep(0.001)
            assert await servers[0].until(1_000_000) == b"".join(bytes([n]) * 5000 for n in range(200))
            transport.close()
            await client.lost

    run(runner, main())


def test_a_peer_that_ends_while_reading_pauses(
    runner: asyncio.Runner, server_context: ssl.SSLContext, client_context: ssl.SSLContext
) -> None:
    async def main() -> None:
        async with pair(server_context, client_context) as (client, server):
            server.transport.pause_reading()
            await asyncio.sleep(0.01)
            client.transport.write(b"x" * 50_000)
            client.transport.close()
            await asyncio.sleep(0.05)
            assert "eof" not in server.events
            server.transport.resume_reading()
            assert await server.lost is None
            assert len(server.data) == 50_000
            assert server.events == ["made", "data", "eof", "lost"]

    run(runner, main())


@pytest.mark.parametrize("method", ["data_received", "eof_received", "connection_made"])
def test_a_protocol_that_raises_loses_its_connection(
    runner: asyncio.Runner,
    complaints: list[dict[str, Any]],
    server_context: ssl.SSLContext,
    client_context: ssl.SSLContext,
    method: str,
) -> None:
    class Broken(Recorder):
        pass

    def broken(self: Recorder, *_args: Any) -> None:
        if method == "connection_made":
            Recorder.connection_made(self, *_args)
        raise ZeroDivisionError(method)

    setattr(Broken, method, broken)
    servers: list[Broken] = []

    def make() -> Broken:
        servers.append(Broken())
        return servers[-1]

    async def main() -> None:
        async with serving(make, server_context) as port:
            asyncio.get_running_loop()
            transport, client = await client_of(port, client_context)
            transport.write(b"data")
            await asyncio.sleep(0.01)
            transport.close()
            await client.lost
            assert isinstance(await servers[0].lost, ZeroDivisionError)

    run(runner, main())
    assert any(isinstance(each.get("exception"), ZeroDivisionError) for each in complaints)


def test_true_from_eof_received_has_no_effect(
    runner: asyncio.Runner,
    server_context: ssl.SSLContext,
    client_context: ssl.SSLContext,
    caplog: pytest.LogCaptureFixture,
) -> None:
    class KeepsOpen(Recorder):
        def eof_received(self) -> bool:
            super().eof_received()
            return True

    servers: list[KeepsOpen] = []

    def make() -> KeepsOpen:
        servers.append(KeepsOpen())
        return servers[-1]

    async def main() -> None:
        async with serving(make, server_context) as port:
            asyncio.get_running_loop()
            transport, client = await client_of(port, client_context)
            transport.close()
            await client.lost
            assert await servers[0].lost is None

    run(runner, main())
    assert "has no effect when using ssl" in caplog.text


def test_an_unclosed_transport_is_warned_of(
    runner: asyncio.Runner, server_context: ssl.SSLContext, client_context: ssl.SSLContext
) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run(runner, _abandon(server_context, client_context))
        runner.close()
        gc.collect()
        gc.collect()
    assert any("unclosed transport" in str(each.message) for each in caught), [str(each.message) for each in caught]


async def _abandon(server_context: ssl.SSLContext, client_context: ssl.SSLContext) -> None:
    """Leave a connection open, on both sides."""
    made = asyncio.Event()

    class Made(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            made.set()

    loop = asyncio.get_running_loop()
    server = await loop.create_server(Made, "127.0.0.1", 0, ssl=server_context)
    port = server.sockets[0].getsockname()[1]
    await loop.create_connection(asyncio.Protocol, "127.0.0.1", port, ssl=client_context, server_hostname="localhost")
    await made.wait()
    await asyncio.sleep(0.01)
    server.close()


@pytest.mark.parametrize("name", ["ssl_handshake_timeout", "ssl_shutdown_timeout"])
@pytest.mark.parametrize("value", [0, -1])
def test_timeouts_are_positive(
    runner: asyncio.Runner, server_context: ssl.SSLContext, client_context: ssl.SSLContext, name: str, value: float
) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with serving(Echo, server_context) as port:
            # asyncio leaves a socket of its own open then.
            with socket.create_connection(("127.0.0.1", port)) as sock:
                with pytest.raises(ValueError, match=f"{name} should be a positive number"):
                    await loop.create_connection(
                        Recorder, sock=sock, ssl=client_context, server_hostname="localhost", **{name: value}
                    )

    run(runner, main())
