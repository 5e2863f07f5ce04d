"""What a TLS server does between accepting a connection and the end of its handshake."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import socket
import ssl
import sys
import warnings
from typing import Any

import pytest
from tests.tls.peers import PATIENCE, Echo, Recorder, client_of, connect, finish, run, serving

ERROR_AT_CREATION = "Error on transport creation for incoming connection"
number = contextvars.ContextVar[int]("number")


async def silent(port: int) -> socket.socket:
    """A client that connects and says nothing; the server has taken it."""
    sock = socket.create_connection(("127.0.0.1", port))
    for _ in range(10):
        await asyncio.sleep(0.001)
    return sock


def test_each_connection_has_a_context_of_its_own(
    runner: asyncio.Runner, server_context: ssl.SSLContext, client_context: ssl.SSLContext
) -> None:
    count = 0

    class Numbered(Echo):
        def __init__(self) -> None:
            nonlocal count
            super().__init__()
            assert number.get(0) == 0, "another connection's"
            count += 1
            number.set(count)

        def data_received(self, data: bytes) -> None:
            self.transport.write(data + b"%d" % number.get())

    async def main() -> None:
        for context in (server_context, None):
            async with serving(Numbered, context) as port:
                for _ in range(3):
                    options = {"server_hostname": "localhost"} if context else {}
                    reader, writer = await asyncio.open_connection(
                        "127.0.0.1", port, ssl=client_context if context else None, **options
                    )
                    writer.write(b"number ")
                    assert await reader.readexactly(8) == b"number %d" % count
                    await finish(writer)
        assert number.get(0) == 0

    run(runner, main())
    assert count == 6


def test_a_factory_that_fails_ends_its_connection_alone(
    runner: asyncio.Runner, server_context: ssl.SSLContext, client_context: ssl.SSLContext, kind: str
) -> None:
    if kind == "asyncio":
        pytest.skip("asyncio leaves the socket to the collector")
    count = 0

    def factory() -> Echo:
        nonlocal count
        count += 1
        if count == 1:
            raise LookupError("no protocol today")
        return Echo()

    async def main() -> None:
        async with serving(factory, server_context) as port:
            with pytest.raises((ConnectionError, ssl.SSLError)):
                await connect(port, client_context)
            reader, writer = await connect(port, client_context)
            writer.write(b"hello")
            assert await reader.readexactly(5) == b"hello"
            await finish(writer)

    run(runner, main())


@pytest.mark.parametrize("debug", [False, True])
def test_only_who_debugs_hears_that_a_connection_was_not_made(
    runner: asyncio.Runner, server_context: ssl.SSLContext, complaints: list[dict[str, Any]], debug: bool
) -> None:
    protocols: list[Echo] = []

    def factory() -> Echo:
        protocols.append(Echo())
        protocols[-1].lost.cancel()
        return protocols[-1]

    async def main() -> None:
        asyncio.get_running_loop().set_debug(debug)
        server = await asyncio.get_running_loop().create_server(factory, "127.0.0.1", 0, ssl=server_context)
        with await silent(server.sockets[0].getsockname()[1]) as sock:
            sock.sendall(b"GET / HTTP/1.1\r\n\r\n")
            for _ in range(1000):
                if any(told["message"] == "SSL handshake failed" for told in complaints):
                    break
                await asyncio.sleep(0.001)
            await asyncio.sleep(0.01)
        server.close()
        await server.wait_closed()
        asyncio.get_running_loop().set_debug(False)

    run(runner, main())
    reports = [told for told in complaints if told["message"] == ERROR_AT_CREATION]
    assert len(reports) == debug
    for told in reports:
        assert isinstance(told["exception"], ssl.SSLError)
        assert told["protocol"] is protocols[0]
        assert told["transport"].is_closing()


def test_the_end_of_the_loop_in_a_handshake_is_nobodys_mistake(
    loop_factory: Any, server_context: ssl.SSLContext
) -> None:
    async def main() -> socket.socket:
        server = await asyncio.get_running_loop().create_server(Recorder, "127.0.0.1", 0, ssl=server_context)
        sock = await silent(server.sockets[0].getsockname()[1])
        server.close()
        return sock

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            sock = runner.run(main())
        gc.collect()
        with sock:
            sock.settimeout(PATIENCE)
            assert sock.recv(1) == b"", "the server's end is closed"
    assert not [str(warning.message) for warning in caught if issubclass(warning.category, ResourceWarning)]


@pytest.mark.skipif(sys.version_info < (3, 13), reason="servers know their connections since 3.13")
def test_a_server_can_close_a_connection_in_its_handshake(
    runner: asyncio.Runner, server_context: ssl.SSLContext
) -> None:
    async def main() -> None:
        server = await asyncio.get_running_loop().create_server(Recorder, "127.0.0.1", 0, ssl=server_context)
        with await silent(server.sockets[0].getsockname()[1]) as sock:
            server.close()
            waiting = asyncio.ensure_future(server.wait_closed())
            await asyncio.sleep(0.01)
            assert not waiting.done(), "the connection counts"
            server.close_clients()
            await waiting
            sock.settimeout(PATIENCE)
            assert sock.recv(1) == b""

    run(runner, main())


def test_more_busy_connections_than_keep_their_buffers(
    runner: asyncio.Runner, server_context: ssl.SSLContext, client_context: ssl.SSLContext
) -> None:
    """Libssl's buffers are kept for 64 sessions; others take their places, here in every turn."""

    async def main() -> None:
        async with serving(Echo, server_context) as port:
            clients = [(await client_of(port, client_context))[1] for _ in range(100)]
            expected = [bytearray() for _ in clients]
            for turn in range(12):
                busy = range(turn * 8 % 50, 100) if turn % 3 else range(0, 100, 7)
                for each in busy:
                    message = bytes([each]) * (1 + each * turn * 37 % 20_000)
                    clients[each].transport.write(message)
                    expected[each] += message
                for each in busy:
                    await clients[each].until(len(expected[each]))
            for client, content in zip(clients, expected, strict=True):
                assert client.data == content
                client.transport.close()
            await asyncio.gather(*[client.lost for client in clients])

    run(runner, main())
