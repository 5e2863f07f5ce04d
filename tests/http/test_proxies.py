"""Requests through proxies: forwarded, in tunnels of CONNECT and SOCKS 5; the environment; what goes wrong."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from typing import Any

import pytest
from tests.http.proxies import Proxy

from aioxide import http
from aioxide._native import HttpServer

NAMED = "named.test"


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    running = Proxy()
    yield running
    running.close()


@pytest.fixture
def locked_proxy() -> Iterator[Proxy]:
    running = Proxy(credentials=("user", "s%cret:"))
    yield running
    running.close()


@pytest.fixture
def named_url(server: HttpServer) -> str:
    """The embedded server under a name that only the proxy can look up."""
    return f"http://{NAMED}:{server.port}"


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


def test_http_is_forwarded(proxy: Proxy, named_url: str, server: HttpServer) -> None:
    settings = http.Proxy(f"http://{proxy.address}", headers={"X-For-Proxy": "yes"})
    with http.Client(proxy=settings) as client:
        answer = client.post(f"{named_url}/echo?q=1", content=b"body", headers={"X-Own": "1"}).json()
        assert (answer["path"], answer["body"]) == ("/echo?q=1", "body")
    head = proxy.heads[0].decode()
    assert head.startswith(f"POST {named_url}/echo?q=1 HTTP/1.1\r\n")
    assert f"host: {NAMED}:{server.port}\r\n" in head.lower() and "x-for-proxy: yes" in head.lower()


@pytest.mark.parametrize("scheme", ["http", "socks5", "socks5h"])
def test_tunnels(runner: asyncio.Runner, proxy: Proxy, named_url: str, server: HttpServer, scheme: str) -> None:
    settings = http.Proxy(f"{scheme}://{proxy.address}", headers={"X-For-Proxy": "yes"}, tunnel=True)

    async def main() -> None:
        async with http.AsyncClient(proxy=settings) as client:
            responses = await asyncio.gather(*[client.get(f"{named_url}/echo") for _ in range(5)])
            # The origin sees nothing that is meant for the proxy.
            assert all("x-for-proxy" not in str(response.json()).lower() for response in responses)
            async with client.stream("GET", f"{named_url}/bytes/200000") as response:
                assert sum([len(piece) async for piece in response.aiter_bytes()]) == 200_000

    runner.run(main())
    assert set(proxy.targets) == {(NAMED, server.port)}
    assert all(head.startswith(f"CONNECT {NAMED}:{server.port} HTTP/1.1".encode()) for head in proxy.heads)


def test_addresses_go_to_socks_as_addresses(proxy: Proxy, url: str, server: HttpServer) -> None:
    with http.Client(proxy=f"socks5://{proxy.address}") as client:
        assert client.get(f"{url}/hello").status_code == 200
        assert client.get(f"http://[::1]:{server.port}/hello").status_code == 200
    assert proxy.targets == [("127.0.0.1", server.port), ("::1", server.port)]


@pytest.mark.parametrize(("scheme", "tunnel"), [("http", False), ("http", True), ("socks5", None)])
def test_credentials(locked_proxy: Proxy, named_url: str, scheme: str, tunnel: bool | None) -> None:
    address = locked_proxy.address
    for given in (
        http.Proxy(f"{scheme}://user:s%25cret%3A@{address}", tunnel=tunnel),
        http.Proxy(f"{scheme}://{address}", auth=("user", "s%cret:"), tunnel=tunnel),
    ):
        assert "cret" not in repr(given)
        with http.Client(proxy=given) as client:
            assert client.get(f"{named_url}/hello").status_code == 200
    with http.Client(proxy=http.Proxy(f"{scheme}://{address}", tunnel=tunnel)) as client:
        if scheme == "http" and not tunnel:
            assert client.get(named_url).status_code == 407
        else:
            with pytest.raises(http.ProxyError, match=f"{address}.*(407|wants credentials)"):
                client.get(named_url)
    if scheme == "socks5":
        with http.Client(proxy=f"socks5://user:wrong@{address}") as client:
            with pytest.raises(http.ProxyError, match="refused the user or the password"):
                client.get(named_url)


def test_what_goes_wrong_is_told(proxy: Proxy, refused_url: str) -> None:
    with http.Client(proxy=refused_url) as client:
        with pytest.raises(http.ConnectError, match="the proxy 127.0.0.1:"):
            client.get(f"http://{NAMED}/")
    with http.Client(proxy=f"socks5://{proxy.address}") as client:
        with pytest.raises(http.ProxyError, match="connection refused"):
            client.get(refused_url)
    tunnel = http.Proxy(f"http://{proxy.address}", tunnel=True)
    for answer, expected in (
        (b"nonsense\r\n\r\n", "did not make a tunnel"),
        (b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 5\r\n\r\nerror", "refused a tunnel: 502"),
        (b"HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "before it was asked"),
        (b"", "did not make a tunnel"),
    ):
        proxy.answer = lambda connection, answer=answer: connection.sendall(answer)  # type: ignore[misc]
        with http.Client(proxy=tunnel) as client:
            with pytest.raises(http.ProxyError, match=expected):
                client.get(f"http://{NAMED}/")
            assert client.statistics() == dict.fromkeys(client.statistics(), 0)
    proxy.answer = lambda connection: connection.recv(1) and None
    with http.Client(proxy=tunnel, timeout=0.1) as client:
        with pytest.raises(http.ConnectTimeout):
            client.get(f"http://{NAMED}/")


def test_what_a_proxy_may_be() -> None:
    for wrong in ("ftp://127.0.0.1", "127.0.0.1:80"):
        with pytest.raises(ValueError, match="schemes"):
            http.Client(proxy=wrong)
    with pytest.raises(http.LocalProtocolError):
        http.Client(proxy=http.Proxy("http://h", headers={"X": "a\r\nY: b"}))
    with pytest.raises(http.LocalProtocolError, match="255"):
        http.Client(proxy=http.Proxy("socks5://h", auth=("u" * 256, "")))


@pytest.mark.parametrize("upper", [True, False])
def test_the_environment_names_proxies(
    proxy: Proxy, named_url: str, url: str, monkeypatch: pytest.MonkeyPatch, upper: bool
) -> None:
    def set_variable(name: str, value: str) -> None:
        monkeypatch.setenv(name.upper() if upper else name, value)

    set_variable("http_proxy", proxy.address)
    set_variable("no_proxy", "10.0.0.0/8, 127.0.0.0/8, .internal.test")
    with http.Client() as client:
        assert client.get(f"{named_url}/hello").status_code == 200
        assert client.get(f"{url}/hello").status_code == 200
    assert len(proxy.heads) == 1, "127.0.0.1 is excepted"
    with http.Client(trust_env=False, timeout=1) as client:
        with pytest.raises(http.ConnectError):
            client.get(named_url)
    monkeypatch.setenv("REQUEST_METHOD", "GET")
    if upper:
        with http.Client() as client:
            with pytest.raises(http.ConnectError):
                client.get(named_url)


def test_gathered_requests_go_through_the_proxy(runner: asyncio.Runner, proxy: Proxy, named_url: str) -> None:
    async def main() -> Any:
        async with http.AsyncClient(proxy=f"http://{proxy.address}") as client:
            return await client.gather_get([f"{named_url}/{n}" for n in range(4)])

    assert [response.status_code for response in runner.run(main())] == [200] * 4
    assert proxy.heads
