"""How HTTP/2 and TLS connections end: what the client says when it goes, and what it makes of a server that goes."""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from h2.errors import ErrorCodes
from h2.settings import SettingCodes
from tests.http.http2_server import Connection, Http2Server, Request, serving
from tests.http.secure import SecureServer

from aioxide import http

ALWAYS: dict[str, Any] = {"http1": False, "http2": True}
Eventually = Callable[[Callable[[], bool]], None]


@pytest.fixture
def plain() -> Iterator[Http2Server]:
    with serving() as server:
        yield server


@pytest.fixture
def secure(certificates: Path) -> Iterator[Http2Server]:
    with serving(certificates) as server:
        yield server


def ended_well(server: Http2Server) -> bool:
    return all(each.said_goodbye and each.going_away == ErrorCodes.NO_ERROR for each in server.connections)


def test_a_client_that_closes_says_so(
    runner: asyncio.Runner, secure: Http2Server, trusting: ssl.SSLContext, eventually: Eventually
) -> None:
    async def main() -> None:
        async with http.AsyncClient(verify=trusting, http2=True) as client:
            await client.get(secure.url)
        # The loop goes on, as it does in a program: nothing else is needed.
        for _ in range(100):
            if secure.connections[0].said_goodbye:
                break
            await asyncio.sleep(0.01)

    runner.run(main())
    assert len(secure.connections) == 1 and ended_well(secure)


def test_so_does_a_blocking_client(secure: Http2Server, trusting: ssl.SSLContext, eventually: Eventually) -> None:
    with http.Client(verify=trusting, http2=True) as client:
        client.get(secure.url)
        with client.stream("GET", secure.url) as streamed:
            streamed.read()
    assert len(secure.connections) == 2
    eventually(lambda: ended_well(secure))


def test_the_last_request_may_be_cancelled(
    runner: asyncio.Runner, secure: Http2Server, trusting: ssl.SSLContext, eventually: Eventually
) -> None:
    """What is left of its stream is reset, and the connection ends in order."""
    asked = threading.Event()
    secure.respond = lambda connection, request: asked.set()

    async def main() -> None:
        client = http.AsyncClient(verify=trusting, http2=True)
        task = asyncio.ensure_future(client.get(secure.url))
        await asyncio.to_thread(asked.wait, 5)
        await client.aclose()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await asyncio.to_thread(eventually, lambda: ended_well(secure))

    runner.run(main())
    assert secure.connections[0].resets == [1]


def test_http_1_says_goodbye_to_tls(
    runner: asyncio.Runner, certificates: Path, trusting: ssl.SSLContext, eventually: Eventually
) -> None:
    endings: list[str] = []

    class Watching(SecureServer):
        def serve(self, connection: Any) -> None:
            secured = self.context.wrap_socket(connection, server_side=True, suppress_ragged_eofs=False)
            with secured:
                try:
                    while secured.recv(65_536):
                        secured.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
                    endings.append("close_notify")
                except OSError as error:
                    endings.append(str(error))

    async def main(url: str) -> None:
        async with http.AsyncClient(verify=trusting) as client:
            await asyncio.gather(*[client.get(url) for _ in range(3)])
        await asyncio.sleep(0.01)

    server = Watching(certificates)
    try:
        runner.run(main(server.url))
        eventually(lambda: len(endings) == 3)
        with http.Client(verify=trusting) as client:
            client.get(server.url)
        eventually(lambda: len(endings) == 4)
    finally:
        server.close()
    assert endings == ["close_notify"] * 4


def test_a_server_that_does_not_listen_keeps_nobody(runner: asyncio.Runner, plain: Http2Server) -> None:
    """Its socket takes nothing any more, so that it cannot be told; the client goes all the same."""
    stop = threading.Event()

    def respond(connection: Connection, request: Request) -> None:
        connection.answer(request)
        connection.flush()
        stop.wait(10)

    plain.respond = respond

    async def main() -> None:
        async with http.AsyncClient(**ALWAYS) as client:
            await client.get(plain.url)

    runner.run(asyncio.wait_for(main(), 5))
    stop.set()


