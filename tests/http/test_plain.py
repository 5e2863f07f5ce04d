"""Plain requests go a shorter way, and nobody can tell by what they see."""

from __future__ import annotations

import asyncio
import gzip
import pickle
from typing import Any

import pytest

from aioxide import http
from aioxide._native import are_plain_urls


def requested(client: http.Client | http.AsyncClient) -> list[str]:
    """The names of the client's own methods, as they are called."""
    called: list[str] = []
    for name in ("request", "send", "build_request"):
        method = getattr(client, name)

        def wrapper(*args: Any, _name: str = name, _method: Any = method, **kwargs: Any) -> Any:
            called.append(_name)
            return _method(*args, **kwargs)

        setattr(client, name, wrapper)
    return called


def test_which_urls_are_plain() -> None:
    plain = ["http://a.test/b/c.d?e=/f&g", "https://127.0.0.1:8443", "http://a/b?c=d..e"]
    assert are_plain_urls(plain)
    for other in (
        "http://a.test/%20",
        "http://A/",
        "http://a:80/",
        "http://u@a/",
        "http://a/../b",
        "/b",
        http.URL("http://a"),
    ):
        assert not are_plain_urls([*plain, other])
    for url in plain:
        assert str(http.URL(url)) == url


def test_the_request_is_made_when_it_is_asked_for(url: str) -> None:
    with http.Client(headers={"X-A": "1"}, timeout=http.Timeout(3.0, total=9.0)) as client:
        response = client.get(f"{url}/echo")
        assert response._request is None
        client.headers["X-A"] = "2"
        client.timeout = http.Timeout(1.0)
        request = response.request
        assert request is response.request
        assert (request.method, str(request.url), request.content) == ("GET", f"{url}/echo", b"")
        assert request.headers["x-a"] == "1" and request.headers["host"] == http.URL(url).netloc.decode()
        assert request.extensions["timeout"] == {"connect": 3.0, "read": 3.0, "write": 3.0, "pool": 3.0, "total": 9.0}
        # What was sent is what it says.
        assert dict(response.json()["headers"]) == dict(request.headers)
        assert [name for name, _ in response.json()["headers"]] == list(request.headers)
        # Settings that have changed since hold for the next.
        later = client.get(f"{url}/echo")
        assert ["x-a", "2"] in later.json()["headers"]
        assert later.request.extensions["timeout"]["read"] == 1.0
        client.timeout.read = 2.0
        assert client.get(f"{url}/echo").request.extensions["timeout"]["read"] == 2.0


def test_what_a_response_says_without_its_request(url: str) -> None:
    with http.Client() as client:
        response = client.get(f"{url}/bytes/10")
        assert (response.status_code, response.content, response.num_bytes_downloaded) == (200, b"x" * 10, 10)
        assert response.is_closed and response.is_stream_consumed and response.history == []
        assert response.history is response.history
        assert response.elapsed.total_seconds() > 0
        assert response.raise_for_status() is response
        assert response.url == f"{url}/bytes/10" and list(response.iter_bytes(4)) == [b"xxxx", b"xxxx", b"xx"]
        assert dict(response.cookies) == {}
        copy = pickle.loads(pickle.dumps(client.get(f"{url}/bytes/10")))
        assert (copy.url, copy.content, copy.num_bytes_downloaded) == (f"{url}/bytes/10", b"x" * 10, 10)
        assert copy.elapsed.total_seconds() > 0
        with pytest.raises(http.HTTPStatusError, match="404") as caught:
            client.get(f"{url}/status/404").raise_for_status()
        assert str(caught.value.request.url) == f"{url}/status/404"


def test_what_is_notable_takes_the_usual_way(scripted: Any) -> None:
    scripted.answer("/cookie", "Set-Cookie: a=b")
    scripted.answer("/gzip", "Content-Encoding: gzip", body=gzip.compress(b"abc"))
    scripted.answer("/broken", "Content-Encoding: gzip", body=b"abc")
    scripted.answer("/moved", "Location: /there", status="301 Moved Permanently")
    with http.Client() as client:
        assert client.get(f"{scripted.url}/gzip").content == b"abc"
        with pytest.raises(http.DecodingError) as caught:
            client.get(f"{scripted.url}/broken")
        assert caught.value.request.url == f"{scripted.url}/broken"
        moved = client.get(f"{scripted.url}/moved")
        assert moved.next_request is not None and moved.next_request.url == f"{scripted.url}/there"
        client.get(f"{scripted.url}/cookie")
        assert dict(client.cookies) == {"a": "b"}
        # From now on there is something to decide about each request.
        assert client.get(f"{scripted.url}/gzip").request.headers["cookie"] == "a=b"
    scripted.answer("/", body=b"caf\xe9")
    with http.Client(default_encoding="latin-1") as client:
        assert client.get(scripted.url).text == "café"


