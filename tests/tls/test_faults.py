"""A bad line between the peers: in single bytes, cut at any place, corrupted, ended without a goodbye, stalled."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
import time
from typing import Any

import pytest
from tests.tls.conftest import at_version
from tests.tls.peers import Echo, Proxy, Recorder, client_of, connect, echo, finish, run, serving, streaming

FAILURES = (ssl.SSLError, ConnectionError, asyncio.IncompleteReadError, TimeoutError)


@pytest.fixture(autouse=True)
def quiet(complaints: list[dict[str, Any]]) -> None:
    """The loop's handler hears of broken connections; here they are the point."""


def test_single_bytes(
    runner: asyncio.Runner, server_context: ssl.SSLContext, client_context: ssl.SSLContext, version: ssl.TLSVersion
) -> None:
    async def main() -> None:
        async with streaming(echo, server_context) as port:
            proxy = Proxy(port)
            proxy.single_bytes = True
            async with proxy as port:
                reader, writer = await connect(port, client_context)
                writer.write(bytes(range(256)) * 8)
                assert await reader.readexactly(2048) == bytes(range(256)) * 8
                await finish(writer)

    with at_version(version, server_context, client_context):
        run(runner, main())


def cut_at(place: int) -> Proxy.Fault:
    """Pass so many bytes on, and then nothing more."""

    def fault(data: bytes, passed: int) -> bytes | None:
        return data if passed + len(data) < place else None

    return fault


@pytest.mark.parametrize("place", [1, 6, 200, 700, 1500, 3000, 40_000])
@pytest.mark.parametrize("side", [0, 1])
def test_a_connection_that_is_cut(
    runner: asyncio.Runner,
    server_context: ssl.SSLContext,
    client_context: ssl.SSLContext,
    version: ssl.TLSVersion,
    place: int,
    side: int,
) -> None:
    faults: list[Any] = [None, None]
    faults[side] = cut_at(place)

    async def main() -> None:
        async with streaming(echo, server_context) as port, Proxy(port, *faults) as port:
            with pytest.raises(FAILURES):
                reader, writer = await connect(port, client_context)
                try:
                    for _ in range(50):
                        writer.write(bytes(3000))
                        await reader.readexactly(3000)
                finally:
                    await finish(writer)

    with at_version(version, server_context, client_context):
        run(runner, main())


def corrupt_at(place: int) -> Proxy.Fault:
    """Turn one bit over."""

    def fault(data: bytes, passed: int) -> bytes:
        if passed <= place < passed + len(data):
            changed = bytearray(data)
            changed[place - passed] ^= 0x40
            return bytes(changed)
        return data

    return fault


@pytest.mark.parametrize("place", [0, 5, 60, 300, 6000])
@pytest.mark.parametrize("side", [0, 1])
def test_a_bit_that_flips(
    runner: asyncio.Runner,
    server_context: ssl.SSLContext,
    client_context: ssl.SSLContext,
    version: ssl.TLSVersion,
    place: int,
    side: int,
) -> None:
    faults: list[Any] = [None, None]
    faults[side] = corrupt_at(place)

    async def main() -> None:
        async with streaming(echo, server_context, ssl_handshake_timeout=2) as port, Proxy(port, *faults) as port:
            with pytest.raises(FAILURES):
                # Half of a record that seems longer than it is stalls the handshake.
                reader, writer = await connect(port, client_context, ssl_handshake_timeout=2)
                try:
                    async with asyncio.timeout(2):
                        for _ in range(20):
                            writer.write(bytes(3000))
                            assert await reader.readexactly(3000) == bytes(3000)
                finally:
                    writer.transport.abort()
                    await finish(writer)

    with at_version(version, server_context, client_context):
        run(runner, main())


def test_a_corrupted_record_is_an_ssl_error(
    runner: asyncio.Runner, server_context: ssl.SSLContext, client_context: ssl.SSLContext
) -> None:
    """Data that came whole before it is still received, on ours; the error is the one that the ssl module raises."""

    async def main() -> None:
        corrupting = False

        def fault(data: bytes, passed: int) -> bytes:
            return data[:-1] + bytes([data[-1] ^ 1]) if corrupting else data

        async with serving(Echo, server_context) as port, Proxy(port, None, fault) as port:
            asyncio.get_running_loop()
            transport, client = await client_of(port, client_context)
            transport.write(b"good")
            assert await client.until(4) == b"good"
            corrupting = True
            transport.write(b"bad")
            error = await client.lost
            assert type(error) is ssl.SSLError
            # OpenSSL 3.6 says the second.
            assert error.reason in ("DECRYPTION_FAILED_OR_BAD_RECORD_MAC", "RECORD_LAYER_FAILURE")
            assert error.library == "SSL"
            assert str(error).startswith(f"[SSL: {error.reason}] ") and "(_ssl.c:" in str(error)
            assert bytes(client.data) == b"good"

    run(runner, main())


