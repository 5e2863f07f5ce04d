"""What goes wrong, in each phase: the class, the request, and what the message names."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from aioxide import http
from aioxide._native import HttpServer

from .conftest import ScriptedServer


@pytest.fixture(params=["blocking", "asyncio", "aioxide", "gather"])
def fails(request: pytest.FixtureRequest) -> Iterator[Callable[..., Any]]:
    """Send a GET in one of the ways there are, expect an error, and check what every error must have."""

    def by_loop(factory: Any) -> Callable[..., Any]:
        async def send(client: http.AsyncClient, url: str, **kwargs: Any) -> Any:
            async with client:
                try:
                    await client.get(url, **kwargs)
                finally:
                    assert client.statistics()["requests_in_flight"] == 0

        def run(url: str, limits: http.Limits, **kwargs: Any) -> None:
            with asyncio.Runner(loop_factory=factory) as runner:
                runner.run(send(http.AsyncClient(limits=limits), url, **kwargs))

        return run

    def blocking(url: str, limits: http.Limits, **kwargs: Any) -> None:
        with http.Client(limits=limits) as client:
            try:
                client.get(url, **kwargs)
            finally:
                assert client.statistics()["requests_in_flight"] == 0

    def gather(url: str, limits: http.Limits, **kwargs: Any) -> None:
        async def send() -> None:
            await http.gather_get([url], limits=limits, **kwargs)

        asyncio.run(send())

    def run_ours(url: str, **kwargs: Any) -> None:
        from aioxide import new_event_loop

        by_loop(new_event_loop)(url, **kwargs)

    ways = {
        "blocking": blocking,
        "asyncio": by_loop(asyncio.new_event_loop),
        "aioxide": run_ours,
        "gather": gather,
    }

    def check(expected: type[http.HTTPError], url: str, *words: str, **kwargs: Any) -> http.HTTPError:
        limits = kwargs.pop("limits", http.Limits())
        with pytest.raises(expected) as caught:
            ways[request.param](url, limits=limits, **kwargs)
        assert type(caught.value) is expected
        assert caught.value.request.url == url
        assert caught.value.request.method == "GET"
        for word in words:
            assert word in str(caught.value)
        return caught.value

    yield check


def host(url: str) -> str:
    return url.removeprefix("http://").partition("/")[0]


def test_refused(fails: Callable[..., Any], refused_url: str) -> None:
    fails(http.ConnectError, refused_url, host(refused_url), "refused", "connect")


def test_unknown_host(fails: Callable[..., Any]) -> None:
    fails(http.ConnectError, "http://no-such-host.invalid/", "no-such-host.invalid")


def test_connect_timeout(fails: Callable[..., Any]) -> None:
    # A listener whose queue is full lets nobody in.
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        address = listener.getsockname()
        waiting = [socket.socket() for _ in range(3)]
        for each in waiting:
            each.setblocking(False)
            each.connect_ex(address)
        url = f"http://127.0.0.1:{address[1]}"
        fails(http.ConnectTimeout, url, host(url), timeout=http.Timeout(5, connect=0.2))
        for each in waiting:
            each.close()


def test_write_timeout() -> None:
    """A peer that takes nothing fills the socket's buffers, and then the request waits to be sent."""
    body = b"x" * 20_000_000
    timeout = http.Timeout(5, write=0.2)
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        url = f"http://127.0.0.1:{deaf.getsockname()[1]}/"
        with http.Client(timeout=timeout) as client:
            with pytest.raises(http.WriteTimeout, match="sending") as caught:
                client.put(url, content=body)
            assert caught.value.request.method == "PUT"
            assert client.statistics()["connections_open"] == 0

        async def main() -> None:
            async with http.AsyncClient(timeout=timeout) as client:
                with pytest.raises(http.WriteTimeout, match="sending"):
                    await client.put(url, content=body)
                assert client.statistics()["connections_open"] == 0

        asyncio.run(main())


def test_read_timeout(fails: Callable[..., Any], url: str) -> None:
    fails(http.ReadTimeout, f"{url}/delay/3000", host(url), timeout=http.Timeout(5, read=0.2))