def test_errors_know_their_request(runner: asyncio.Runner, url: str, refused_url: str) -> None:
    async def main() -> None:
        async with http.AsyncClient() as client:
            for get, expected in ((f"{url}/close", http.RemoteProtocolError), (refused_url, http.ConnectError)):
                with pytest.raises(expected) as caught:
                    await client.get(get)
                assert caught.value.request.url == get
        with pytest.raises(RuntimeError, match="closed"):
            await client.get(url)

    runner.run(main())
    with http.Client() as client, pytest.raises(http.ConnectError) as caught:
        client.get(refused_url)
    assert caught.value.request.url == refused_url


def test_a_cancelled_one_is_dropped(runner: asyncio.Runner, url: str) -> None:
    async def main() -> None:
        async with http.AsyncClient() as client:
            tasks = [asyncio.ensure_future(client.get(f"{url}/delay/5000")) for _ in range(3)]
            await asyncio.sleep(0.1)
            assert client.statistics()["requests_in_flight"] == 3
            for task in tasks:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
            assert all(isinstance(each, asyncio.CancelledError) for each in results)
            await asyncio.sleep(0.05)
            assert client.statistics()["requests_in_flight"] == client.statistics()["connections_open"] == 0
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(client.get(f"{url}/delay/5000"), 0.05)
            coroutine = client.get(f"{url}/delay/5000")
            coroutine.send(None)
            coroutine.close()
            await asyncio.sleep(0.05)
            assert client.statistics()["requests_in_flight"] == 0

    runner.run(main())


def test_replaced_methods_are_called(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Counting(http.Client):
        sent = 0

        def send(self, *args: Any, **kwargs: Any) -> http.Response:
            self.sent += 1
            return super().send(*args, **kwargs)

    with Counting() as client:
        assert client.get(f"{url}/ok").status_code == 200
        assert client.sent == 1
    with http.Client() as client:
        called = requested(client)
        client.get(f"{url}/ok")
        assert called == ["request", "build_request", "send"]
    monkeypatch.setattr(http.Client, "send", lambda *_args, **_kwargs: http.Response(418))
    with http.Client() as client:
        assert client.get(f"{url}/ok").status_code == 418


def test_a_base_url_and_headers_that_cannot_be_sent(url: str) -> None:
    with http.Client(base_url=f"{url}/status") as client:
        response = client.get("/201")
        assert (response.status_code, response.url) == (201, f"{url}/status/201")
        assert client.get(f"{url}/ok").url == f"{url}/ok"
    with http.Client(headers=[(b"X-A", b"a\r\nX-B: c")]) as client:
        with pytest.raises(http.LocalProtocolError) as caught:
            client.get(f"{url}/ok")
        assert caught.value.request.url == f"{url}/ok"


def test_gathered(runner: asyncio.Runner, url: str, scripted: Any) -> None:
    scripted.answer("/cookie", "Set-Cookie: a=b")
    scripted.answer("/broken", "Content-Encoding: gzip", body=b"abc")

    async def main() -> None:
        async with http.AsyncClient() as client:
            assert await client.gather_get([]) == []
            assert [each async for each in client.gather_get([])] == []
            done = [each async for each in client.gather_get([f"{url}/bytes/{n}" for n in range(20)], limit=3)]
            assert sorted(each.index for each in done) == list(range(20))
            for each in done:
                assert each.error is None and each.url == f"{url}/bytes/{each.index}" == each.result().request.url
                assert each.response is each.result() and len(each.result().content) == each.index
            assert repr(done[0]) == f"<Completed {done[0].index} {done[0].url!r}: <Response [200 OK]>>"
            urls = [f"{scripted.url}/broken", f"{url}/ok"]
            broken, fine = await client.gather_get(urls, limit=1, return_exceptions=True)
            assert isinstance(broken, http.DecodingError) and broken.request.url == urls[0]
            assert isinstance(fine, http.Response) and fine.text == "/ok"
            # A cookie is kept, whether anybody looks at the response or not.
            async for _ in client.gather_get([f"{scripted.url}/cookie"]):
                pass
            assert dict(client.cookies) == {"a": "b"}
            with pytest.raises(RuntimeError, match="once"):
                requests = client.gather_get([url])
                assert [each async for each in requests]
                await requests

    runner.run(main())
