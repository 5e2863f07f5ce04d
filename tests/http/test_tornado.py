"""What Tornado's clients can do besides: proxies, digest authentication, and our core in a real Tornado application."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
from collections.abc import Iterator
from typing import Any

import pytest
from tests.http.proxies import Proxy

from aioxide import httpclient
from aioxide._native import HttpServer


@pytest.fixture
def locked_proxy() -> Iterator[Proxy]:
    running = Proxy(credentials=("user", "secret"))
    yield running
    running.close()


def test_a_request_names_its_proxy(runner: asyncio.Runner, locked_proxy: Proxy, server: HttpServer) -> None:
    host, _, port = locked_proxy.address.rpartition(":")
    through = {"proxy_host": host, "proxy_port": int(port), "proxy_username": "user", "proxy_password": "secret"}
    url = f"http://named.test:{server.port}/hello"
    with httpclient.HTTPClient() as client:
        assert client.fetch(url, **through).code == 200
        with pytest.raises(ValueError, match="proxy_port"):
            client.fetch(url, proxy_host=host)
        with pytest.raises(ValueError, match="proxy_auth_mode ntlm"):
            client.fetch(url, **through, proxy_auth_mode="ntlm")

    async def main() -> None:
        client = httpclient.AsyncHTTPClient()
        assert (await client.fetch(url, **through)).code == 200
        assert client.statistics()["requests_in_flight"] == 0
        client.close()

    runner.run(main())
    assert locked_proxy.targets == [("named.test", server.port)] * 2


def test_digest_authentication(runner: asyncio.Runner, scripted: Any) -> None:
    scripted.answer("/", 'WWW-Authenticate: Digest realm="r", nonce="n", qop="auth"', status="401 Unauthorized")

    async def main() -> None:
        client = httpclient.AsyncHTTPClient()
        response = await client.fetch(
            scripted.url, raise_error=False, auth_mode="digest", auth_username="user", auth_password="secret"
        )
        assert response.code == 401, "the second answer is final"
        client.close()

    runner.run(main())
    first, second = scripted.requests
    assert "authorization" not in first.headers
    given = dict(pair.split("=", 1) for pair in second.headers["authorization"].removeprefix("Digest ").split(", "))

    def md5(*parts: str) -> str:
        return hashlib.md5(":".join(parts).encode(), usedforsecurity=False).hexdigest()

    own = given["cnonce"].strip('"')
    expected = md5(md5("user", "r", "secret"), "n", "00000001", own, "auth", md5("GET", "/"))
    assert given["response"] == f'"{expected}"' and "secret" not in second.headers["authorization"]
    with httpclient.HTTPClient() as client, pytest.raises(ValueError, match="auth_mode ntlm"):
        client.fetch(scripted.url, auth_mode="ntlm")


def test_a_tornado_application_uses_our_core(runner: asyncio.Runner, url: str, refused_url: str, scripted: Any) -> None:
    tornado = pytest.importorskip("tornado.httpclient")
    scripted.answer("/bomb", "Content-Encoding: gzip", body=gzip.compress(bytes(10_000_000)))
    pieces: list[int] = []
    lines: list[str] = []

    async def main() -> None:
        tornado.AsyncHTTPClient.configure("aioxide.httpclient.NativeAsyncHTTPClient", max_body_size=1_000_000)
        client = tornado.AsyncHTTPClient()
        assert type(client) is httpclient.NativeAsyncHTTPClient and client is tornado.AsyncHTTPClient()
        response = await client.fetch(f"{url}/bytes/1000", header_callback=lines.append)
        assert isinstance(response, tornado.HTTPResponse) and len(response.body) == 1000
        assert lines[0].startswith("HTTP/1.1 200") and response.time_info["total"] > 0
        with pytest.raises(tornado.HTTPClientError) as caught:
            await client.fetch(f"{url}/status/404")
        assert caught.value.response.code == 404
        with pytest.raises(OSError, match="connection refused"):
            await client.fetch(refused_url)
        with pytest.raises(tornado.HTTPClientError, match="more than 1000000 bytes"):
            await client.fetch(f"{scripted.url}/bomb", streaming_callback=lambda piece: pieces.append(len(piece)))
        client.close()

    try:
        runner.run(main())
    finally:
        tornado.AsyncHTTPClient.configure(None)
    assert sum(pieces) <= 1_000_000, "no more than is allowed is decoded"
    assert max(pieces) <= 256 * 1024
