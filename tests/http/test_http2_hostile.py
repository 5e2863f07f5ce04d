"""What a hostile server may do by HTTP/2 beyond the floods of test_http2.py: the right exception, in time, and nothing
lost.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from h2.errors import ErrorCodes
from h2.settings import SettingCodes
from tests.http.conftest import resident_bytes
from tests.http.http2_server import Connection, Http2Server, Request, serving

from aioxide import http

ALWAYS: dict[str, Any] = {"http1": False, "http2": True}
HEADERS, RST_STREAM, SETTINGS, PUSH_PROMISE, WINDOW_UPDATE = 1, 3, 4, 5, 8
END_HEADERS = 4
OK = b"\x88"  # ":status: 200", as HPACK has it


@pytest.fixture
def plain() -> Iterator[Http2Server]:
    with serving() as server:
        yield server


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def setting(name: int, value: int) -> bytes:
    return frame(SETTINGS, 0, 0, name.to_bytes(2, "big") + value.to_bytes(4, "big"))


def literal(name: bytes, value: bytes) -> bytes:
    """A header field that HPACK does not compress; each part may have up to 30,000 bytes."""

    def length(part: bytes) -> bytes:
        if len(part) < 127:
            return bytes([len(part)])
        rest = len(part) - 127
        return bytes([127, rest & 127 | 128, rest >> 7]) if rest > 127 else bytes([127, rest])

    return b"\0" + length(name) + name + length(value) + value


Frames = Callable[[Request], bytes]


def sends(frames: Frames) -> Callable[[Connection, Request], None]:
    """Answer the paths that begin with /bad with these bytes, and others as usual."""

    def respond(connection: Connection, request: Request) -> None:
        if request.path.startswith("/bad"):
            connection.transport.sendall(frames(request))
        else:
            connection.answer(request, b"fine")

    return respond


async def is_whole(client: http.AsyncClient, url: str) -> None:
    """The client works, and has nothing under way any more."""
    responses = await asyncio.gather(*[client.get(url) for _ in range(20)])
    assert {response.text for response in responses} == {"fine"}
    statistics = client.statistics()
    assert (statistics["requests_in_flight"], statistics["requests_waiting"]) == (0, 0)
    assert statistics["connections_open"] == statistics["connections_idle"]


BREACHES: dict[str, Frames] = {
    "a stream that nobody opened is reset": lambda request: frame(RST_STREAM, 0, 99, bytes(4)),
    "a stream of the server's is reset": lambda request: frame(RST_STREAM, 0, 2, bytes(4)),
    "a pushed promise, which was not allowed": lambda request: frame(
        PUSH_PROMISE, END_HEADERS, request.stream, (2).to_bytes(4, "big") + b"\x82\x87\x84"
    ),
    "a window that overflows": lambda request: frame(WINDOW_UPDATE, 0, 0, (2**31 - 1).to_bytes(4, "big")),
    "a window that grows by nothing": lambda request: frame(WINDOW_UPDATE, 0, 0, bytes(4)),
    "a window size that is none": lambda request: setting(SettingCodes.INITIAL_WINDOW_SIZE, 2**31),
    "a frame size that is none": lambda request: setting(SettingCodes.MAX_FRAME_SIZE, 1),
    "a frame that is too large": lambda request: b"\xff\xff\xff\0\0" + request.stream.to_bytes(4, "big"),
    "settings of half a setting": lambda request: frame(SETTINGS, 0, 0, b"abc"),
    "settings of one stream": lambda request: frame(SETTINGS, 0, request.stream, b""),
    "HPACK that is none": lambda request: frame(HEADERS, END_HEADERS, request.stream, b"\xff\xff\xff\xff\xff\xff\xff"),
    "HPACK's index beyond its table": lambda request: frame(HEADERS, END_HEADERS, request.stream, b"\xfe"),
    "a table size beyond what was allowed": lambda request: frame(
        HEADERS, END_HEADERS, request.stream, b"\x3f\xe1\xff\x7f" + OK
    ),
    "no status": lambda request: frame(HEADERS, END_HEADERS, request.stream, literal(b"a", b"b")),
    "a status that is no number": lambda request: frame(
        HEADERS, END_HEADERS, request.stream, literal(b":status", b"two")
    ),
    "data before the head": lambda request: frame(0, 0, request.stream, b"body"),
    "HEADERS that depend on themselves": lambda request: frame(
        HEADERS, END_HEADERS | 0x20, request.stream, request.stream.to_bytes(4, "big") + b"\0" + OK
    ),
    "padding longer than the frame": lambda request: frame(HEADERS, END_HEADERS | 0x08, request.stream, b"\xff" + OK),
}


@pytest.mark.parametrize("breach", sorted(BREACHES))
def test_a_breach_of_the_protocol(runner: asyncio.Runner, plain: Http2Server, breach: str) -> None:
    plain.respond = sends(BREACHES[breach])

    async def main() -> None:
        async with http.AsyncClient(**ALWAYS, timeout=5) as client:
            await client.get(plain.url)
            started = time.perf_counter()
            with pytest.raises(http.RemoteProtocolError):
                await client.post(f"{plain.url}/bad", content=b"x")
            assert time.perf_counter() - started < 4, "not only by the time limit"
            await is_whole(client, plain.url)

    runner.run(main())
    bad = [request for request in plain.requests if request.path == "/bad"]
    assert len(bad) == 1, "nothing is sent twice"


@pytest.mark.parametrize("code", [ErrorCodes.REFUSED_STREAM, ErrorCodes.NO_ERROR, ErrorCodes.CANCEL])
def test_every_stream_is_reset_at_once(runner: asyncio.Runner, plain: Http2Server, code: ErrorCodes) -> None:
    def respond(connection: Connection, request: Request) -> None:
        if request.path.startswith("/bad"):
            connection.reset(request, code)
        else:
            connection.answer(request, b"fine")

    plain.respond = respond

    async def main() -> None:
        async with http.AsyncClient(**ALWAYS, timeout=5) as client:
            await client.get(plain.url)
            requests = [client.get(f"{plain.url}/bad/{n}") for n in range(300)]
            results = await asyncio.gather(*requests, return_exceptions=True)
            assert {type(result) for result in results} == {http.RemoteProtocolError}
            await is_whole(client, plain.url)

    runner.run(main())
    sent = [request.path for request in plain.requests if request.path.startswith("/bad")]
    most = 4 if code == ErrorCodes.REFUSED_STREAM else 1
    assert max(map(sent.count, set(sent))) <= most


def test_interim_answers_without_end(runner: asyncio.Runner, plain: Http2Server) -> None:
    interim = b"\x08\x03103" + literal(b"link", b"x" * 1000)

    def respond(connection: Connection, request: Request) -> None:
        while True:
            connection.transport.sendall(frame(HEADERS, END_HEADERS, request.stream, interim) * 50)

    plain.respond = respond

    async def main() -> None:
        async with http.AsyncClient(**ALWAYS) as client:
            before, started = resident_bytes(), time.perf_counter()
            with pytest.raises(http.TransportError):
                await client.get(plain.url, timeout=http.Timeout(0.5, total=1))
            assert time.perf_counter() - started < 4
            assert resident_bytes() - before < 32 * 2**20

    runner.run(main())


def test_a_head_that_is_too_large(runner: asyncio.Runner, plain: Http2Server) -> None:
    """Small on the wire: HPACK repeats a field of its table by one byte."""

    def bomb(request: Request) -> bytes:
        field = b"\x40\x01a\x7f\xa1\x1e" + b"b" * 4000  # goes into the table
        return frame(HEADERS, END_HEADERS, request.stream, OK + field + b"\xbe" * 12_000)

    plain.respond = sends(bomb)

    async def main() -> None:
        async with http.AsyncClient(**ALWAYS, timeout=5) as client:
            await client.get(plain.url)
            before = resident_bytes()
            with pytest.raises(http.RemoteProtocolError):
                await client.get(f"{plain.url}/bad")
            assert resident_bytes() - before < 32 * 2**20
            await is_whole(client, plain.url)

    runner.run(main())


@pytest.mark.parametrize("whole", [True, False], ids=["whole", "streamed"])
def test_a_window_that_stays_shut(runner: asyncio.Runner, plain: Http2Server, whole: bool) -> None:
    plain.settings[SettingCodes.INITIAL_WINDOW_SIZE] = 0

    async def pieces() -> Any:
        while True:
            yield bytes(1000)

    async def main() -> None:
        async with http.AsyncClient(**ALWAYS) as client:
            await client.get(plain.url)
            started = time.perf_counter()
            with pytest.raises(http.WriteTimeout):
                content = bytes(200_000) if whole else pieces()
                await client.post(plain.url, content=content, timeout=http.Timeout(None, write=0.3))
            with pytest.raises(http.TimeoutException):
                await client.post(plain.url, content=b"x" * 10, timeout=http.Timeout(None, total=0.3))
            assert time.perf_counter() - started < 3
            assert (await client.get(plain.url)).status_code == 200
            assert client.statistics()["requests_in_flight"] == 0

    runner.run(main())


def test_no_streams_are_allowed(runner: asyncio.Runner, plain: Http2Server) -> None:
    """Requests wait for their turn, no longer than they may."""
    changed = False

    def respond(connection: Connection, request: Request) -> None:
        nonlocal changed
        connection.answer(request, b"fine")
        connection.flush()
        if not changed:
            changed = True
            connection.transport.sendall(setting(SettingCodes.MAX_CONCURRENT_STREAMS, 0))

    plain.respond = respond

    async def main() -> None:
        limits = http.Limits(max_connections=1)
        async with http.AsyncClient(**ALWAYS, limits=limits) as client:
            await client.get(plain.url)
            await asyncio.sleep(0.05)
            requests = [client.get(plain.url, timeout=0.3) for _ in range(5)]
            results = await asyncio.gather(*requests, return_exceptions=True)
            assert all(isinstance(result, http.TimeoutException) for result in results), results
            assert client.statistics()["requests_in_flight"] == 0

    runner.run(main())


def test_a_body_byte_by_byte(runner: asyncio.Runner, plain: Http2Server) -> None:
    """Each byte is progress for the read timeout, and only the total ends it."""

    def respond(connection: Connection, request: Request) -> None:
        connection.h2.send_headers(request.stream, [(":status", "200")])
        connection.flush()
        while True:
            connection.transport.sendall(frame(0, 0, request.stream, b"x"))
            time.sleep(0.05)

    plain.respond = respond

    async def main() -> None:
        async with http.AsyncClient(**ALWAYS) as client:
            started = time.perf_counter()
            with pytest.raises(http.ReadTimeout, match="total of 0.6 s"):
                await client.get(plain.url, timeout=http.Timeout(0.3, total=0.6))
            assert 0.5 < time.perf_counter() - started < 3

    runner.run(main())


def test_more_data_than_the_window_allows(runner: asyncio.Runner, plain: Http2Server) -> None:
    """Nobody reads the body; the server sends on and on, and is cut off by the rules of the protocol."""

    def respond(connection: Connection, request: Request) -> None:
        connection.h2.send_headers(request.stream, [(":status", "200")])
        connection.flush()
        while True:
            connection.transport.sendall(frame(0, 0, request.stream, bytes(16_384)))

    plain.respond = respond

    async def main() -> None:
        async with http.AsyncClient(**ALWAYS) as client:
            before = resident_bytes()
            async with client.stream("GET", plain.url, timeout=5) as response:
                await asyncio.sleep(0.5)
                assert resident_bytes() - before < 64 * 2**20
                with pytest.raises(http.RemoteProtocolError):
                    async for _ in response.aiter_bytes():
                        pass
            assert client.statistics()["requests_in_flight"] == 0

    runner.run(main())


def test_a_server_that_takes_a_body_slowly(runner: asyncio.Runner, plain: Http2Server) -> None:
    """That takes longer than each limit, but goes on: it is no reason to give up."""

    class Slow(Connection):
        def run(self) -> None:
            self.transport = SlowSocket(self.transport)  # type: ignore[assignment]
            super().run()

    class SlowSocket:
        def __init__(self, slow: Any) -> None:
            self.sendall = slow.sendall
            self._recv = slow.recv

        def recv(self, size: int) -> bytes:
            time.sleep(0.05)
            received: bytes = self._recv(size)
            return received

    plain.connection_class = Slow

    async def main() -> None:
        async with http.AsyncClient(**ALWAYS) as client:
            started = time.perf_counter()
            response = await client.post(plain.url, content=bytes(4_000_000), timeout=2)
            assert len(response.content) == 4_000_000
            assert time.perf_counter() - started > 2.5

    runner.run(main())
