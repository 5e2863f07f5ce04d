"""What a hostile or broken server may send: the right error, within the limits, on a connection that is closed."""

from __future__ import annotations

import asyncio
import gzip
import socket
import threading
import zlib
from collections.abc import Callable

import pytest

from aioxide import http

from .conftest import Serve


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (b"", "without an answer"),
        (b"HTTP/1.1 200 OK\r\nContent-", "before the answer was whole"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc", "before the body was whole"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", "HTTP/1.1"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", "HTTP/1.1"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1x\r\n\r\n", "HTTP/1.1"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "chunk"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n0\r\n\r\n", "chunk"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nab", "before the body was whole"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n", "chunk"),
        (b"SIP/2.0 200 OK\r\n\r\n", "HTTP/1.1"),
        (b"HTTP/1.1 99999 OK\r\n\r\n", "HTTP/1.1"),
        (b"HTTP/1.1 200 OK\r\nbad name: x\r\n\r\n", "HTTP/1.1"),
        (b"HTTP/1.1 200 OK\r\nX: a\0b\r\n\r\n", "HTTP/1.1"),
    ],
)
def test_answers_that_break_the_protocol(serve: Serve, answer: bytes, error: str) -> None:
    with http.Client(timeout=5) as client:
        with pytest.raises(http.RemoteProtocolError, match=error) as caught:
            client.get(serve(lambda connection: connection.sendall(answer)))
        assert caught.value.request.method == "GET"
        assert client.statistics()["connections_open"] == 0


def test_a_length_beside_chunks_does_not_count(serve: Serve) -> None:
    """RFC 9112, section 6.3: Transfer-Encoding goes before; the connection is not used again."""
    body = (
        b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n5\r\nhello\r\n0\r\n\r\nHTTP/1.1 200 OK\r\n\r\nsmuggled"
    )
    with http.Client(timeout=5) as client:
        url = serve(lambda connection: connection.sendall(b"HTTP/1.1 200 OK\r\n" + body))
        for _ in range(3):
            assert client.get(url).text == "hello"


def test_what_comes_after_the_answer_is_nobodys(serve: Serve) -> None:
    def behave(connection: socket.socket) -> None:
        connection.sendall(
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nsmuggled"
        )
        connection.recv(1)

    with http.Client(timeout=5) as client:
        url = serve(behave)
        assert [client.get(url).text for _ in range(3)] == ["ok"] * 3


@pytest.mark.parametrize("endless", [b"X: " + b"a" * 1000 + b"\r\n", b"a" * 1000])
def test_an_endless_head_ends_the_request(serve: Serve, endless: bytes) -> None:
    def behave(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\n")
        while True:
            connection.sendall(endless)

    with http.Client(timeout=20) as client:
        with pytest.raises(http.RemoteProtocolError):
            client.get(serve(behave))


def test_single_bytes_and_slow_loris(runner: asyncio.Runner, serve: Serve) -> None:
    answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nTrailer: x\r\n\r\n"

    def byte_by_byte(connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for at in range(len(answer)):
            connection.sendall(answer[at : at + 1])

    def forever(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
        while True:
            connection.sendall(b"x")
            threading.Event().wait(0.02)

    quick, slow = serve(byte_by_byte), serve(forever)

    async def main() -> None:
        async with http.AsyncClient(timeout=5) as client:
            assert (await client.get(quick)).text == "hello"
            with pytest.raises(http.ReadTimeout, match="total"):
                await client.get(slow, timeout=http.Timeout(5, total=0.3))
            assert client.statistics()["requests_in_flight"] == 0

    runner.run(main())


def zstd_of_zeros(count: int) -> bytes:
    """A frame of RFC 8878 made by hand: a window of 128 KiB, and blocks that repeat one byte."""
    frame = b"\x28\xb5\x2f\xfd" + b"\x00" + b"\x38"
    while count > 0:
        size = min(count, 128 * 1024)
        count -= size
        frame += (size << 3 | 1 << 1 | (count == 0)).to_bytes(3, "little") + b"\0"
    return frame


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "zstd"])
def test_a_bomb_is_not_decoded(runner: asyncio.Runner, serve: Serve, encoding: str) -> None:
    coders: dict[str, Callable[[int], bytes]] = {
        "gzip": lambda count: gzip.compress(bytes(count)),
        "deflate": lambda count: zlib.compress(bytes(count)),
        "zstd": zstd_of_zeros,
    }
    body = coders[encoding](50_000_000)
    head = f"HTTP/1.1 200 OK\r\nContent-Encoding: {encoding}\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    url = serve(lambda connection: connection.sendall(head + body))

    async def main() -> None:
        async with http.AsyncClient(max_decoded_bytes=1_000_000, timeout=10) as client:
            with pytest.raises(http.DecodingError, match="max_decoded_bytes"):
                await client.get(url)
            decoded = 0
            with pytest.raises(http.DecodingError, match="max_decoded_bytes"):
                async with client.stream("GET", url) as response:
                    async for piece in response.aiter_bytes():
                        decoded += len(piece)
            assert decoded <= 1_000_000

    runner.run(main())


def test_nothing_can_be_smuggled_into_a_request() -> None:
    transport = http.HTTPTransport()
    with http.Client(transport=transport) as client:
        for headers in ({"X": "a\r\nY: b"}, {"X\r\nY": "a"}, {"X": "a\0"}, {"X y": "a"}, {"": "a"}):
            with pytest.raises(http.LocalProtocolError):
                client.get("http://127.0.0.1:1/", headers=headers)
        for headers in (
            {"Content-Length": "3", "Transfer-Encoding": "chunked"},
            {"Content-Length": "4"},
            {"Content-Length": "3, 3"},
            {"Content-Length": "+3"},
        ):
            with pytest.raises(http.LocalProtocolError):
                client.post("http://127.0.0.1:1/", content=b"abc", headers=headers)
        for method in ("GET /other HTTP/1.1\r\nX:", "G T", "CONNECT"):
            with pytest.raises(http.LocalProtocolError):
                client.request(method, "http://127.0.0.1:1/")


def test_no_secret_in_a_repr() -> None:
    url = "http://user:secret@h/"
    shown = [
        http.URL(url),
        http.Request("GET", url, headers={"Authorization": "secret", "Proxy-Authorization": "secret"}).headers,
        http.Request("GET", url),
        http.Proxy(url, headers={"X": "secret"}),
        http.Cookies({"session": "secret"}),
        http.BasicAuth("user", "secret"),
        http.DigestAuth("user", "secret"),
    ]
    assert not [each for each in shown if "secret" in repr(each)]
