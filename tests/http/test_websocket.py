"""WebSockets: on both kinds of loop and in blocking code, through TLS and proxies, with servers good and bad."""

from __future__ import annotations

import asyncio
import gc
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.http.proxies import Proxy
from tests.http.websocket_server import ByHand, WebSocketServer, serving

from aioxide import http
from aioxide._native import HttpServer

Eventually = Callable[[Callable[[], bool]], None]


@pytest.fixture
def server() -> Iterator[WebSocketServer]:
    with serving() as running:
        yield running


@pytest.fixture
def by_hand() -> Iterator[Callable[..., ByHand]]:
    made: list[ByHand] = []

    def make(*args: Any) -> ByHand:
        made.append(ByHand(*args))
        return made[-1]

    yield make
    for each in made:
        each.close()


async def is_over(client: http.AsyncClient) -> None:
    for _ in range(500):
        if client.statistics()["connections_open"] == 0:
            return
        await asyncio.sleep(0.01)
    raise AssertionError(client.statistics())


def test_messages_of_every_kind(runner: asyncio.Runner, server: WebSocketServer, eventually: Eventually) -> None:
    async def main() -> None:
        async with http.AsyncClient() as client:
            async with client.websocket(server.url) as session:
                assert session.response.status_code == 101 and session.subprotocol is None
                assert repr(session) == f"<AsyncWebSocketSession {server.url.replace('ws', 'http', 1)} open>"
                await session.send_text("häl\0lo")
                assert await session.receive_text() == "häl\0lo"
                for data in (b"\xff\x00", bytearray(b"x"), memoryview(b"y" * 200_000), b""):
                    await session.send_bytes(data)
                    assert await session.receive_bytes() == bytes(data)
                for mode in ("text", "binary"):
                    await session.send_json({"ä": [1, None]}, mode)
                    assert await session.receive_json(mode=mode) == {"ä": [1, None]}
                await asyncio.gather(*[session.send_text(str(n)) for n in range(1000)])
                assert [await session.receive() for _ in range(1000)] == [str(n) for n in range(1000)]
                pong = await session.ping()
                assert 0 < await pong.wait() < 5
                await session.ping(b"nobody waits for this one")
                assert client.statistics()["connections_open"] == 1
                assert (session.is_closed, session.close_code) == (False, None)
            assert (session.close_code, session.close_reason, session.is_closed) == (1000, "", True)
            await is_over(client)

    runner.run(main())
    eventually(lambda: server.endings == [(1000, "")])


def test_blocking_code(server: WebSocketServer, eventually: Eventually) -> None:
    with http.Client() as client, client.websocket(server.url) as session:
        assert session.response.status_code == 101
        session.send_text("a")
        assert session.receive_text() == "a"
        session.send_bytes(b"b" * 1_000_000)
        assert session.receive_bytes() == b"b" * 1_000_000
        session.send_json([1])
        assert session.receive_json() == [1]
        assert session.ping().wait(5) > 0
        started = time.perf_counter()
        with pytest.raises(TimeoutError):
            session.receive(0.1)
        assert 0.05 < time.perf_counter() - started < 5
        session.send_text("not lost")
        assert session.receive(5) == "not lost"
        session.close(4000, "enough")
        assert (session.close_code, session.close_reason) == (4000, "enough")
        with pytest.raises(http.WebSocketDisconnect) as caught:
            session.send_text("late")
        assert (caught.value.code, caught.value.reason) == (4000, "enough")
    eventually(lambda: server.endings == [(4000, "enough")])


