"""HTTP/2: negotiated and known before, shared connections, and what servers may do to them."""

from __future__ import annotations

import asyncio
import resource
import shutil
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from h2.errors import ErrorCodes
from h2.settings import SettingCodes
from tests.http.http2_server import Connection, Http2Server, Request, serving
from tests.http.secure import serving as serving_http1

from aioxide import http

ALWAYS: dict[str, Any] = {"http1": False, "http2": True}


@pytest.fixture
def plain() -> Iterator[Http2Server]:
    """HTTP/2 without TLS."""
    with serving() as server:
        yield server


@pytest.fixture
def secure(certificates: Path) -> Iterator[Http2Server]:
    with serving(certificates) as server:
        yield server


def test_one_connection_serves_many_requests(
    runner: asyncio.Runner, secure: Http2Server, trusting: ssl.SSLContext
) -> None:
    async def main() -> None:
        async with http.AsyncClient(verify=trusting, http2=True) as client:
            for _ in range(2):
                responses = await asyncio.gather(*[client.get(f"{secure.url}/{n}") for n in range(50)])
                assert [response.text for response in responses] == [f"/{n}" for n in range(50)]
                assert {response.http_version for response in responses} == {"HTTP/2"}
            assert responses[0].reason_phrase == "OK" and responses[0].extensions["http_version"] == b"HTTP/2"
            stream = responses[0].extensions["network_stream"]
            assert stream.get_extra_info("ssl_object").selected_alpn_protocol() == "h2"
            statistics = client.statistics()
            assert (statistics["connections_open"], statistics["connections_idle"]) == (1, 1)
            many = await client.gather_get([f"{secure.url}/{n}" for n in range(200)], limit=50)
            assert [response.text for response in many] == [f"/{n}" for n in range(200)]

    runner.run(main())
    assert len(secure.connections) == 1 and secure.connections[0].served == 300
    headers = secure.requests[0].headers
    assert headers[":scheme"] == "https" and headers[":authority"] == f"127.0.0.1:{secure.port}"
    assert not {"host", "connection", "transfer-encoding"} & set(headers)


def test_blocking_calls(secure: Http2Server, trusting: ssl.SSLContext) -> None:
    with http.Client(verify=trusting, http2=True) as client:
        for n in range(5):
            response = client.post(f"{secure.url}/{n}", content=b"x" * n * 50_000)
            assert response.http_version == "HTTP/2" and len(response.content) == (n * 50_000 or 2)
        with client.stream("GET", f"{secure.url}/streamed") as streamed:
            assert streamed.read() == b"/streamed"
    # One of this thread, one of the background engine.
    assert [connection.served for connection in secure.connections] == [5, 1]


def test_a_server_that_speaks_http_1_only(runner: asyncio.Runner, certificates: Path, trusting: ssl.SSLContext) -> None:
    async def main(url: str) -> None:
        async with http.AsyncClient(verify=trusting, http2=True) as client:
            started = time.perf_counter()
            responses = await asyncio.gather(*[client.get(f"{url}/{n}") for n in range(20)])
            assert time.perf_counter() - started < 3, "they need not wait for each other"
            assert {response.http_version for response in responses} == {"HTTP/1.1"}
            assert client.statistics()["connections_open"] > 1

    with serving_http1(certificates) as server:
        server.context.set_alpn_protocols(["http/1.1"])

        def answer(message: Any) -> bytes:
            time.sleep(0.1)
            return b"slow"

        server.answer = answer
        runner.run(main(server.url))


def test_without_tls_it_must_be_known_before(runner: asyncio.Runner, plain: Http2Server) -> None:
    async def main() -> None:
        async with http.AsyncClient(**ALWAYS) as client:
            responses = await asyncio.gather(*[client.get(f"{plain.url}/{n}") for n in range(20)])
            assert {response.http_version for response in responses} == {"HTTP/2"}
        async with http.AsyncClient(http2=True) as client:
            with pytest.raises(http.TransportError):
                await client.get(plain.url, timeout=2)

    runner.run(main())
    assert [connection.served for connection in plain.connections][0] == 20


