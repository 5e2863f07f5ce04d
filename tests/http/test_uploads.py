"""Request bodies that are sent as they come: framing, back-pressure, early answers, failures, progress."""

from __future__ import annotations

import asyncio
import io
import os
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from aioxide import http

from .conftest import Serve, echoed

PIECE = bytes(65_536)
OK = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok"


class Source:
    """Pieces, as blocking and as async iterators, that note how far they were read and whether they were closed."""

    def __init__(self, count: int, fails_after: int | None = None) -> None:
        self.count = count
        self.fails_after = fails_after
        self.given = 0
        self.closed = False

    def __iter__(self) -> Iterator[bytes]:
        try:
            for number in range(self.count):
                if number == self.fails_after:
                    raise ZeroDivisionError("the source's own")
                self.given += 1
                yield PIECE
        finally:
            self.closed = True

    async def pieces(self) -> AsyncIterator[bytes]:
        for piece in self:
            await asyncio.sleep(0)
            yield piece

    def blocking(self) -> Iterator[bytes]:
        yield from self


def post_both(
    runner: asyncio.Runner, url: str, make: Callable[[], Source], check: Callable[[Any, Source], None], **settings: Any
) -> None:
    """Post a source's pieces with each client; `check` gets the response, or what was raised, and the source."""
    source = make()
    with http.Client(timeout=5) as client:
        try:
            outcome: Any = client.post(url, content=source.blocking(), **settings)
        except Exception as error:
            outcome = error
        check(outcome, source)
        for _ in range(100):
            if client.statistics()["requests_in_flight"]:  # another thread drops it
                threading.Event().wait(0.01)
        assert client.statistics()["requests_in_flight"] == 0

    async def main() -> None:
        source = make()
        async with http.AsyncClient(timeout=5) as client:
            try:
                outcome: Any = await client.post(url, content=source.pieces(), **settings)
            except Exception as error:
                outcome = error
            check(outcome, source)
            assert client.statistics()["requests_in_flight"] == 0

    runner.run(main())


def hung_up() -> bytes:
    raise ConnectionResetError("the client hung up")


def read_chunked(connection: socket.socket) -> int:
    """Read a chunked body; how long it was."""
    reader = connection.makefile("rb")
    total = 0
    while size := int(reader.readline() or hung_up(), 16):
        total += len(reader.read(size))
        assert reader.readline() == b"\r\n"
    assert reader.readline() == b"\r\n"
    return total


def test_a_source_is_read_as_the_server_takes_it(runner: asyncio.Runner, serve: Serve) -> None:
    go_on = threading.Event()
    received = []
    stalled = 0

    def behave(connection: socket.socket) -> None:
        assert go_on.wait(5)
        received.append(read_chunked(connection))
        connection.sendall(OK)

    count = 400  # 25 MiB: more than the kernel's buffers hold

    def watch(source: Source) -> None:
        nonlocal stalled
        before = -1
        while source.given != before or before <= 0:
            before = source.given
            threading.Event().wait(0.2)
        stalled = before
        go_on.set()

    def make() -> Source:
        go_on.clear()
        source = Source(count)
        threading.Thread(target=watch, args=(source,), daemon=True).start()
        return source

    def check(response: Any, source: Source) -> None:
        assert response.text == "ok"
        assert source.closed
        assert source.given == count
        assert 0 < stalled < count
        assert received[-1] == count * len(PIECE)

    post_both(runner, serve(behave), make, check)


