"""respx and pytest-httpx put themselves in the place of the transports."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest
import respx

from aioxide import http


def test_it_is_ours() -> None:
    assert httpx.Client is http.Client


def test_respx() -> None:
    with respx.mock(using="httpx", base_url="http://mocked.test") as mock:
        mock.get("/users/7").respond(json={"id": 7})
        created = mock.post("/users").mock(return_value=httpx.Response(201))
        mock.get("/down").mock(side_effect=httpx.ConnectError)
        assert httpx.get("http://mocked.test/users/7").json() == {"id": 7}
        assert httpx.post("http://mocked.test/users", json={"name": "x"}).status_code == 201
        assert created.called and created.calls.last.request.content == b'{"name":"x"}'
        with pytest.raises(httpx.ConnectError):
            httpx.get("http://mocked.test/down")

        async def main() -> None:
            async with httpx.AsyncClient() as client:
                assert (await client.get("http://mocked.test/users/7")).json() == {"id": 7}

        asyncio.run(main())
        assert mock.calls.call_count == 4


def test_pytest_httpx(httpx_mock: Any) -> None:
    httpx_mock.add_response(url="http://mocked.test/a", json=[1, 2], headers={"x-a": "b"})
    httpx_mock.add_response(method="POST", url="http://mocked.test/b", status_code=202)
    httpx_mock.add_exception(httpx.ReadTimeout("slow"), url="http://mocked.test/c")
    with httpx.Client() as client:
        response = client.get("http://mocked.test/a")
        assert (response.json(), response.headers["x-a"]) == ([1, 2], "b")
        assert client.post("http://mocked.test/b", content=b"body").status_code == 202
        with pytest.raises(httpx.ReadTimeout):
            client.get("http://mocked.test/c")
    assert httpx_mock.get_requests()[1].content == b"body"


async def _fetch() -> bytes:
    async with httpx.AsyncClient() as client, client.stream("GET", "http://mocked.test/s") as response:
        return b"".join([piece async for piece in response.aiter_bytes()])


def test_pytest_httpx_streams(httpx_mock: Any) -> None:
    httpx_mock.add_response(url="http://mocked.test/s", content=b"streamed")
    assert asyncio.run(_fetch()) == b"streamed"