def test_going_away_with_many_in_flight(runner: asyncio.Runner, plain: Http2Server) -> None:
    """Those above the last stream that the server names are sent again, on another connection; the others are finished
    on the first, and none is done twice.
    """
    done: Counter[str] = Counter()
    held: list[Request] = []

    def respond(connection: Connection, request: Request) -> None:
        if connection is not plain.connections[0] or request.path == "/first":
            done[request.path] += 1
            connection.answer(request, request.path.encode())
            return
        held.append(request)
        if len(held) == 10:
            last = sorted(each.stream for each in held)[5]
            # h2 refuses to send anything after its own GOAWAY, which RFC 9113 expects of a server: so it is by hand.
            connection.flush()
            connection.transport.sendall(b"\0\0\x08\x07\0\0\0\0\0" + last.to_bytes(4, "big") + bytes(4))
            for each in held:
                if each.stream <= last:
                    done[each.path] += 1
                    connection.answer(each, each.path.encode())

    plain.respond = respond

    async def main() -> None:
        async with http.AsyncClient(**ALWAYS) as client:
            await client.get(f"{plain.url}/first")
            paths = [f"/{n}" for n in range(10)]
            responses = await asyncio.gather(*[client.post(plain.url + path, content=b"x" * 5000) for path in paths])
            assert [response.text for response in responses] == paths
            assert client.statistics()["requests_in_flight"] == 0

    runner.run(main())
    assert set(done.values()) == {1} and len(done) == 11
    assert [len(plain.connections), plain.connections[1].served] == [2, 4]


def test_going_away_twice(runner: asyncio.Runner, plain: Http2Server) -> None:
    """First with the highest number there is, as a warning (RFC 9113, section 6.8), then with the true one."""

    def respond(connection: Connection, request: Request) -> None:
        if connection is plain.connections[0] and request.path == "/1":
            connection.transport.sendall(b"\0\0\x08\x07\0\0\0\0\0\x7f\xff\xff\xff" + bytes(4))
            connection.answer(request, b"warned")
            connection.flush()
            connection.transport.sendall(b"\0\0\x08\x07\0\0\0\0\0" + request.stream.to_bytes(4, "big") + bytes(4))
        else:
            connection.answer(request, b"fine")

    plain.respond = respond

    async def main() -> None:
        async with http.AsyncClient(**ALWAYS) as client:
            texts = [(await client.post(f"{plain.url}/{n}")).text for n in range(4)]
            assert texts == ["fine", "warned", "fine", "fine"]

    runner.run(main())
    assert [connection.served for connection in plain.connections] == [2, 2]


def test_a_refusal_stops_the_upload(runner: asyncio.Runner, plain: Http2Server) -> None:
    """`Expect: 100-continue` needs no waiting here: a server that does not want the body lets but one window of it
    come, and says so; then the rest is not asked for.
    """
    plain.settings[SettingCodes.INITIAL_WINDOW_SIZE] = 65_535
    asked_for = 0

    async def pieces() -> AsyncIterator[bytes]:
        nonlocal asked_for
        while True:
            asked_for += 1
            yield bytes(10_000)
            await asyncio.sleep(0)

    server_saw: list[str] = []

    class Refusing(Connection):
        def run(self) -> None:
            self.h2.initiate_connection()
            self.flush()
            while data := self.transport.recv(65_536):
                for event in self.h2.receive_data(data):
                    if type(event).__name__ == "RequestReceived":
                        headers = dict(event.headers)
                        server_saw.append(headers.get("expect", ""))
                        self.h2.send_headers(event.stream_id, [(":status", "417")], end_stream=True)
                self.flush()

    plain.connection_class = Refusing

    async def main() -> None:
        async with http.AsyncClient(**ALWAYS) as client:
            headers = {"Expect": "100-continue"}
            response = await client.post(plain.url, content=pieces(), headers=headers, timeout=5)
            assert response.status_code == 417
            stopped_at = asked_for
            await asyncio.sleep(0.05)
            assert asked_for == stopped_at < 50, "no more than windows and buffers hold"
            assert client.statistics()["requests_in_flight"] == 0

    runner.run(main())
    assert server_saw == ["100-continue"]


def test_interim_answers_are_passed_over(runner: asyncio.Runner, plain: Http2Server) -> None:
    def respond(connection: Connection, request: Request) -> None:
        for status in ("100", "103", "102"):
            connection.h2.send_headers(request.stream, [(":status", status)])
        connection.answer(request, b"final")

    plain.respond = respond

    async def main() -> None:
        async with http.AsyncClient(**ALWAYS) as client:
            response = await client.post(plain.url, content=b"x", headers={"Expect": "100-continue"})
            assert (response.status_code, response.text) == (200, "final")

    runner.run(main())
