"""What httpx2 has besides httpx: `query`, `Origin`; and JSON by other functions. Its `sse` is tested in test_sse.py."""

from __future__ import annotations

import asyncio
import json
import pickle
from typing import Any

import pytest

from aioxide import http

HTTPX2_NAMES = ["Origin", "SSEError", "EventSource", "ServerSentEvent", "query", "USE_CLIENT_DEFAULT", "ByteStream"]


def test_its_names_are_there() -> None:
    assert set(HTTPX2_NAMES) <= set(http.__all__)


def test_query(scripted: Any) -> None:
    scripted.answer("/q", body=b"found")
    url = f"{scripted.url}/q"

    async def main() -> http.Response:
        async with http.AsyncClient() as client:
            return await client.query(url, json={"a": 1})

    with http.Client() as client:
        responses = [http.query(url, json={"a": 1}), client.query(url, json={"a": 1}), asyncio.run(main())]
    assert [each.text for each in responses] == ["found"] * 3
    assert [(each.method, each.body) for each in scripted.requests] == [("QUERY", b'{"a":1}')] * 3


def test_origins() -> None:
    assert http.Origin("http://h") == http.URL("HTTP://H:80/a?b#c").origin != http.Origin("https://h")
    assert http.Origin("http://h") != "http://h"
    assert (
        len({http.Origin("http://[::1]"), http.Origin("http://[0:0:0:0:0:0:0:1]:80"), http.Origin("http://h:1")}) == 2
    )
    origin = http.Origin("https://user:secret@h:8443/path")
    assert (origin.scheme, origin.host, origin.port) == ("https", "h", 8443)
    assert repr(origin) == "Origin('https://h:8443')" and pickle.loads(pickle.dumps(origin)) == origin
    assert http.Origin("other://h").port is None
    with pytest.raises(ValueError, match="relative"):
        http.Origin("/path")
    with pytest.raises(AttributeError, match="never changes"):
        origin.port = 1
    with pytest.raises(AttributeError, match="never changes"):
        del origin.port


def test_json_by_other_functions(scripted: Any) -> None:
    scripted.answer("/json", body=b'{"a": 1.5}')
    url = f"{scripted.url}/json"

    def loads(data: bytes, **options: Any) -> Any:
        return json.loads(data, parse_float=str, **options)

    def dumps(value: Any) -> bytes:
        return b"<" + json.dumps(value).encode() + b">"

    async def main() -> list[http.Response]:
        async with http.AsyncClient(json_loads=loads, json_dumps=dumps) as client:
            return [await client.post(url, json=[1]), *await client.gather_get([url])]

    with http.Client(json_loads=loads, json_dumps=dumps) as client:
        responses = [client.post(url, json=[1], headers={"Content-Type": "x/y"}), client.get(url), *asyncio.run(main())]
    assert [each.json() for each in responses] == [{"a": "1.5"}] * 4
    posts = [each for each in scripted.requests if each.method == "POST"]
    assert [each.body for each in posts] == [b"<[1]>"] * 2
    assert [each.headers["content-type"] for each in posts] == ["x/y", "application/json"]
    with http.Client() as usual:
        assert usual.get(url).json() == {"a": 1.5}