def test_threads_share_a_session(server: WebSocketServer) -> None:
    with http.Client() as client, client.websocket(server.url) as session:
        received: list[str] = []

        def send(start: int) -> None:
            for n in range(start, start + 200):
                session.send_text(str(n))

        def receive() -> None:
            received.extend(session.receive_text(10) for _ in range(200))

        threads = [threading.Thread(target=send, args=[start]) for start in (0, 200)]
        threads += [threading.Thread(target=receive) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(map(int, received)) == list(range(400))


def test_iteration_ends_with_the_connection(runner: asyncio.Runner, server: WebSocketServer) -> None:
    def two(code: int) -> Callable[[Any], None]:
        def handle(connection: Any) -> None:
            connection.send("one")
            connection.send(b"two")
            connection.close(code, "that is all")

        return handle

    server.handlers = {"/good": two(1000), "/away": two(1001), "/bad": two(1011)}

    async def main() -> None:
        async with http.AsyncClient() as client:
            for path in ("/good", "/away"):
                async with client.websocket(server.url + path) as session:
                    assert [message async for message in session] == ["one", b"two"]
            async with client.websocket(server.url + "/bad") as session:
                messages = []
                with pytest.raises(http.WebSocketDisconnect, match=r"closed \(1011: that is all\)") as caught:
                    async for message in session:
                        messages.append(message)
                assert (messages, caught.value.code) == (["one", b"two"], 1011)

    runner.run(main())
    with http.Client() as blocking:
        with blocking.websocket(server.url + "/good") as session:
            assert list(session) == ["one", b"two"]
        with blocking.websocket(server.url + "/bad") as session:
            with pytest.raises(http.WebSocketDisconnect):
                list(session)


def test_what_was_not_expected(runner: asyncio.Runner, server: WebSocketServer) -> None:
    async def main() -> None:
        async with http.AsyncClient() as client, client.websocket(server.url) as session:
            await session.send_text("text")
            with pytest.raises(http.WebSocketInvalidTypeReceived) as caught:
                await session.receive_bytes()
            assert caught.value.message == "text"
            await session.send_bytes(b"{}")
            with pytest.raises(http.WebSocketInvalidTypeReceived):
                await session.receive_json()
            with pytest.raises(TypeError):
                await session.send_text(b"x")  # type: ignore[arg-type]
            with pytest.raises(TypeError):
                await session.send_bytes("x")  # type: ignore[arg-type]
            with pytest.raises(UnicodeEncodeError):
                await session.send_text("\ud800")
            with pytest.raises(ValueError, match="mode"):
                await session.send_json({}, "bytes")  # type: ignore[arg-type]
            with pytest.raises(ValueError, match="NaN|JSON"):
                await session.send_json(float("nan"))
            for code, reason in ((1005, ""), (999, ""), (1000, "x" * 124)):
                with pytest.raises(ValueError, match="close"):
                    await session.close(code, reason)
            await session.send_text("a mistake ends nothing")
            assert await session.receive() == "a mistake ends nothing"

    runner.run(main())


def test_the_handshake_is_a_request_of_the_client(runner: asyncio.Runner, server: WebSocketServer) -> None:
    server.handlers["/chat"] = lambda connection: connection.send(connection.subprotocol or "none")

    def process(connection: Any, request: Any) -> Any:
        if request.path.startswith("/old"):
            response = connection.respond(302, "")
            response.headers["Location"] = "/chat?moved=1"
            response.headers["Set-Cookie"] = "seen=1; Path=/"
            return response
        return None

    server.process_request = process
    asked: list[str] = []

    async def main() -> None:
        client = http.AsyncClient(
            base_url=server.url.replace("ws", "http", 1),
            headers={"X-Mine": "1"},
            cookies={"a": "b"},
            auth=("user", "secret"),
            event_hooks={"request": [lambda request: hooked(request)]},
        )

        async def hooked(request: http.Request) -> None:
            asked.append(str(request.url.raw_path, "ascii"))

        async with client:
            opening = client.websocket("/old", params={"q": "1"}, headers={"X-More": "2"}, follow_redirects=True)
            async with opening as session:
                assert await session.receive() == "none"
                assert [each.status_code for each in session.response.history] == [302]
            assert client.cookies["seen"] == "1"

    runner.run(main())
    assert asked == ["/old?q=1", "/chat?moved=1"]
    first, second = server.requests
    assert first.headers["Authorization"].startswith("Basic ") and first.headers["Cookie"] == "a=b"
    assert (first.headers["X-Mine"], first.headers["X-More"]) == ("1", "2")
    assert first.headers["Connection"] == "Upgrade" and first.headers["Host"] == f"127.0.0.1:{server.port}"
    assert first.headers["Sec-WebSocket-Key"] != second.headers["Sec-WebSocket-Key"]
    assert "seen=1" in second.headers["Cookie"]


def test_subprotocols(runner: asyncio.Runner) -> None:
    with serving(subprotocols=["v2", "v1"]) as server:

        async def main() -> None:
            async with http.AsyncClient() as client:
                async with client.websocket(server.url, subprotocols=["v1", "v2"]) as session:
                    assert session.subprotocol == "v2"
                with pytest.raises(http.LocalProtocolError):
                    async with client.websocket(server.url, subprotocols=["a b"]):
                        pass
                with pytest.raises(TypeError):
                    async with client.websocket(server.url, subprotocols="v1"):  # type: ignore[arg-type]
                        pass

        runner.run(main())


def test_a_server_that_does_not_agree(runner: asyncio.Runner, server: WebSocketServer) -> None:
    server.process_request = lambda connection, request: connection.respond(403, "not you")

    async def main() -> None:
        async with http.AsyncClient() as client:
            with pytest.raises(http.WebSocketUpgradeError, match="answered 403") as caught:
                async with client.websocket(server.url):
                    pass
            assert (caught.value.response.status_code, caught.value.response.text) == (403, "not you")
            assert caught.value.request.url.path == "/"
            with HttpServer() as no_websocket_server, pytest.raises(http.WebSocketUpgradeError):
                async with client.websocket(no_websocket_server.url):
                    pass
            with pytest.raises(http.ConnectError):
                async with client.websocket("ws://127.0.0.1:9/"):
                    pass
            with pytest.raises(http.UnsupportedProtocol):
                async with client.websocket("ftp://127.0.0.1/"):
                    pass

    runner.run(main())
    with http.Client() as blocking, pytest.raises(http.WebSocketUpgradeError) as caught:
        with blocking.websocket(server.url):
            pass
    assert caught.value.response.text == "not you"
    mock = http.MockTransport(lambda request: http.Response(200, text=request.url.path))
    with http.Client(transport=mock) as mocked, pytest.raises(http.WebSocketUpgradeError):
        with mocked.websocket("ws://a.test/b"):
            pass


def test_digest_authentication(runner: asyncio.Runner, server: WebSocketServer) -> None:
    def process(connection: Any, request: Any) -> Any:
        if "Authorization" in request.headers:
            return None
        response = connection.respond(401, "who?")
        response.headers["WWW-Authenticate"] = 'Digest realm="r", nonce="n", qop="auth", algorithm=MD5'
        return response

    server.process_request = process

    async def main() -> None:
        async with http.AsyncClient() as client:
            async with client.websocket(server.url, auth=http.DigestAuth("user", "secret")) as session:
                await session.send_text("in")
                assert await session.receive() == "in"

    runner.run(main())
    assert server.requests[1].headers["Authorization"].startswith("Digest ")


@pytest.mark.parametrize("http2", [False, True])
def test_by_tls(runner: asyncio.Runner, certificates: Path, trusting: ssl.SSLContext, http2: bool) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificates / "localhost.pem")
    # Offered HTTP/2, it would choose that.
    context.set_alpn_protocols(["h2", "http/1.1"])
    with serving(context) as server:

        async def main() -> None:
            async with http.AsyncClient(verify=trusting, http2=http2) as client:
                async with client.websocket(server.url) as session:
                    await session.send_text("x" * 100_000)
                    assert await session.receive() == "x" * 100_000
                    stream = session.response.extensions["network_stream"]
                    assert stream.get_extra_info("ssl_object").selected_alpn_protocol() == "http/1.1"
                    assert client.statistics()["connections_open"] == 1
                await is_over(client)

        runner.run(main())
        with http.Client(verify=trusting, http2=http2) as blocking, blocking.websocket(server.url) as session:
            session.send_text("y")
            assert session.receive() == "y"


