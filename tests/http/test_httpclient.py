"""aioxide.httpclient: Tornado's surface, blocking, with futures, and with callbacks."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from aioxide import http, httpclient
from aioxide._native import HttpServer
from aioxide.httpclient import AsyncHTTPClient, HTTPClient, HTTPClientError, HTTPRequest, HTTPResponse

from .conftest import ScriptedServer


@pytest.fixture(params=["blocking", "future", "callback"])
def fetch(request: pytest.FixtureRequest) -> Callable[..., HTTPResponse]:
    """Fetch in one of the three ways and give the response, or raise its error."""

    def blocking(*args: Any, **kwargs: Any) -> HTTPResponse:
        with HTTPClient() as client:
            return client.fetch(*args, **kwargs)

    def future(*args: Any, **kwargs: Any) -> HTTPResponse:
        async def main() -> HTTPResponse:
            return await AsyncHTTPClient().fetch(*args, **kwargs)

        return asyncio.run(main())

    def callback(*args: Any, raise_error: bool = True, **kwargs: Any) -> HTTPResponse:
        async def main() -> HTTPResponse:
            called: asyncio.Future[HTTPResponse] = asyncio.get_running_loop().create_future()
            AsyncHTTPClient().fetch(*args, callback=called.set_result, raise_error=raise_error, **kwargs)
            return await called

        response = asyncio.run(main())
        if raise_error:
            response.rethrow()
        return response

    ways: dict[str, Callable[..., HTTPResponse]] = {"blocking": blocking, "future": future, "callback": callback}
    return ways[request.param]


def echoed(response: HTTPResponse) -> dict[str, Any]:
    import json

    told = json.loads(response.body)
    headers = told["headers"]
    pairs = headers.items() if isinstance(headers, dict) else headers
    return {**told, "headers": {name.lower(): value for name, value in pairs}}


def test_a_response(fetch: Callable[..., HTTPResponse], url: str) -> None:
    response = fetch(f"{url}/hello")
    assert (response.code, response.reason, response.body, response.error) == (200, "OK", b"/hello", None)
    assert response.buffer is not None
    assert response.buffer.read() == b"/hello"
    assert response.headers["Content-Type"].startswith("text/plain")
    assert "Content-Type" in dict(response.headers.get_all())
    assert (response.effective_url, response.request.url) == (f"{url}/hello", f"{url}/hello")
    assert response.request_time is not None
    assert 0 < response.request_time < 5
    assert 0 < response.time_info["total"] < 5
    assert abs(response.start_time - time.time()) < 10  # type: ignore[operator]
    response.rethrow()


def test_a_request_with_everything(fetch: Callable[..., HTTPResponse], url: str) -> None:
    request = HTTPRequest(
        f"{url}/echo",
        method="POST",
        headers={"X-Mine": "1"},
        body="é",
        auth_username="user",
        auth_password="pass",
        user_agent="me",
        if_modified_since=datetime(2020, 1, 2, 3, 4, 5, tzinfo=UTC),
    )
    got = echoed(fetch(request))
    assert got["method"] == "POST"
    headers = got["headers"]
    assert (headers["x-mine"], headers["user-agent"]) == ("1", "me")
    assert headers["authorization"] == "Basic dXNlcjpwYXNz"
    assert headers["if-modified-since"] == "Thu, 02 Jan 2020 03:04:05 GMT"
    assert headers["content-type"] == "application/x-www-form-urlencoded"
    assert headers["content-length"] == "2"
    # The request that was given stays as it was.
    assert list(request.headers) == ["X-Mine"]


@pytest.mark.parametrize("status", [304, 404, 500])
def test_a_status_that_is_an_error(fetch: Callable[..., HTTPResponse], url: str, status: int) -> None:
    with pytest.raises(HTTPClientError, match=f"HTTP {status}") as caught:
        fetch(f"{url}/status/{status}")
    assert caught.value.code == status
    assert caught.value.response is not None
    assert caught.value.response.code == status
    response = fetch(f"{url}/status/{status}", raise_error=False)
    assert response.code == status
    with pytest.raises(httpclient.HTTPError):
        response.rethrow()


def test_no_response(fetch: Callable[..., HTTPResponse], url: str, refused_url: str) -> None:
    cases: list[tuple[str, dict[str, Any], tuple[type[Exception], ...]]] = [
        (refused_url, {}, (httpclient.HTTPConnectError, http.ConnectError, OSError)),
        (f"{url}/close", {}, (httpclient.HTTPStreamClosedError, http.RemoteProtocolError)),
        (f"{url}/delay/3000", {"request_timeout": 0.1}, (httpclient.HTTPTimeoutError, http.ReadTimeout)),
        ("ftp://127.0.0.1/", {}, (http.UnsupportedProtocol, ValueError)),
        ("http://h:port/", {}, (http.InvalidURL, ValueError)),
        (url, {"headers": {"X": "a\r\nb"}}, (http.LocalProtocolError, ValueError)),
    ]
    for target, kwargs, kinds in cases:
        for raise_error in (True, False):
            with pytest.raises(HTTPClientError) as caught:
                fetch(target, raise_error=raise_error, **kwargs).rethrow()
            assert (caught.value.code, caught.value.response) == (599, None)
            assert isinstance(caught.value.__cause__, Exception)
            for kind in kinds:
                assert isinstance(caught.value, kind)


def test_method_and_body_must_fit(fetch: Callable[..., HTTPResponse], url: str) -> None:
    for kwargs in ({"method": "POST"}, {"body": b"x"}, {"method": "PURGE"}):
        with pytest.raises(ValueError, match="allow_nonstandard_methods"):
            fetch(url, **kwargs)
    response = fetch(f"{url}/echo", method="PURGE", body=b"x", allow_nonstandard_methods=True)
    assert (echoed(response)["method"], echoed(response)["body"]) == ("PURGE", "x")


def test_redirects(fetch: Callable[..., HTTPResponse], url: str) -> None:
    response = fetch(f"{url}/redirect/3")
    assert response.code == 200
    assert response.effective_url != f"{url}/redirect/3"
    assert response.request.url == f"{url}/redirect/3"
    with pytest.raises(HTTPClientError, match="HTTP 30"):
        fetch(f"{url}/redirect/3", max_redirects=2)
    with pytest.raises(HTTPClientError, match="HTTP 30"):
        fetch(f"{url}/redirect/3", follow_redirects=False)


def test_redirects_drop_credentials_and_bodies(
    fetch: Callable[..., HTTPResponse], scripted: ScriptedServer, other_scripted: ScriptedServer
) -> None:
    scripted.answer("/", f"Location: {other_scripted.url}/there", status="303 See Other")
    other_scripted.answer("/there")
    fetch(
        scripted.url, method="POST", body="x", auth_username="u", auth_password="p", headers={"Cookie": "c", "X": "y"}
    )
    assert "authorization" in scripted.requests[0].headers
    (there,) = other_scripted.requests
    assert (there.method, there.body, there.headers["x"]) == ("GET", b"", "y")
    assert not {"authorization", "cookie", "content-type", "content-length"} & set(there.headers)


def test_streaming(fetch: Callable[..., HTTPResponse], url: str) -> None:
    pieces: list[bytes] = []
    lines: list[str] = []
    response = fetch(f"{url}/stream/3/10/10", streaming_callback=pieces.append, header_callback=lines.append)
    assert b"".join(pieces) != b""
    assert sum(map(len, pieces)) == 30
    assert response.body == b""
    assert lines[0] == "HTTP/1.1 200 OK\r\n"
    assert lines[-1] == "\r\n"
    assert any(line.startswith(("Content-Type: ", "Transfer-Encoding: ")) for line in lines)
    lines.clear()
    assert fetch(f"{url}/redirect/1", header_callback=lines.append).body != b""
    assert len([line for line in lines if line.startswith("HTTP/")]) == 1
    with pytest.raises(ZeroDivisionError):
        fetch(f"{url}/bytes/10", streaming_callback=lambda piece: 1 // 0)
    with pytest.raises(HTTPClientError) as caught:
        fetch(f"{url}/truncate", streaming_callback=pieces.append)
    assert caught.value.code == 599


def test_compressed(fetch: Callable[..., HTTPResponse], scripted: ScriptedServer) -> None:
    import gzip

    packed = gzip.compress(b"text")
    scripted.answer("/", "Content-Encoding: gzip", body=packed)
    assert fetch(scripted.url).body == b"text"
    assert scripted.requests[0].headers["accept-encoding"] == "gzip"
    assert fetch(scripted.url, decompress_response=False).body == packed
    assert "accept-encoding" not in scripted.requests[1].headers
    pieces: list[bytes] = []
    fetch(scripted.url, streaming_callback=pieces.append)
    assert b"".join(pieces) == b"text"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("network_interface", "lo"),
        ("prepare_curl_callback", print),
        ("allow_ipv6", False),
    ],
)
def test_what_is_not_there_yet_is_named(url: str, name: str, value: Any) -> None:
    with HTTPClient() as client, pytest.raises(NotImplementedError, match=name):
        client.fetch(url, **{name: value})

    async def main() -> None:
        with pytest.raises(NotImplementedError, match=name):
            AsyncHTTPClient().fetch(url, **{name: value})

    asyncio.run(main())


def test_body_producer(runner: asyncio.Runner, url: str) -> None:
    async def produce(write: Callable[[bytes], Any]) -> None:
        await write(b"ab")
        await asyncio.sleep(0)
        await write(b"cd")

    async def stalls(write: Callable[[bytes], Any]) -> None:
        await asyncio.sleep(30)

    async def fails(write: Callable[[bytes], Any]) -> None:
        raise TimeoutError("its own")

    async def main() -> None:
        client = AsyncHTTPClient()
        assert echoed(await client.fetch(f"{url}/echo", method="POST", body_producer=produce))["body"] == "abcd"
        with pytest.raises(httpclient.HTTPTimeoutError, match="while sending the request"):
            await client.fetch(f"{url}/echo", method="POST", body_producer=stalls, request_timeout=0.1)
        with pytest.raises(TimeoutError, match="its own"):
            await client.fetch(f"{url}/echo", method="POST", body_producer=fails)
        client.close()

    runner.run(main())
    with HTTPClient() as client, pytest.raises(NotImplementedError, match="body_producer"):
        client.fetch(url, method="POST", body_producer=produce)


def test_a_streaming_callback_that_is_a_coroutine(runner: asyncio.Runner, url: str) -> None:
    pieces: list[bytes] = []

    async def take(piece: bytes) -> None:
        await asyncio.sleep(0)
        pieces.append(piece)

    async def main() -> None:
        await AsyncHTTPClient().fetch(f"{url}/stream/3/10/1", streaming_callback=take)
        assert sum(map(len, pieces)) == 30

    runner.run(main())


def test_callbacks_are_called_whatever_happens(runner: asyncio.Runner, url: str, refused_url: str) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        reported: list[dict[str, Any]] = []
        loop.set_exception_handler(lambda loop, context: reported.append(context))
        client = AsyncHTTPClient()
        responses: asyncio.Queue[HTTPResponse] = asyncio.Queue()
        for target in (url, f"{url}/status/404", refused_url):
            client.fetch(target, callback=responses.put_nowait)
            response = await responses.get()
            assert response.code == {url: 200, refused_url: 599}.get(target, 404)
            assert (response.error is None) == (target == url)
        future = client.fetch(f"{url}/delay/3000", callback=responses.put_nowait)
        await asyncio.sleep(0.05)
        future.cancel()
        response = await responses.get()
        assert (response.code, type(response.error)) == (599, asyncio.CancelledError)
        assert not reported
        client.fetch(url, callback=lambda response: 1 // 0)
        while not reported:
            await asyncio.sleep(0.01)
        assert isinstance(reported[0]["exception"], ZeroDivisionError)
        assert url in reported[0]["message"]
        gc.collect()
        assert len(reported) == 1
        await asyncio.sleep(0.05)
        assert client.statistics()["requests_in_flight"] == 0

    runner.run(main())


def test_the_future_is_one_of_asyncio(runner: asyncio.Runner, url: str) -> None:
    async def main() -> None:
        from aioxide.concurrent import Future

        mine: asyncio.Future[bytes] = Future()
        fetching = AsyncHTTPClient().fetch(f"{url}/x")
        assert isinstance(fetching, asyncio.Future)
        fetching.add_done_callback(lambda done: mine.set_result(done.result().body))
        assert await mine == b"/x"

    runner.run(main())


def test_each_loop_has_its_own_client(runner: asyncio.Runner, url: str) -> None:
    async def main() -> AsyncHTTPClient:
        client = AsyncHTTPClient()
        assert AsyncHTTPClient() is client
        own = AsyncHTTPClient(force_instance=True)
        assert own is not client
        await own.fetch(url)
        own.close()
        own.close()
        with pytest.raises(RuntimeError, match="closed"):
            own.fetch(url)
        await client.fetch(url)
        assert AsyncHTTPClient() is client
        return client

    first = runner.run(main())
    assert runner.run(main()) is first
    others: list[AsyncHTTPClient] = []
    thread = threading.Thread(target=lambda: others.append(asyncio.run(main())))
    thread.start()
    thread.join()
    assert others[0] is not first

    async def close() -> None:
        client = AsyncHTTPClient()
        client.close()
        assert AsyncHTTPClient() is not client

    runner.run(close())
    with pytest.raises(RuntimeError, match="running event loop"):
        AsyncHTTPClient()
    with pytest.raises(RuntimeError, match="running event loop"):
        AsyncHTTPClient(force_instance=True).fetch(url)


def test_clients_go_with_their_loops() -> None:
    async def main() -> None:
        AsyncHTTPClient()

    before = len(AsyncHTTPClient._instances)
    for _ in range(20):
        asyncio.run(main())
    gc.collect()
    assert len(AsyncHTTPClient._instances) <= before + 2


def test_configure(runner: asyncio.Runner, url: str) -> None:
    class Mine(AsyncHTTPClient):
        pass

    async def main() -> None:
        AsyncHTTPClient.configure(Mine, defaults={"user_agent": "mine", "max_redirects": 0})
        try:
            assert AsyncHTTPClient.configured_class() is Mine
            client = AsyncHTTPClient(force_instance=True)
            assert type(client) is Mine
            assert echoed(await client.fetch(f"{url}/echo"))["headers"]["user-agent"] == "mine"
            with pytest.raises(HTTPClientError):
                await client.fetch(f"{url}/redirect/1")
            client.close()
            AsyncHTTPClient.configure("aioxide.httpclient.AsyncHTTPClient", max_clients=3)
            assert type(AsyncHTTPClient()) is AsyncHTTPClient
            for wrong in ("nodots", "asyncio.Queue"):
                with pytest.raises(ValueError, match=wrong.rpartition(".")[2]):
                    AsyncHTTPClient.configure(wrong)
            with pytest.raises(NotImplementedError, match="max_body_size"):
                AsyncHTTPClient(force_instance=True, max_body_size=1)
            with pytest.raises(TypeError, match="colour"):
                AsyncHTTPClient(force_instance=True, colour=1)
            with pytest.raises(ValueError, match="max_clients"):
                AsyncHTTPClient(force_instance=True, max_clients=0)
        finally:
            AsyncHTTPClient.configure(None)

    runner.run(main())


def test_max_clients(runner: asyncio.Runner) -> None:
    async def main(url: str) -> None:
        client = AsyncHTTPClient(force_instance=True, max_clients=2)
        started = time.perf_counter()
        futures = [client.fetch(f"{url}/{n}") for n in range(6)]
        await asyncio.sleep(0.05)
        assert client.statistics()["requests_in_flight"] - client.statistics()["requests_waiting"] <= 2
        assert [response.body for response in await asyncio.gather(*futures)] == [b"/%d" % n for n in range(6)]
        assert time.perf_counter() - started > 0.28
        busy = [client.fetch(url) for _ in range(2)]
        await asyncio.sleep(0.02)
        with pytest.raises(httpclient.HTTPTimeoutError) as caught:
            await client.fetch(url, connect_timeout=0.02)
        assert isinstance(caught.value, http.PoolTimeout)
        await asyncio.gather(*busy)
        client.close()

    with HttpServer(latency=0.1) as own:
        runner.run(main(own.url))


def test_blocking_inside_a_running_loop(runner: asyncio.Runner, url: str) -> None:
    async def main() -> None:
        ticked = False

        def tick() -> None:
            nonlocal ticked
            ticked = True

        asyncio.get_running_loop().call_soon(tick)
        assert HTTPClient().fetch(f"{url}/delay/20").code == 200
        # It blocks its caller's loop, as its documentation says.
        assert not ticked
        await asyncio.sleep(0)
        assert ticked

    runner.run(main())


def test_a_closed_client_refuses(url: str) -> None:
    client = HTTPClient()
    client.close()
    with pytest.raises(RuntimeError, match="closed"):
        client.fetch(url)
    with pytest.raises(ValueError, match="HTTPRequest"), HTTPClient() as other:
        other.fetch(HTTPRequest(url), method="HEAD")