def test_a_server_that_is_no_http_2(runner: asyncio.Runner, url: str) -> None:
    async def main() -> None:
        async with http.AsyncClient(**ALWAYS) as client:
            # It answers in its own way and closes, which may be noticed by writing first.
            with pytest.raises((http.RemoteProtocolError, http.WriteError)):
                await client.get(url, timeout=5)

    runner.run(main())


@pytest.mark.parametrize(("connections", "streams"), [(1, 4), (3, 4), (2, 1)])
def test_no_more_streams_than_the_server_allows(
    runner: asyncio.Runner, plain: Http2Server, connections: int, streams: int
) -> None:
    plain.settings[SettingCodes.MAX_CONCURRENT_STREAMS] = streams

    async def main() -> None:
        async with http.AsyncClient(**ALWAYS, limits=http.Limits(max_connections=connections)) as client:
            # The server's settings come with its first answer.
            await client.get(plain.url)
            responses = await asyncio.gather(*[client.get(f"{plain.url}/{n}") for n in range(60)])
            assert [response.text for response in responses] == [f"/{n}" for n in range(60)]
            assert client.statistics()["connections_open"] <= connections

    runner.run(main())
    assert len(plain.connections) <= connections and plain.peak <= streams


def test_bodies_flow_as_the_peer_takes_them(runner: asyncio.Runner, plain: Http2Server) -> None:
    plain.settings[SettingCodes.INITIAL_WINDOW_SIZE] = 1000
    body = bytes(range(256)) * 8000

    async def main() -> None:
        async with http.AsyncClient(**ALWAYS) as client:
            responses = await asyncio.gather(*[client.post(plain.url, content=body) for _ in range(4)])
            assert all(response.content == body for response in responses)

            async def pieces() -> Any:
                for start in range(0, 200_000, 1000):
                    yield body[start : start + 1000]
                    if start % 50_000 == 0:
                        await asyncio.sleep(0)

            assert (await client.post(plain.url, content=pieces())).content == body[:200_000]
            # One who does not read keeps the others waiting for nothing.
            async with client.stream("POST", plain.url, content=body) as unread:
                assert (await client.post(plain.url, content=body)).content == body
                assert b"".join([piece async for piece in unread.aiter_bytes()]) == body

    runner.run(main())
    assert len(plain.connections) == 1


def test_a_cancelled_request_is_reset_and_the_others_go_on(runner: asyncio.Runner, plain: Http2Server) -> None:
    waiting: list[Request] = []

    def respond(connection: Connection, request: Request) -> None:
        if request.path == "/never":
            waiting.append(request)
        else:
            connection.answer(request, b"y")

    plain.respond = respond

    async def main() -> None:
        async with http.AsyncClient(**ALWAYS) as client:
            tasks = [asyncio.ensure_future(client.get(f"{plain.url}/never")) for _ in range(10)]
            while len(waiting) < 10:
                await asyncio.sleep(0.01)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            assert (await client.get(plain.url)).content == b"y"
            with pytest.raises(http.ReadTimeout):
                await client.get(f"{plain.url}/never", timeout=0.1)
            assert (await client.get(plain.url)).content == b"y"
            assert client.statistics()["requests_in_flight"] == 0

    runner.run(main())
    (connection,) = plain.connections
    assert set(connection.resets) >= {request.stream for request in waiting[:10]}


def go_away(connection: Connection, last: int, code: ErrorCodes = ErrorCodes.NO_ERROR) -> None:
    connection.h2.close_connection(error_code=code, last_stream_id=last)
    connection.flush()


def test_what_the_server_has_not_begun_is_sent_again(runner: asyncio.Runner, plain: Http2Server) -> None:
    """GOAWAY that names an earlier stream, and REFUSED_STREAM: POST, which would not be repeated otherwise."""

    def respond(connection: Connection, request: Request) -> None:
        if len(plain.connections) == 1 and connection.served == 3:
            go_away(connection, request.stream - 2)
        elif len(plain.connections) == 2 and connection.served == 1:
            connection.reset(request, ErrorCodes.REFUSED_STREAM)
        else:
            connection.answer(request, request.path.encode() + bytes(request.body))

    plain.respond = respond

    async def main() -> None:
        async with http.AsyncClient(**ALWAYS) as client:
            for n in range(6):
                assert (await client.post(f"{plain.url}/{n}", content=b"!")).text == f"/{n}!"

    runner.run(main())
    assert [request.path for request in plain.requests] == ["/0", "/1", "/2", "/2", "/2", "/3", "/4", "/5"]