@pytest.mark.parametrize("scheme", ["http", "socks5"])
def test_through_a_proxy(runner: asyncio.Runner, server: WebSocketServer, scheme: str) -> None:
    proxy = Proxy(credentials=("user", "secret"))

    async def main() -> None:
        async with http.AsyncClient(proxy=f"{scheme}://user:secret@{proxy.address}") as client:
            for _ in range(2):
                async with client.websocket(server.url) as session:
                    await session.send_text("through")
                    assert await session.receive() == "through"

    try:
        runner.run(main())
        if scheme == "http":
            assert proxy.heads[0].startswith(b"CONNECT "), "what is no request and its response is not forwarded"
    finally:
        proxy.close()


def test_a_cancelled_receive_loses_nothing(runner: asyncio.Runner, server: WebSocketServer) -> None:
    def count(connection: Any) -> None:
        for n in range(300):
            connection.send(str(n))
            if n % 20 == 0:
                time.sleep(0.005)
        connection.recv()

    server.handlers["/count"] = count

    async def main() -> None:
        async with http.AsyncClient() as client, client.websocket(server.url + "/count") as session:
            received: list[str | bytes] = []
            given_up = 0
            while len(received) < 300:
                task = asyncio.ensure_future(session.receive())
                await asyncio.sleep(0)
                if len(received) % 3 and task.cancel():
                    given_up += 1
                    await asyncio.wait([task])
                    if not task.cancelled():
                        received.append(task.result())
                    if given_up % 50 == 0:
                        received.append(await session.receive(5))
                else:
                    received.append(await task)
            assert received == [str(n) for n in range(300)]
            with pytest.raises(TimeoutError):
                await session.receive(0.01)
            await session.send_text("done")

    runner.run(main())


