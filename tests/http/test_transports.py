"""Transports: custom ones, those that call applications, mounts, and ours within a real httpx."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from aioxide import http


def test_a_custom_transport_answers_and_is_opened_and_closed() -> None:
    events: list[str] = []

    class Body(http.SyncByteStream):
        def __iter__(self) -> Iterator[bytes]:
            yield gzip.compress(b"body")

        def close(self) -> None:
            events.append("body closed")

    class Custom(http.BaseTransport):
        def handle_request(self, request: http.Request) -> http.Response:
            events.append(f"{request.method} {request.url.path} {b''.join(request.stream)!r}")
            return http.Response(200, headers={"Content-Encoding": "gzip", "Set-Cookie": "a=b"}, stream=Body())

        def close(self) -> None:
            events.append("closed")

    with http.Client(transport=Custom(), base_url="http://h") as client:
        response = client.post("/x", content=iter([b"1", b"2"]))
        assert (response.text, response.url.path, response.request.method) == ("body", "/x", "POST")
        assert response.elapsed.total_seconds() >= 0
        assert client.cookies["a"] == "b"
    assert events == ["POST /x b'12'", "body closed", "closed"]


def test_a_body_that_fails_is_closed(runner: asyncio.Runner) -> None:
    closed: list[str] = []

    class Body(http.SyncByteStream, http.AsyncByteStream):
        def __iter__(self) -> Iterator[bytes]:
            yield b"1"
            raise http.ReadError("lost")

        async def __aiter__(self) -> AsyncIterator[bytes]:
            yield b"1"
            raise http.ReadError("lost")

        def close(self) -> None:
            closed.append("sync")

        async def aclose(self) -> None:
            closed.append("async")

    transport = http.MockTransport(lambda request: http.Response(200, stream=Body()))
    with pytest.raises(http.ReadError) as caught:
        http.Client(transport=transport).get("http://h/a")
    assert caught.value.request.url.path == "/a"

    async def main() -> None:
        async with http.AsyncClient(transport=transport) as client:
            with pytest.raises(http.ReadError):
                await client.get("http://h/")

    runner.run(main())
    assert closed[0] == "sync" and closed[-1] == "async"


def test_what_a_transport_must_give() -> None:
    client = http.Client(transport=http.MockTransport(lambda request: "text"))  # type: ignore[arg-type,return-value]
    with pytest.raises(TypeError, match="must give a Response, not str"):
        client.get("http://h/")

    async def handler(request: http.Request) -> http.Response:
        return http.Response(200)

    with pytest.raises(TypeError, match="AsyncClient"):
        http.Client(transport=http.MockTransport(handler)).get("http://h/")
    with pytest.raises(NotImplementedError, match="handle_request"):
        http.Client(transport=http.BaseTransport()).get("http://h/")
    with pytest.raises(RuntimeError, match="async iterable"):
        http.Client(transport=http.HTTPTransport()).post("http://h/", content=_pieces())


async def _pieces() -> AsyncIterator[bytes]:
    yield b"x"


def test_mounts_from_the_most_specific() -> None:
    def named(name: str) -> http.MockTransport:
        return http.MockTransport(lambda request: http.Response(200, text=name))

    mounts = {
        "all://": named("all"),
        "http://*.example.com": named("below"),
        "http://example.com:81": named("port"),
        "custom://": named("custom"),
        "http://plain.test": None,
    }
    with http.Client(transport=named("none"), mounts=mounts) as client:
        for url, expected in (
            ("http://a.example.com/", "below"),
            ("http://example.com:81/", "port"),
            ("http://example.com/", "all"),
            ("custom://whatever/x", "custom"),
            ("http://plain.test/", "none"),
        ):
            assert client.get(url).text == expected
    with pytest.raises(ValueError, match="http://"):
        http.Client(mounts={"http": named("x")})


def test_a_native_transport_can_be_subclassed_and_patched(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Counting(http.HTTPTransport):
        count = 0

        def handle_request(self, request: http.Request) -> http.Response:
            self.count += 1
            return super().handle_request(request)

    transport = Counting()
    with http.Client(transport=transport) as client:
        assert client.get(f"{url}/hello").status_code == 200
        with client.stream("GET", f"{url}/bytes/100000") as response:
            assert sum(map(len, response.iter_bytes())) == 100_000
    assert transport.count == 2

    def replaced(self: http.HTTPTransport, request: http.Request) -> http.Response:
        return http.Response(418)

    monkeypatch.setattr(http.HTTPTransport, "handle_request", replaced)
    assert http.get("http://nowhere.test/").status_code == 418


def test_retries_are_for_connecting_alone(refused_url: str, scripted: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    monkeypatch.setattr("time.sleep", pauses.append)
    with http.Client(transport=http.HTTPTransport(retries=2)) as client:
        with pytest.raises(http.ConnectError):
            client.get(refused_url)
        assert pauses == [0.5, 1.0]
        scripted.answers["/"] = b"nonsense\r\n\r\n"
        with pytest.raises(http.RemoteProtocolError):
            client.get(scripted.url)
    assert len(scripted.requests) == 1 and len(pauses) == 2


def test_asgi_applications_are_called(runner: asyncio.Runner) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        message = await receive()
        if scope["path"] == "/fails":
            raise ZeroDivisionError
        await send({"type": "http.response.start", "status": 201, "headers": [(b"x", scope["query_string"])]})
        while message["more_body"]:
            await send({"type": "http.response.body", "body": message["body"], "more_body": True})
            message = await receive()
        if scope["path"] != "/stops":
            await send({"type": "http.response.body"})
            assert (await receive())["type"] == "http.disconnect"

    async def main() -> None:
        async with http.AsyncClient(transport=http.ASGITransport(app), base_url="http://app") as client:
            response = await client.post("/a?q", content=_pieces())
            assert (response.status_code, response.headers["x"], response.text) == (201, "q", "x")
            with pytest.raises(ZeroDivisionError):
                await client.get("/fails")
            with pytest.raises(RuntimeError, match="before its answer"):
                await client.get("/stops")
        quiet = http.ASGITransport(app, raise_app_exceptions=False)
        async with http.AsyncClient(transport=quiet, base_url="http://app") as client:
            assert (await client.get("/fails")).status_code == 500

    runner.run(main())


def test_wsgi_applications_are_called() -> None:
    closed: list[bool] = []

    class Result:
        def __iter__(self) -> Iterator[bytes]:
            yield b""
            yield b" returned"

        def close(self) -> None:
            closed.append(True)

    def app(environ: dict[str, Any], start_response: Any) -> Any:
        if environ["PATH_INFO"] == "/silent":
            return []
        write = start_response("202 Accepted", [("X-Method", environ["REQUEST_METHOD"])])
        write(environ["wsgi.input"].read())
        return Result()

    with http.Client(transport=http.WSGITransport(app), base_url="http://app") as client:
        response = client.post("/", content=b"written")
        assert (response.status_code, response.text) == (202, "written returned")
        assert response.headers["x-method"] == "POST" and closed == [True]
        with pytest.raises(RuntimeError, match="no response"):
            client.get("/silent")


def test_ours_within_a_real_httpx(runner: asyncio.Runner, url: str, refused_url: str) -> None:
    httpx = pytest.importorskip("httpx")

    async def main() -> None:
        async with httpx.AsyncClient(transport=http.AsyncHTTPTransport(), base_url=url) as client:
            response = await client.post("/echo", content=_pieces())
            assert isinstance(response, httpx.Response) and response.json()["body"] == "x"
            async with client.stream("GET", "/bytes/100000") as response:
                assert sum([len(piece) async for piece in response.aiter_bytes()]) == 100_000
            with pytest.raises(httpx.ConnectError) as caught:
                await client.get(refused_url)
            assert str(caught.value.request.url) == refused_url
            with pytest.raises(httpx.ReadTimeout):
                await client.get("/delay/1000", timeout=0.01)

    runner.run(main())
    with httpx.Client(transport=http.HTTPTransport()) as client:
        assert client.get(f"{url}/hello").status_code == 200