def test_refusing_for_ever_is_an_error(runner: asyncio.Runner, plain: Http2Server) -> None:
    plain.respond = lambda connection, request: connection.reset(request, ErrorCodes.REFUSED_STREAM)

    async def main() -> None:
        async with http.AsyncClient(**ALWAYS) as client:
            with pytest.raises(http.RemoteProtocolError, match="reset the request's stream"):
                await client.get(plain.url)

    runner.run(main())
    assert 2 <= len(plain.requests) <= 5


@pytest.mark.parametrize("code", [ErrorCodes.INTERNAL_ERROR, ErrorCodes.CANCEL, ErrorCodes.ENHANCE_YOUR_CALM])
def test_a_reset_is_an_error_of_its_request_alone(runner: asyncio.Runner, plain: Http2Server, code: ErrorCodes) -> None:
    def respond(connection: Connection, request: Request) -> None:
        if request.path == "/reset":
            connection.reset(request, code)
        elif request.path == "/half":
            connection.h2.send_headers(request.stream, [(":status", "200")])
            connection.h2.send_data(request.stream, b"half")
            connection.reset(request, code)
        else:
            connection.answer(request, b"whole")

    plain.respond = respond

    async def main() -> None:
        async with http.AsyncClient(**ALWAYS) as client:
            paths = ["/reset", "/", "/half", "/"] * 5
            results = await asyncio.gather(*[client.get(plain.url + path) for path in paths], return_exceptions=True)
            for path, result in zip(paths, results, strict=True):
                if path == "/":
                    assert isinstance(result, http.Response) and result.text == "whole"
                else:
                    assert isinstance(result, http.RemoteProtocolError)
            assert client.statistics()["requests_in_flight"] == 0

    runner.run(main())
    assert len(plain.connections) == 1 and len(plain.requests) == 20, "nothing is sent twice"


@pytest.mark.parametrize("code", [ErrorCodes.NO_ERROR, ErrorCodes.PROTOCOL_ERROR])
def test_going_away_in_the_middle(runner: asyncio.Runner, plain: Http2Server, code: ErrorCodes) -> None:
    """Those that the server has begun are finished, or fail; new ones find another connection."""

    def respond(connection: Connection, request: Request) -> None:
        if request.path == "/last":
            connection.h2.send_headers(request.stream, [(":status", "200")])
            connection.h2.send_data(request.stream, b"half")
            go_away(connection, request.stream, code)
            connection.transport.close()
        else:
            connection.answer(request, b"whole")

    plain.respond = respond

    async def main() -> None:
        async with http.AsyncClient(**ALWAYS) as client:
            await client.get(plain.url)
            with pytest.raises((http.RemoteProtocolError, http.ReadError)):
                await client.post(f"{plain.url}/last")
            assert (await client.post(plain.url)).text == "whole"
            assert client.statistics()["connections_open"] == 1

    runner.run(main())
    assert len(plain.connections) == 2


def test_an_idle_connection_that_the_server_closed(plain: Http2Server) -> None:
    """Nobody turns the loop of a blocking thread meanwhile; still no request is lost, whatever its method."""
    with http.Client(**ALWAYS) as client:
        client.get(plain.url)
        go_away(plain.connections[0], 1)
        plain.connections[0].transport.close()
        time.sleep(0.1)
        assert client.post(plain.url, content=b"x").content == b"x"
    assert len(plain.connections) == 2