def test_how_a_block_is_left(runner: asyncio.Runner, server: WebSocketServer, eventually: Eventually) -> None:
    class Mistake(Exception):
        pass

    async def main() -> None:
        async with http.AsyncClient() as client:
            with pytest.raises(Mistake):
                async with client.websocket(server.url):
                    raise Mistake

            async def wait() -> None:
                async with client.websocket(server.url) as session:
                    opened.set()
                    await session.receive()

            opened = asyncio.Event()
            task = asyncio.ensure_future(wait())
            await opened.wait()
            task.cancel()
            started = time.perf_counter()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert time.perf_counter() - started < 2
            await is_over(client)

    runner.run(main())
    eventually(lambda: len(server.endings) == 2)
    assert [code for code, _ in server.endings] == [1011, 1001]


def test_cancelled_while_it_closes(runner: asyncio.Runner, by_hand: Callable[..., ByHand]) -> None:
    """A server that does not answer the close holds up nobody who is cancelled, and others no longer than they said."""

    async def main() -> None:
        async with http.AsyncClient() as client:

            async def leave() -> None:
                async with client.websocket(by_hand().url):
                    left.set()

            left = asyncio.Event()
            task = asyncio.ensure_future(leave())
            await left.wait()
            await asyncio.sleep(0.05)
            assert not task.done()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            started = time.perf_counter()
            async with client.websocket(by_hand().url, close_timeout_seconds=0.2) as session:
                pass
            assert time.perf_counter() - started < 5 and session.close_code == 1006
            await is_over(client)

    runner.run(main())


def test_cancelled_while_it_opens(runner: asyncio.Runner, server: WebSocketServer) -> None:
    server.process_request = lambda connection, request: time.sleep(0.2)

    async def main() -> None:
        async with http.AsyncClient() as client:

            async def enter() -> None:
                async with client.websocket(server.url):
                    raise AssertionError("it was cancelled before")

            tasks = [asyncio.ensure_future(enter()) for _ in range(5)]
            for task in tasks:
                await asyncio.sleep(0.01)
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
            assert {type(result) for result in results} == {asyncio.CancelledError}
            with pytest.raises(http.ReadTimeout):
                async with client.websocket(server.url, timeout=0.05):
                    pass
            await is_over(client)

    runner.run(main())


def test_a_silent_server_is_given_up(runner: asyncio.Runner, by_hand: Callable[..., ByHand]) -> None:
    async def main() -> None:
        async with http.AsyncClient() as client:
            options = {"keepalive_ping_interval_seconds": 0.1, "keepalive_ping_timeout_seconds": 0.2}
            started = time.perf_counter()
            async with client.websocket(by_hand().url, **options) as session:
                with pytest.raises(http.WebSocketDisconnect, match="no answer to a ping within 0.2 s") as caught:
                    await session.receive()
            assert caught.value.code == 1006 and time.perf_counter() - started < 5
            await is_over(client)

    runner.run(main())