@pytest.mark.parametrize("how", ["end", "reset"])
def test_a_peer_that_ends_without_a_goodbye(
    runner: asyncio.Runner, server_context: ssl.SSLContext, client_context: ssl.SSLContext, how: str
) -> None:
    def peer(listener: socket.socket) -> None:
        raw, _ = listener.accept()
        with raw, server_context.wrap_socket(raw, server_side=True, suppress_ragged_eofs=True) as connection:
            connection.sendall(b"last words")
            assert connection.recv(100) == b"heard"
            if how == "reset":
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            # Closed below TLS: no close_notify.
            socket.socket(fileno=connection.detach()).close()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        with socket.create_server(("127.0.0.1", 0)) as listener:
            thread = loop.run_in_executor(None, peer, listener)
            transport, client = await loop.create_connection(
                Recorder, "127.0.0.1", listener.getsockname()[1], ssl=client_context, server_hostname="localhost"
            )
            assert await client.until(10) == b"last words"
            transport.write(b"heard")
            error = await client.lost
            await thread
            if how == "end":
                assert error is None
                assert client.events == ["made", "data", "eof", "lost"]
            else:
                assert isinstance(error, ConnectionResetError)
                assert client.events == ["made", "data", "lost"]

    run(runner, main())


@pytest.mark.parametrize("side", ["client", "server"])
def test_a_stalled_handshake_times_out(
    runner: asyncio.Runner, server_context: ssl.SSLContext, client_context: ssl.SSLContext, side: str
) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        begin = time.monotonic()
        if side == "client":
            with socket.create_server(("127.0.0.1", 0)) as listener:
                with pytest.raises(ConnectionAbortedError, match="SSL handshake is taking longer than 0.1 seconds"):
                    await connect(listener.getsockname()[1], client_context, ssl_handshake_timeout=0.1)
        else:
            async with serving(Recorder, server_context, ssl_handshake_timeout=0.1) as port:
                with socket.create_connection(("127.0.0.1", port)) as stalling:
                    stalling.setblocking(False)
                    with contextlib.suppress(ConnectionError):
                        assert await loop.sock_recv(stalling, 100) == b""
        assert 0.05 < time.monotonic() - begin < 10

    run(runner, main())


def test_a_peer_that_never_says_goodbye(
    runner: asyncio.Runner, server_context: ssl.SSLContext, client_context: ssl.SSLContext
) -> None:
    """The shutdown ends with its timeout."""

    async def main() -> None:
        stalled = False

        def fault(data: bytes, passed: int) -> bytes:
            return b"" if stalled else data

        async with serving(Echo, server_context) as port, Proxy(port, fault, None) as port:
            asyncio.get_running_loop()
            transport, client = await client_of(port, client_context, ssl_shutdown_timeout=0.1)
            transport.write(b"hello")
            await client.until(5)
            stalled = True
            begin = time.monotonic()
            transport.close()
            error = await client.lost
            assert isinstance(error, TimeoutError)
            assert "SSL shutdown timed out" in str(error)
            assert 0.05 < time.monotonic() - begin < 10

    run(runner, main())


def test_a_peer_that_does_not_read_cannot_delay_the_end_for_ever(
    runner: asyncio.Runner, server_context: ssl.SSLContext, client_context: ssl.SSLContext
) -> None:
    async def main() -> None:
        held: list[Recorder] = []

        class Silent(Recorder):
            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                super().connection_made(transport)
                held.append(self)
                self.transport.set_read_buffer_limits(high=1)
                self.transport.pause_reading()

        async with serving(Silent, server_context) as port:
            asyncio.get_running_loop()
            transport, client = await client_of(port, client_context, ssl_shutdown_timeout=0.2)
            while not held:
                await asyncio.sleep(0.001)
            transport.write(bytes(30 * 1024 * 1024))
            transport.close()
            assert isinstance(await client.lost, TimeoutError)

    run(runner, main())


def test_a_plain_peer(runner: asyncio.Runner, server_context: ssl.SSLContext, client_context: ssl.SSLContext) -> None:
    async def main() -> None:
        async with streaming(echo, None) as port:
            with pytest.raises(ssl.SSLError):
                await connect(port, client_context)
        async with serving(Recorder, server_context) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET / HTTP/1.1\r\n\r\n")
            with contextlib.suppress(ConnectionError):
                await reader.read()
            await finish(writer)

    run(runner, main())