def test_files_have_a_length_and_may_be_sent_again(runner: asyncio.Runner, url: str, tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    path.write_bytes(b"0123456789" * 10_000)

    with path.open("rb") as file, http.Client(base_url=url) as client:
        file.seek(10)
        request = client.build_request("POST", "/echo", content=file)
        for _ in range(2):
            echo = echoed(client.send(request))
            assert echo["headers"]["content-length"] == "99990"
            assert "transfer-encoding" not in echo["headers"]
            assert echo["body"] == "0123456789" * 9_999
        file.seek(7)
        echo = echoed(client.post("/echo", files={"a": file}, data={"b": "c"}))
        assert "transfer-encoding" not in echo["headers"]
        assert int(echo["headers"]["content-length"]) == len(echo["body"])
        assert "0123456789" * 10_000 in echo["body"]

    async def main() -> None:
        async with http.AsyncClient(base_url=url) as client:
            with path.open("rb") as file:
                echo = (await client.post("/echo", files={"a": file})).json()
            assert "0123456789" * 10_000 in echo["body"]

    runner.run(main())


def test_a_pipe_has_no_length(url: str) -> None:
    reading, writing = os.pipe()
    with open(reading, "rb") as pipe, open(writing, "wb") as other, http.Client(base_url=url) as client:
        other.write(b"through a pipe")
        other.close()
        echo = echoed(client.post("/echo", files={"a": pipe}))
        assert echo["headers"]["transfer-encoding"] == "chunked"
        assert "through a pipe" in echo["body"]
        request = client.build_request("POST", "/echo", files={"a": pipe})
        client.send(request)
        with pytest.raises(http.StreamConsumed):
            client.send(request)


@pytest.mark.parametrize(("announced", "count"), [(65_536, 2), (3 * 65_536, 2)])
def test_a_wrong_length_ends_the_request(runner: asyncio.Runner, url: str, announced: int, count: int) -> None:
    def check(error: Any, source: Source) -> None:
        assert isinstance(error, http.LocalProtocolError)
        assert "Content-Length" in str(error)
        assert source.closed

    headers = {"Content-Length": str(announced)}
    post_both(runner, f"{url}/echo", lambda: Source(count), check, headers=headers)


def test_what_a_source_raises_comes_out(runner: asyncio.Runner, url: str) -> None:
    def check(error: Any, source: Source) -> None:
        assert isinstance(error, ZeroDivisionError)
        assert source.closed
        assert source.given == 3

    post_both(runner, f"{url}/echo", lambda: Source(10, fails_after=3), check)


@pytest.mark.parametrize("answer", ["continue", "silence", "no"])
def test_a_body_waits_to_be_asked_for(runner: asyncio.Runner, serve: Serve, answer: str) -> None:
    before: list[bytes] = []

    def behave(connection: socket.socket) -> None:
        connection.settimeout(0.2)
        try:
            before.append(connection.recv(10))
        except TimeoutError:
            before.append(b"")
        connection.settimeout(5)
        if answer == "no":
            connection.sendall(b"HTTP/1.1 417 Expectation Failed\r\nContent-Length: 2\r\n\r\nno")
            assert connection.recv(1) == b""
            return
        if answer == "continue":
            connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        assert connection.recv(4, socket.MSG_WAITALL) == b"body"
        connection.sendall(OK)

    url = serve(behave)
    expected = 417 if answer == "no" else 200
    headers = {"Expect": "100-continue"}
    with http.Client(timeout=5) as client:
        assert client.post(url, content=b"body", headers=headers).status_code == expected
        assert client.statistics()["connections_open"] == 0

    async def main() -> None:
        async with http.AsyncClient(timeout=5) as client:
            response = await client.post(url, content=b"body", headers=headers)
            assert response.status_code == expected

    runner.run(main())
    assert before == [b"", b""]


@pytest.mark.parametrize("closes", [False, True])
def test_a_refusal_while_uploading(runner: asyncio.Runner, serve: Serve, closes: bool) -> None:
    """The rest of the body is not read from its source; a server that closes with data unread resets the connection."""

    def behave(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\n\r\nbig")
        if not closes:
            while connection.recv(65_536):
                pass

    def check(response: Any, source: Source) -> None:
        assert (response.status_code, response.text) == (413, "big")
        assert source.closed or not source.given
        assert source.given < source.count

    post_both(runner, serve(behave), lambda: Source(10_000), check)


def test_an_answer_is_read_while_the_body_is_sent(runner: asyncio.Runner, serve: Serve) -> None:
    def behave(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        reader = connection.makefile("rb")
        while size := int(reader.readline(), 16):
            chunk = reader.read(size)
            reader.readline()
            connection.sendall(b"%x\r\n%s\r\n" % (size, chunk))
        connection.sendall(b"0\r\n\r\n")

    async def main() -> None:
        answered: asyncio.Queue[bytes] = asyncio.Queue()

        async def questions() -> AsyncIterator[bytes]:
            yield b"first"
            for number in range(5):
                assert await answered.get() == (b"first" if number == 0 else b"question %d" % (number - 1))
                yield b"question %d" % number

        async with http.AsyncClient(timeout=5) as client:
            async with client.stream("POST", serve(behave), content=questions()) as response:
                pieces = []
                async for piece in response.aiter_raw():
                    pieces.append(piece)
                    answered.put_nowait(piece)
            assert pieces == [b"first", *(b"question %d" % number for number in range(5))]
            assert client.statistics()["requests_in_flight"] == 0

    runner.run(main())


def test_blocking_code_sends_all_before_it_reads(serve: Serve) -> None:
    def behave(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n")
        connection.sendall(b"%7d" % read_chunked(connection))

    source = Source(40)
    with http.Client(timeout=5) as client:
        assert int(client.post(serve(behave), content=source.blocking()).text) == 40 * len(PIECE)


def test_cancelling_closes_the_source(runner: asyncio.Runner, serve: Serve) -> None:
    url = serve(lambda connection: threading.Event().wait(2) and None)

    async def main() -> None:
        async with http.AsyncClient(timeout=5) as client:
            source = Source(10_000)
            task = asyncio.ensure_future(client.post(url, content=source.pieces()))
            while not source.given:
                await asyncio.sleep(0.01)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert source.closed
            await asyncio.sleep(0.01)
            assert client.statistics()["connections_open"] == 0

    runner.run(main())


def test_only_the_peer_is_timed(runner: asyncio.Runner, url: str, serve: Serve) -> None:
    async def slow() -> AsyncIterator[bytes]:
        for _ in range(3):
            await asyncio.sleep(0.15)
            yield b"x"

    never_reads = serve(lambda connection: threading.Event().wait(2) and None)

    async def main() -> None:
        async with http.AsyncClient(timeout=0.1) as client:
            assert (await client.post(f"{url}/echo", content=slow())).json()["body"] == "xxx"
            source = Source(10_000)
            with pytest.raises(http.WriteTimeout):
                await client.post(never_reads, content=source.pieces())
            assert source.closed

    runner.run(main())


def test_a_redirect_cannot_repeat_a_generator(runner: asyncio.Runner, serve: Serve) -> None:
    def behave(connection: socket.socket) -> None:
        read_chunked(connection)
        connection.sendall(b"HTTP/1.1 307 Temporary Redirect\r\nLocation: /\r\nContent-Length: 0\r\n\r\n")

    def check(error: Any, source: Source) -> None:
        assert isinstance(error, http.StreamConsumed)

    post_both(runner, serve(behave), lambda: Source(1), check, follow_redirects=True)


def test_a_connection_that_fails_leaves_the_source_unread(runner: asyncio.Runner, refused_url: str) -> None:
    retried = http.Retry(3, backoff=0.0)
    source = Source(3)
    with http.Client(retry=retried) as client, pytest.raises(http.ConnectError):
        client.post(refused_url, content=source.blocking())
    assert source.given == 0
    assert retried._tokens < 9

    async def main() -> None:
        async with http.AsyncClient(transport=http.AsyncHTTPTransport(retries=1)) as client:
            with pytest.raises(http.ConnectError):
                await client.post(refused_url, content=source.pieces())
        assert source.given == 0

    runner.run(main())


def test_progress(runner: asyncio.Runner, url: str) -> None:
    up: list[tuple[int, int | None]] = []
    down: list[tuple[int, int | None]] = []

    def note(place: list[tuple[int, int | None]]) -> Callable[[int, int | None], None]:
        return lambda done, total: place.append((done, total))

    extensions = {"upload_progress": note(up), "download_progress": note(down)}
    body = b"x" * 300_000

    def check(total: int | None) -> None:
        assert [done for done, _ in up] == sorted(done for done, _ in up)
        assert up[-1] == (300_000, total)
        assert len(up) > 1  # a busy machine tells of several pieces at once
        # The echo is longer than what it echoes.
        assert down[-1][0] == down[-1][1] and down[-1][0] > 300_000
        up.clear()
        down.clear()

    with http.Client(base_url=url) as client:
        for content in (body, io.BytesIO(body)):
            assert client.post("/echo", content=content, extensions=extensions).json()["body"] == body.decode()
            check(300_000)
        client.post("/echo", content=iter([body[:100_000]] * 3), extensions=extensions)
        assert up[-1] == (300_000, None)
        up.clear()
        down.clear()

    async def main() -> None:
        async with http.AsyncClient(base_url=url) as client:
            assert (await client.post("/echo", content=body, extensions=extensions)).is_closed
            check(300_000)

    runner.run(main())


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads /proc")
def test_memory_stays_flat(serve: Serve) -> None:
    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def behave(connection: socket.socket) -> None:
        read_chunked(connection)
        connection.sendall(OK)

    url, most = serve(behave), 0

    def pieces() -> Iterator[bytes]:
        nonlocal most
        for _ in range(2_000):  # 125 MiB
            most = max(most, resident())
            yield PIECE

    with http.Client(timeout=30) as client:
        client.post(url, content=[PIECE] * 10)
        before = resident()
        assert client.post(url, content=pieces()).text == "ok"
    assert most - before < 16 * 2**20
