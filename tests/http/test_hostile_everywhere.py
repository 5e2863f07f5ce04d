"""Servers that are broken in every place: the right error, bounded memory, no connection that is left."""

from __future__ import annotations

import asyncio
import socket
import threading
import zlib
from collections.abc import Callable, Iterator

import pytest

from aioxide import http

from .conftest import Serve, resident_bytes

ANSWERS = {
    "length": b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello",
    "chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n0\r\nTrailer: x\r\n\r\n",
    "100": b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
}
BROKEN = (http.RemoteProtocolError, http.ReadError)


def cut_off(answer: bytes) -> Iterator[Callable[[socket.socket], None]]:
    """Servers that close after each byte of the answer, gently or with a reset."""
    for end in range(len(answer)):
        yield lambda connection, end=end: connection.sendall(answer[:end])

        def reset(connection: socket.socket, end: int = end) -> None:
            connection.sendall(answer[:end])
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")

        yield reset


@pytest.mark.parametrize("kind", ANSWERS)
def test_closing_after_every_byte(runner: asyncio.Runner, serve: Serve, kind: str) -> None:
    behaviours = list(cut_off(ANSWERS[kind]))
    turn = iter(range(10**6))
    url = serve(lambda connection: behaviours[next(turn) % len(behaviours)](connection))

    async def main() -> None:
        async with http.AsyncClient(timeout=5, limits=http.Limits(max_connections=5)) as client:

            async def ask() -> None:
                with pytest.raises(BROKEN):
                    await client.post(url)

            await asyncio.gather(*(ask() for _ in behaviours))
            statistics = client.statistics()
            assert set(statistics.values()) == {0}, statistics

    runner.run(main())


@pytest.mark.parametrize(
    "endless",
    [
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;", b"extension" * 1000),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", b"Trailer: value\r\n" * 1000),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", b"Trailer" * 1000),
        (b"HTTP/1.1 200 ", b"OK" * 1000),
        (b"", b"HTTP" * 1000),
    ],
    ids=["extension", "trailers", "trailer", "reason", "version"],
)
def test_what_never_ends_is_refused(serve: Serve, endless: tuple[bytes, bytes]) -> None:
    begin, forever = endless

    def behave(connection: socket.socket) -> None:
        connection.sendall(begin)
        while True:
            connection.sendall(forever)

    before = resident_bytes()
    with http.Client(timeout=http.Timeout(10, total=20)) as client:
        with pytest.raises(http.RemoteProtocolError):
            client.get(serve(behave))
        assert client.statistics()["connections_open"] == 0
    assert resident_bytes() - before < 32 * 2**20


@pytest.mark.parametrize(
    ("begin", "forever"),
    [
        (b"", b"HTTP/1.1 102 Processing\r\n\r\n"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"0" * 1000),
    ],
    ids=["interim answers", "a size of zeros"],
)
def test_what_takes_no_memory_meets_the_total(serve: Serve, begin: bytes, forever: bytes) -> None:
    def behave(connection: socket.socket) -> None:
        connection.sendall(begin)
        while True:
            connection.sendall(forever)
            threading.Event().wait(0.01)

    with http.Client(timeout=http.Timeout(5, total=0.5)) as client:
        with pytest.raises(http.TimeoutException):
            client.get(serve(behave))
        assert client.statistics()["connections_open"] == 0


async def read_in_flat_memory(url: str) -> int:
    """The bytes of a body that is read piece by piece, and that must not gather in memory."""
    before, most, total = resident_bytes(), 0, 0
    async with http.AsyncClient(timeout=20) as client, client.stream("GET", url) as response:
        async for data in response.aiter_bytes():
            total += len(data)
            most = max(most, resident_bytes())
    assert most - before < 24 * 2**20
    return total


def test_big_bodies_pass_through_flat_memory(runner: asyncio.Runner, serve: Serve) -> None:
    piece, count = bytes(2**20), 256

    def behave(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (len(piece) * count))
        for _ in range(count):
            connection.sendall(piece)

    url = serve(behave)

    assert runner.run(read_in_flat_memory(url)) == len(piece) * count


def test_a_bomb_is_decoded_in_bounded_pieces(runner: asyncio.Runner, serve: Serve) -> None:
    """Without max_decoded_bytes as well: whoever streams gets pieces, not the whole."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    body = b"".join([packer.compress(bytes(2**20)) for _ in range(256)] + [packer.flush()])
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(body)
    url = serve(lambda connection: connection.sendall(head + body))

    assert runner.run(read_in_flat_memory(url)) == 256 * 2**20


def test_a_server_that_takes_nothing_and_one_that_says_nothing(runner: asyncio.Runner, serve: Serve) -> None:
    silent = serve(lambda connection: threading.Event().wait(3) and None)

    async def main() -> None:
        async with http.AsyncClient(timeout=0.2) as client:
            with pytest.raises(http.ReadTimeout):
                await client.get(silent)
            with pytest.raises(http.WriteTimeout):
                await client.post(silent, content=bytes(50_000_000))
            assert set(client.statistics().values()) == {0}

    runner.run(main())