@pytest.mark.parametrize(
    ("frames", "code"),
    [
        (b"\x81\x02\xff\xff", 1007),
        (b"\x82\x7e\x04\x01" + bytes(1025), 1009),
        (b"\x02\x7e\x02\x01" + bytes(513) + b"\x80\x7e\x02\x01" + bytes(513), 1009),
        (b"\x83\x00", 1002),
        (b"\x88\x01x", 1002),
        (b"\x88\x02\x03\xf3", 1011),
        (b"\x88\x00", 1005),
        (b"", 1006),
    ],
)
def test_a_server_that_breaks_the_rules(by_hand: Callable[..., ByHand], frames: bytes, code: int) -> None:
    hang_up = None if frames else lambda connection: connection.close()
    hostile = by_hand(frames, hang_up)
    with http.Client() as client, client.websocket(hostile.url, max_message_size_bytes=1024) as session:
        with pytest.raises(http.WebSocketDisconnect) as caught:
            session.receive(10)
        assert caught.value.code == code, caught.value
        assert caught.value.__class__.__mro__[1:3] == (http.WebSocketError, http.HTTPError)
    if code in (1002, 1007, 1009):
        assert hostile.is_done.wait(5)
        assert b"\x88" in hostile.received, "the server was told why"


def test_one_who_does_not_read_holds_up_the_server(runner: asyncio.Runner, server: WebSocketServer) -> None:
    sent = 0

    def pour(connection: Any) -> None:
        nonlocal sent
        for _ in range(3000):
            connection.send(b"x" * 10_000)
            sent += 1

    server.handlers["/pour"] = pour

    async def main() -> None:
        async with http.AsyncClient() as client, client.websocket(server.url + "/pour", queue_size=4) as session:
            before = -1
            while before != sent or sent == 0:
                before = sent
                await asyncio.sleep(0.3)
            assert sent < 2500, "30 MB are not kept by anybody"
            for _ in range(3000):
                assert len(await session.receive()) == 10_000

    runner.run(main())


def test_the_client_or_the_loop_closes_first(server: WebSocketServer, eventually: Eventually) -> None:
    async def main() -> Any:
        client = http.AsyncClient()
        opening = client.websocket(server.url)
        session = await opening.__aenter__()
        await client.aclose()
        await session.send_text("the connection is still there")
        assert await session.receive() == "the connection is still there"
        with pytest.raises(RuntimeError, match="closed"):
            async with client.websocket(server.url):
                pass
        return opening, session

    from aioxide import new_event_loop

    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        opening, session = runner.run(main())
    assert session.close_code == 1006
    del opening, session
    gc.collect()
    eventually(lambda: len(server.endings) == 1)


def test_many_sessions_cancelled_at_random(runner: asyncio.Runner, server: WebSocketServer) -> None:
    import random

    seed = random.randrange(2**32)
    print(f"seed {seed}")
    dice = random.Random(seed)

    async def talk(client: http.AsyncClient) -> None:
        async with client.websocket(server.url) as session:
            for n in range(dice.randrange(20)):
                await session.send_text("x" * dice.randrange(5000))
                if n % 2:
                    await session.receive()

    async def main() -> None:
        async with http.AsyncClient(limits=http.Limits(max_connections=8)) as client:
            for _ in range(4):
                tasks = [asyncio.ensure_future(talk(client)) for _ in range(30)]
                for task in tasks:
                    if dice.random() < 0.5:
                        await asyncio.sleep(dice.random() * 0.01)
                        task.cancel()
                results = await asyncio.gather(*tasks, return_exceptions=True)
                assert all(each is None or isinstance(each, asyncio.CancelledError) for each in results), results
            await is_over(client)
            async with client.websocket(server.url) as session:
                await session.send_text("whole")
                assert await session.receive() == "whole"

    runner.run(main())