def test_read_timeout_within_the_body(fails: Callable[..., Any], url: str) -> None:
    fails(http.ReadTimeout, f"{url}/stream/2/10/3000", host(url), timeout=http.Timeout(5, read=0.2))


def test_total_timeout(fails: Callable[..., Any], url: str) -> None:
    error = fails(http.ReadTimeout, f"{url}/stream/100/10/50", host(url), timeout=http.Timeout(5, total=0.3))
    assert isinstance(error, http.TimeoutException)


def test_closed_without_an_answer(fails: Callable[..., Any], url: str) -> None:
    fails(http.RemoteProtocolError, f"{url}/close", host(url))


def test_closed_within_the_body(fails: Callable[..., Any], url: str) -> None:
    fails(http.RemoteProtocolError, f"{url}/truncate", host(url))


def test_an_answer_that_is_not_http(fails: Callable[..., Any], url: str) -> None:
    fails(http.RemoteProtocolError, f"{url}/garbage", host(url))


@pytest.mark.parametrize("url", ["ftp://h/", "/relative", "", "http://", "://h"])
def test_urls_that_are_not_http(fails: Callable[..., Any], url: str) -> None:
    fails(http.UnsupportedProtocol, url)


@pytest.mark.parametrize("name", ["X\r\nEvil: 1", "X Y", "X:", "", "X\0", "Xé"])
def test_header_names_cannot_smuggle(fails: Callable[..., Any], url: str, name: str) -> None:
    fails(http.LocalProtocolError, url, headers={name.encode(): b"value"})


@pytest.mark.parametrize("value", ["a\r\nEvil: 1", "a\nb", "a\rb", "a\0b", "\n"])
def test_header_values_cannot_smuggle(fails: Callable[..., Any], url: str, value: str) -> None:
    fails(http.LocalProtocolError, url, headers={"X-Mine": value})


@pytest.mark.parametrize("method", ["GET / HTTP/1.1\r\nX: y", "G ET", "", "GET\0"])
def test_methods_cannot_smuggle(url: str, method: str) -> None:
    with http.Client() as client, pytest.raises(http.LocalProtocolError):
        client.request(method, url)


@pytest.mark.parametrize("length", ["3", "5", "x", "-1"])
def test_a_wrong_length_is_not_sent(url: str, length: str) -> None:
    with http.Client() as client, pytest.raises(http.LocalProtocolError):
        client.post(f"{url}/echo", content=b"four", headers={"Content-Length": length})


def test_an_invalid_url(url: str) -> None:
    with http.Client() as client, pytest.raises(http.InvalidURL):
        client.get("http://h:port/")


def test_pool_timeout(url: str) -> None:
    async def main() -> None:
        limits = http.Limits(max_connections=1)
        async with http.AsyncClient(limits=limits, timeout=http.Timeout(5, pool=0.1)) as client:
            slow = asyncio.ensure_future(client.get(f"{url}/delay/500"))
            await asyncio.sleep(0.05)
            with pytest.raises(http.PoolTimeout) as caught:
                await client.get(url)
            assert caught.value.request.url == url
            assert (await slow).status_code == 200

    asyncio.run(main())


def test_a_port_in_use(server: HttpServer) -> None:
    with pytest.raises(OSError, match=r"(?i)in use"):
        HttpServer(port=server.port)


def test_a_body_that_does_not_decode(scripted: ScriptedServer) -> None:
    scripted.answer("/", "Content-Encoding: gzip", body=b"no gzip")
    with http.Client() as client:
        with pytest.raises(http.DecodingError) as caught:
            client.get(scripted.url)
        assert caught.value.request.url == scripted.url
        with client.stream("GET", scripted.url) as response, pytest.raises(http.DecodingError):
            response.read()


def test_errors_while_streaming_know_their_request(url: str) -> None:
    with http.Client() as client, client.stream("GET", f"{url}/truncate") as response:
        with pytest.raises(http.RemoteProtocolError) as caught:
            response.read()
        assert caught.value.request is response.request

    async def main() -> None:
        async with http.AsyncClient() as client, client.stream("GET", f"{url}/truncate") as response:
            with pytest.raises(http.RemoteProtocolError) as caught:
                await response.aread()
            assert caught.value.request is response.request

    asyncio.run(main())
