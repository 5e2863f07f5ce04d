"""The HTTP client with the servers and proxies that it meets in the world."""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.ecosystem.peers import LARGE, PASSWORD, PROXIES, TEXT, USER, WebServer, haproxy, nginx
from tests.tls.certificates import make_certificates

from aioxide import http

WAYS: dict[str, tuple[str, dict[str, Any], str]] = {
    "HTTP/1.1": ("plain", {}, "HTTP/1.1"),
    "HTTP/1.1 by TLS": ("secure", {}, "HTTP/1.1"),
    "HTTP/2 by TLS": ("secure", {"http2": True}, "HTTP/2"),
    "HTTP/2 known before": ("h2c", {"http1": False, "http2": True}, "HTTP/2"),
}


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def trusting(certificates: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(certificates / "ca.pem"))


@pytest.fixture(scope="module")
def web_server(certificates: Path) -> Iterator[WebServer]:
    """nginx, for those who need some server."""
    with nginx(certificates) as running:
        yield running


@pytest.fixture(scope="module", params=["nginx", "haproxy"])
def server(request: pytest.FixtureRequest, certificates: Path, web_server: WebServer) -> Iterator[WebServer]:
    if request.param == "nginx":
        yield web_server
        return
    with haproxy(certificates, web_server) as running:
        yield running


@pytest.mark.parametrize("way", sorted(WAYS))
def test_servers(runner: asyncio.Runner, server: WebServer, trusting: ssl.SSLContext, way: str) -> None:
    where, options, version = WAYS[way]
    base = getattr(server, where)

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(LARGE), 50_000):
            yield LARGE[start : start + 50_000]

    async def main() -> None:
        limits = http.Limits(max_connections=4)
        async with http.AsyncClient(
            base_url=base, verify=trusting, limits=limits, timeout=20, follow_redirects=True, **options
        ) as client:
            # nginx closes a connection after 50 requests, or says that it goes away.
            smalls = await asyncio.gather(*[client.get("/small") for _ in range(300)])
            assert {(each.text, each.http_version) for each in smalls} == {("small", version)}
            larges = await asyncio.gather(*[client.get("/large") for _ in range(6)])
            assert all(each.content == LARGE for each in larges)
            text = await client.get("/text.txt")
            assert (text.text, text.headers["content-encoding"]) == (TEXT, "gzip")
            hopped = await client.get("/hop")
            assert (hopped.text, len(hopped.history)) == ("small", 1)
            assert (await client.get("/none")).status_code == 404
            assert (await client.get("/guarded")).status_code == 401
            assert (await client.get("/guarded", auth=(USER, PASSWORD))).text == "small"
            head = await client.head("/large")
            assert (head.headers["content-length"], head.content) == (str(len(LARGE)), b"")
            name = f"/uploads/{way.replace(' ', '-').replace('/', '-')}"
            for number, content in enumerate((b"", b"x", LARGE, pieces())):
                put = await client.put(f"{name}-{number}", content=content)
                assert put.status_code in (201, 204), put
            assert (await client.get(f"{name}-2")).content == LARGE == (await client.get(f"{name}-3")).content
            assert {(await client.delete(f"{name}-{number}")).status_code for number in range(4)} == {204}
            await leave_unread(client)
            statistics = client.statistics()
            assert statistics["requests_in_flight"] == 0 and statistics["connections_open"] <= 4

    runner.run(main())


async def leave_unread(client: http.AsyncClient) -> None:
    """What is given up in the middle costs the others nothing."""
    for _ in range(3):
        async with client.stream("GET", "/slow") as response:
            async for _ in response.aiter_raw():
                break
    task = asyncio.ensure_future(client.get("/slow"))
    await asyncio.sleep(0.05)
    task.cancel()
    assert [each.text for each in await asyncio.gather(*[client.get("/small") for _ in range(8)])] == ["small"] * 8
    with pytest.raises(http.ReadTimeout):
        await client.get("/slow", timeout=http.Timeout(10, total=0.2))


def test_servers_and_blocking_code(server: WebServer, trusting: ssl.SSLContext) -> None:
    for where, options, version in WAYS.values():
        with http.Client(base_url=getattr(server, where), verify=trusting, timeout=20, **options) as client:
            failures: list[BaseException] = []

            def work(client: http.Client, failures: list[BaseException], version: str) -> None:
                try:
                    for _ in range(30):
                        response = client.get("/small")
                        assert (response.text, response.http_version) == ("small", version)
                    assert client.get("/large").content == LARGE
                except BaseException as failure:  # noqa: BLE001 - raised in the main thread
                    failures.append(failure)

            threads = [threading.Thread(target=work, args=(client, failures, version)) for _ in range(3)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert not failures


@pytest.mark.parametrize("name", sorted(PROXIES))
def test_proxies(runner: asyncio.Runner, web_server: WebServer, trusting: ssl.SSLContext, name: str) -> None:
    scheme, start = PROXIES[name]

    async def main(address: str) -> None:
        proxy = f"{scheme}://{USER}:{PASSWORD}@{address}"
        for options, version in (({}, "HTTP/1.1"), ({"http2": True}, "HTTP/2")):
            async with http.AsyncClient(proxy=proxy, verify=trusting, timeout=20, **options) as client:
                for base in (web_server.plain, web_server.secure):
                    smalls = await asyncio.gather(*[client.get(f"{base}/small") for _ in range(20)])
                    assert {each.text for each in smalls} == {"small"}
                    assert (await client.get(f"{base}/large")).content == LARGE
                    assert (await client.post(f"{base}/length", content=LARGE)).text == str(len(LARGE))
                assert smalls[0].http_version == version
                assert smalls[0].url.port == int(web_server.secure.rpartition(":")[2])
                with pytest.raises((http.ProxyError, http.RemoteProtocolError)):
                    # Nobody listens there.
                    await client.get("https://127.0.0.1:9/")
        async with http.AsyncClient(proxy=f"{scheme}://{USER}:wrong@{address}", verify=trusting, timeout=20) as client:
            with pytest.raises(http.ProxyError):
                await client.get(f"{web_server.secure}/small")
            if scheme == "http":
                assert (await client.get(f"{web_server.plain}/small")).status_code in (401, 407)
        async with http.AsyncClient(proxy=f"{scheme}://{address}", verify=trusting, timeout=20) as client:
            with pytest.raises(http.ProxyError):
                await client.get(f"{web_server.secure}/small")
        await websocket(proxy)

    async def websocket(proxy: str) -> None:
        from websockets.asyncio.server import serve

        async def echo(connection: Any) -> None:
            async for message in connection:
                await connection.send(message)

        async with serve(echo, "127.0.0.1", 0) as echoing:
            port = next(iter(echoing.sockets)).getsockname()[1]
            async with http.AsyncClient(proxy=proxy) as client:
                async with client.websocket(f"ws://127.0.0.1:{port}/") as session:
                    await session.send_text("through the proxy")
                    assert await session.receive_text(10) == "through the proxy"

    with start() as address:  # type: ignore[attr-defined]
        runner.run(main(address))