def flood_of(frames: bytes) -> Callable[[Connection, Request], None]:
    def respond(connection: Connection, request: Request) -> None:
        block = frames * (1 + 60_000 // len(frames))
        while True:
            connection.transport.sendall(block)

    return respond


SETTINGS = b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"
PING = b"\x00\x00\x08\x06\x00\x00\x00\x00\x00" + bytes(8)
EMPTY_DATA = b"\x00\x00\x00\x00\x00\x00\x00\x00\x01"
WINDOW_UPDATE = b"\x00\x00\x04\x08\x00\x00\x00\x00\x00\x00\x00\x00\x01"
CONTINUATION = b"\x00\x00\x10\x09\x00\x00\x00\x00\x01" + b"\x00\x01a\x0bbbbbbbbbbbb"[:16].ljust(16, b"b")
FLOODS = {"SETTINGS": SETTINGS, "PING": PING, "DATA": EMPTY_DATA, "WINDOW_UPDATE": WINDOW_UPDATE}


@pytest.mark.parametrize("kind", sorted(FLOODS))
def test_floods_end_with_the_time_limit(runner: asyncio.Runner, plain: Http2Server, kind: str) -> None:
    def respond(connection: Connection, request: Request) -> None:
        connection.h2.send_headers(request.stream, [(":status", "200")])
        connection.flush()
        flood_of(FLOODS[kind])(connection, request)

    plain.respond = respond

    async def main() -> None:
        async with http.AsyncClient(**ALWAYS) as client:
            ticks = 0

            async def tick() -> None:
                nonlocal ticks
                while True:
                    ticks += 1
                    await asyncio.sleep(0.01)

            ticking = asyncio.ensure_future(tick())
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            started = time.perf_counter()
            with pytest.raises(http.TransportError):
                await client.get(plain.url, timeout=http.Timeout(1, total=1))
            assert time.perf_counter() - started < 5
            grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
            assert grown < 50_000, f"{grown} KiB more than before"
            ticking.cancel()
            took = time.perf_counter() - started
            assert took < 0.5 or ticks > 5, f"{ticks} turns in {took:.2f} s: the loop has other things to do as well"

    runner.run(main())


def test_a_head_without_end(runner: asyncio.Runner, plain: Http2Server) -> None:
    def respond(connection: Connection, request: Request) -> None:
        # HEADERS without END_HEADERS, then CONTINUATION for ever.
        connection.transport.sendall(b"\x00\x00\x01\x01\x00" + request.stream.to_bytes(4, "big") + b"\x88")
        flood_of(CONTINUATION)(connection, request)

    plain.respond = respond

    async def main() -> None:
        async with http.AsyncClient(**ALWAYS) as client:
            with pytest.raises(http.RemoteProtocolError):
                await client.get(plain.url, timeout=10)

    runner.run(main())


def test_garbage(runner: asyncio.Runner, plain: Http2Server) -> None:
    plain.respond = lambda connection, request: connection.transport.sendall(b"\xff" * 100_000)

    async def main() -> None:
        async with http.AsyncClient(**ALWAYS) as client:
            with pytest.raises(http.RemoteProtocolError, match="HTTP/2|closed"):
                await client.get(plain.url, timeout=10)

    runner.run(main())


def test_nobody_answers(runner: asyncio.Runner) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/"

        async def main() -> None:
            async with http.AsyncClient(**ALWAYS) as client:
                results = await asyncio.gather(
                    *[client.get(url, timeout=0.2) for _ in range(5)], return_exceptions=True
                )
                # The others wait for what the server says to the first.
                assert {type(result) for result in results} == {http.ReadTimeout, http.PoolTimeout}
                assert client.statistics()["requests_in_flight"] == 0

        runner.run(main())


def test_a_refused_connection_is_everybodys(runner: asyncio.Runner, refused_url: str) -> None:
    async def main() -> None:
        async with http.AsyncClient(**ALWAYS) as client:
            results = await asyncio.gather(*[client.get(refused_url) for _ in range(50)], return_exceptions=True)
            assert {type(result) for result in results} == {http.ConnectError}
            assert client.statistics() == dict.fromkeys(client.statistics(), 0)

    runner.run(main())


def test_the_first_gives_up_while_it_connects(
    runner: asyncio.Runner, secure: Http2Server, trusting: ssl.SSLContext
) -> None:
    async def main() -> None:
        async with http.AsyncClient(verify=trusting, http2=True) as client:
            first = asyncio.ensure_future(client.get(secure.url))
            others = [asyncio.ensure_future(client.get(secure.url)) for _ in range(10)]
            await asyncio.sleep(0)
            first.cancel()
            assert [response.status_code for response in await asyncio.gather(*others)] == [200] * 10

    runner.run(main())


def test_random_cancellation_leaves_the_pool_whole(runner: asyncio.Runner, plain: Http2Server) -> None:
    import random

    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    plain.settings[SettingCodes.MAX_CONCURRENT_STREAMS] = 5

    async def main() -> None:
        async with http.AsyncClient(**ALWAYS, limits=http.Limits(max_connections=3)) as client:
            for _ in range(15):
                tasks = [asyncio.ensure_future(client.post(plain.url, content=bytes(5000))) for _ in range(30)]
                await asyncio.sleep(chance.random() * 0.02)
                for task in tasks:
                    if chance.random() < 0.6:
                        task.cancel()
                results = await asyncio.gather(*tasks, return_exceptions=True)
                assert all(isinstance(each, (http.Response, asyncio.CancelledError)) for each in results), results
            assert (await client.get(plain.url)).status_code == 200
            for _ in range(100):
                statistics = client.statistics()
                if statistics["connections_open"] == statistics["connections_idle"]:
                    break
                await asyncio.sleep(0.01)
            assert statistics["requests_in_flight"] == statistics["requests_waiting"] == 0
            assert statistics["connections_open"] == statistics["connections_idle"] <= 3

    runner.run(main())


NGINX = """
daemon off; master_process off; pid {folder}/nginx.pid; error_log {folder}/error.log;
events {{ worker_connections 500; }}
http {{
  access_log off; client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder};
  uwsgi_temp_path {folder}; scgi_temp_path {folder};
  keepalive_requests 30; http2_max_concurrent_streams 8;
  server {{
    listen 127.0.0.1:{port} ssl http2;
    ssl_certificate {certificates}/localhost.crt; ssl_certificate_key {certificates}/localhost.key;
    root {folder};
  }}
}}
"""


@pytest.mark.skipif(shutil.which("nginx") is None, reason="nginx is not installed")
def test_nginx(runner: asyncio.Runner, certificates: Path, trusting: ssl.SSLContext, tmp_path: Path) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    tmp_path.chmod(0o755)
    (tmp_path / "large").write_bytes(bytes(range(256)) * 20_000)
    (tmp_path / "small").write_bytes(b"small")
    configuration = tmp_path / "nginx.conf"
    configuration.write_text(NGINX.format(folder=tmp_path, port=port, certificates=certificates) + "")
    server = subprocess.Popen(["nginx", "-c", str(configuration), "-e", str(tmp_path / "error.log")])
    try:
        for _ in range(100):
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except OSError:
                time.sleep(0.05)

        async def main() -> None:
            limits = http.Limits(max_connections=2)
            async with http.AsyncClient(verify=trusting, http2=True, limits=limits, timeout=30) as client:
                url = f"https://127.0.0.1:{port}"
                # After thirty requests nginx goes away, again and again.
                responses = await asyncio.gather(*[client.get(f"{url}/small") for _ in range(300)])
                assert {(each.text, each.http_version) for each in responses} == {("small", "HTTP/2")}
                larges = await asyncio.gather(*[client.get(f"{url}/large") for _ in range(10)])
                assert all(each.content == bytes(range(256)) * 20_000 for each in larges)

        runner.run(main())
    finally:
        server.terminate()
        server.wait(10)


def test_threads_share_a_client(secure: Http2Server, trusting: ssl.SSLContext) -> None:
    failures: list[BaseException] = []
    with http.Client(verify=trusting, http2=True) as client:

        def work(number: int) -> None:
            try:
                for turn in range(20):
                    assert client.get(f"{secure.url}/{number}/{turn}").text == f"/{number}/{turn}"
            except BaseException as error:  # noqa: BLE001 - told in the main thread
                failures.append(error)

        threads = [threading.Thread(target=work, args=[number]) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert failures == []
