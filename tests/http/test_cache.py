"""The cache: what it answers, what it asks, what it forgets. The rules one by one are tested in
the engine (tests/http_cache.rs).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from email.utils import formatdate
from typing import Any

import pytest
from tests.http.origins import Origin, fresh

import aioxide
from aioxide import http
from aioxide._native import HttpServer


class Asker:
    """A client of either kind with a cache, an origin, and a clock that stands until it is moved."""

    def __init__(self, loop_factory: Any) -> None:
        self._runner = None if loop_factory is None else asyncio.Runner(loop_factory=loop_factory)
        self.clock = 1_000_000_000.0
        self.cache = http.Cache()
        self.cache.now = lambda: self.clock
        self.origin = Origin(lambda request: http.Response(404))
        self.client = self.client_with(self.cache)

    def client_with(self, cache: http.Cache) -> Any:
        return (http.Client if self._runner is None else http.AsyncClient)(cache=cache, transport=self.origin)

    def answers(self, *fields: str, text: str = "body", status: int = 200) -> None:
        """The origin answers so from now on."""
        headers = [("Date", formatdate(self.clock, usegmt=True))]
        headers += [(name, value) for name, _, value in (field.partition(": ") for field in fields)]
        self.origin.answer = lambda request: http.Response(status, headers=headers, text=text)

    def do(self, result: Any) -> Any:
        return result if self._runner is None else self._runner.run(result)

    def ask(self, url: str = "http://h/", method: str = "GET", **options: Any) -> tuple[str, str]:
        """What came, and what the cache says of it."""
        response = self.response(url, method, **options)
        return response.text, response.extensions["cache"]

    def response(self, url: str = "http://h/", method: str = "GET", **options: Any) -> http.Response:
        response: http.Response = self.do(self.client.request(method, url, **options))
        return response

    def close(self) -> None:
        self.do(self.client.close() if self._runner is None else self.client.aclose())
        if self._runner is not None:
            self._runner.close()


@pytest.fixture(params=[None, asyncio.new_event_loop, aioxide.new_event_loop], ids=["blocking", "asyncio", "aioxide"])
def asker(request: pytest.FixtureRequest) -> Iterator[Asker]:
    made = Asker(request.param)
    yield made
    made.close()


def test_a_fresh_response_is_given_again_with_its_age(asker: Asker) -> None:
    asker.answers("Cache-Control: max-age=60", "X-Twice: 1", "X-Twice: 2", text="first")
    assert asker.ask() == ("first", "miss")
    asker.answers("Cache-Control: max-age=60", text="second")
    asker.clock += 59
    response = asker.response("http://h/#fragment")
    assert (response.text, response.extensions["cache"], response.headers["age"]) == ("first", "hit", "59")
    assert response.headers.get_list("x-twice") == ["1", "2"]
    assert response.url == "http://h/#fragment" and response.elapsed.total_seconds() >= 0
    asker.clock += 1
    assert asker.ask() == ("second", "miss")
    assert asker.origin.sent() == 2
    assert asker.cache.statistics()["hit"] == 1 and asker.cache.statistics()["miss"] == 2


def test_the_server_is_asked_whether_it_still_holds(asker: Asker) -> None:
    asker.answers("Cache-Control: max-age=10", 'ETag: "v1"', "Last-Modified: x", "X-Kept: 1", text="body")
    asker.ask()
    asker.clock += 11
    asker.answers("Cache-Control: max-age=20", 'ETag: "v1"', "X-New: 2", status=304, text="")
    asker.origin.sent()
    response = asker.response()
    assert (response.status_code, response.text, response.extensions["cache"]) == (200, "body", "revalidated")
    assert (response.headers["x-kept"], response.headers["x-new"]) == ("1", "2")
    conditional = asker.origin.requests[0].headers
    assert (conditional["if-none-match"], conditional["if-modified-since"]) == ('"v1"', "x")
    assert "if-none-match" not in response.request.headers
    asker.clock += 19
    assert asker.ask() == ("body", "hit")
    asker.clock += 1
    asker.answers("Cache-Control: max-age=10", 'ETag: "v2"', text="changed")
    assert asker.ask() == ("changed", "miss") and asker.ask() == ("changed", "hit")


def test_a_304_for_something_else_is_not_believed(asker: Asker) -> None:
    asker.answers("Cache-Control: max-age=0", 'ETag: "v1"')
    asker.ask()
    asker.origin.answer = lambda request: (
        http.Response(304, headers={"ETag": '"v2"'})
        if "if-none-match" in request.headers
        else http.Response(200, text="whole")
    )
    assert asker.ask() == ("whole", "miss")
    assert asker.origin.sent() == 3


def test_variants_are_kept_apart(asker: Asker) -> None:
    asker.origin.answer = lambda request: http.Response(
        200,
        headers={"Cache-Control": "max-age=60", "Vary": "Accept-Language, X-A"},
        text=request.headers.get("accept-language", "-"),
    )
    for language in ("de", "fr"):
        assert asker.ask(headers={"Accept-Language": language}) == (language, "miss")
    assert asker.ask(headers={"Accept-Language": "de"}) == ("de", "hit")
    assert asker.ask(headers={"Accept-Language": "de", "X-A": "1"}) == ("de", "miss")
    assert asker.ask() == ("-", "miss")
    asker.answers("Cache-Control: max-age=60", "Vary: *")
    assert asker.ask("http://h/all")[1] == asker.ask("http://h/all")[1] == "miss"


def test_one_users_response_is_not_anothers(asker: Asker) -> None:
    asker.origin.answer = lambda request: http.Response(
        200, headers={"Cache-Control": "private, max-age=60"}, text=request.headers.get("authorization", "-")
    )
    for user in ("a", "b"):
        assert asker.ask(headers={"Authorization": user}) == (user, "miss")
    assert asker.ask(headers={"Authorization": "a"}) == ("a", "hit")
    assert asker.ask() == ("-", "miss")
    shared = asker.client_with(http.Cache(shared=True))
    for _ in range(2):
        assert asker.do(shared.get("http://h/")).extensions["cache"] == "miss"


def test_what_is_not_to_be_stored_is_not(asker: Asker) -> None:
    for fields, options in [
        (["Cache-Control: no-store, max-age=60"], {}),
        (["Cache-Control: max-age=60"], {"headers": {"Cache-Control": "no-store"}}),
        (["Cache-Control: max-age=60"], {"headers": {"Range": "bytes=0-1"}}),
        (["Cache-Control: max-age=60"], {"headers": {"If-None-Match": '"a"'}}),
        (["Cache-Control: max-age=60"], {"method": "GET", "content": b"body"}),
    ]:
        asker.answers(*fields)
        for _ in range(2):
            assert asker.ask(**options)[1] in ("miss", "bypass")
        assert asker.origin.sent() == 2, (fields, options)
    assert len(asker.cache.store) == 0  # type: ignore[arg-type]
    asker.answers("Cache-Control: max-age=60", status=206)
    assert asker.ask()[1] == asker.ask()[1] == "miss"


def test_what_changes_a_url_has_it_forgotten(asker: Asker) -> None:
    def remembered() -> list[str]:
        urls = ["http://h/a", "http://h/b", "http://other/c"]
        return [url for url in urls if asker.ask(url, headers={"Cache-Control": "only-if-cached"})[1] == "hit"]

    for method in ("POST", "PUT", "DELETE", "PATCH", "PURGE"):
        asker.answers("Cache-Control: max-age=60")
        for url in ("http://h/a", "http://h/b", "http://other/c"):
            asker.ask(url)
        asker.answers("Location: /b", "Content-Location: http://other/c", status=500)
        asker.ask("http://h/a", method)
        assert len(remembered()) == 3
        asker.answers("Location: /b", "Content-Location: http://other/c", status=201)
        assert asker.ask("http://h/a", method)[1] == "bypass"
        assert remembered() == ["http://other/c"], method


def test_a_head_is_answered_from_what_a_get_brought(asker: Asker) -> None:
    asker.answers("Cache-Control: max-age=60")
    assert asker.ask(method="HEAD") == ("body", "bypass")  # nothing is stored for it
    asker.ask()
    response = asker.response(method="HEAD")
    assert (response.text, response.headers["content-length"], response.extensions["cache"]) == ("", "4", "hit")


def test_only_what_is_cached(asker: Asker) -> None:
    assert asker.response(headers={"Cache-Control": "only-if-cached"}).status_code == 504
    assert asker.origin.sent() == 0


def test_cookies_are_set_once(asker: Asker) -> None:
    asker.answers("Cache-Control: max-age=60", "Set-Cookie: a=1")
    asker.ask()
    assert asker.client.cookies["a"] == "1"
    asker.client.cookies.set("a", "newer", domain="h")
    asker.ask()
    assert asker.client.cookies["a"] == "newer"
    asker.clock += 61
    asker.client.cookies.clear()
    asker.answers("Cache-Control: max-age=60", 'ETag: "a"')
    asker.ask()
    asker.clock += 61
    asker.answers("Set-Cookie: b=2", 'ETag: "a"', status=304, text="")
    assert asker.ask()[1] == "revalidated"
    assert dict(asker.client.cookies) == {"b": "2"}


def test_coded_bodies_are_stored_as_they_came(asker: Asker) -> None:
    import gzip

    packed = gzip.compress(b"text" * 1000)
    asker.origin.answer = lambda request: http.Response(
        200, headers={"Cache-Control": "max-age=60", "Content-Encoding": "gzip"}, stream=http.ByteStream(packed)
    )
    for outcome in ("miss", "hit"):
        response = asker.response()
        assert response.text == "text" * 1000 and response.extensions["cache"] == outcome
        assert response.num_bytes_downloaded == len(packed)


def test_redirects_are_cached_too(asker: Asker) -> None:
    asker.origin.answer = lambda request: (
        http.Response(301, headers={"Location": "/there", "Cache-Control": "max-age=60"})
        if request.url.path == "/"
        else http.Response(200, headers={"Cache-Control": "max-age=60"}, text="there")
    )
    for outcome in ("miss", "hit"):
        response = asker.response(follow_redirects=True)
        assert response.text == "there" and [each.extensions["cache"] for each in [*response.history, response]] == [
            outcome,
            outcome,
        ]


@pytest.mark.parametrize("failure", ["error", 500, 503])
def test_a_stale_response_stands_in_for_an_error(asker: Asker, failure: Any) -> None:
    def fail(request: http.Request) -> http.Response:
        if failure == "error":
            raise http.ConnectError("no way")
        return http.Response(failure)

    asker.answers("Cache-Control: max-age=10, stale-if-error=50")
    asker.ask()
    asker.origin.answer = fail
    asker.clock += 59
    assert asker.ask() == ("body", "stale")
    asker.clock += 1
    if failure == "error":
        with pytest.raises(http.ConnectError, match="no way") as caught:
            asker.ask()
        assert "if-none-match" not in caught.value.request.headers
    else:
        assert asker.response().status_code == failure


def test_max_stale(asker: Asker) -> None:
    asker.answers("Cache-Control: max-age=10")
    asker.ask()
    asker.clock += 20
    assert asker.ask(headers={"Cache-Control": "max-stale=30"}) == ("body", "stale")
    assert asker.ask(headers={"Cache-Control": "max-stale=5"})[1] == "miss"


def test_a_store_that_fails_costs_no_request(asker: Asker, caplog: pytest.LogCaptureFixture) -> None:
    class Broken(http.CacheStore):
        def get(self, key: str) -> list[http.CacheEntry]:
            raise OSError("no disk")

        put = delete = clear = get  # type: ignore[assignment]

    client = asker.client_with(http.Cache(Broken()))
    asker.answers("Cache-Control: max-age=60")
    assert asker.do(client.get("http://h/")).text == "body"
    assert "no disk" in caplog.text and "get" in caplog.text


def test_what_is_streamed_is_stored_once_it_was_read() -> None:
    pieces = [b"a" * 10, b"b" * 10]
    origin = Origin(lambda request: http.Response(200, headers={"Cache-Control": "max-age=60"}, content=iter(pieces)))
    with http.Client(cache=http.Cache(max_body_bytes=20), transport=origin) as client:
        with client.stream("GET", "http://h/") as response:
            next(response.iter_raw())  # not to its end
        with client.stream("GET", "http://h/") as response:
            assert response.read() == b"a" * 10 + b"b" * 10 and response.extensions["cache"] == "miss"
        with client.stream("GET", "http://h/") as response:
            assert b"".join(response.iter_raw()) == b"a" * 10 + b"b" * 10 and response.extensions["cache"] == "hit"
        pieces.append(b"c")
        for _ in range(2):  # too long to be stored
            with client.stream("GET", "http://h/long") as response:
                assert len(response.read()) == 21 and response.extensions["cache"] == "miss"
        assert client.get("http://h/long2").extensions["cache"] == client.get("http://h/long2").extensions["cache"]


def test_over_the_network(server: HttpServer) -> None:
    """The native core's own answers, whole and streamed, in both kinds of clients, with one cache between them."""
    cache = http.Cache()
    headers = {"Cache-Control": "max-stale=60"}  # the embedded server says nothing of freshness
    with http.Client(cache=cache, base_url=server.url, headers=headers) as client:
        first = client.get("/bytes/100000")
        assert first.extensions["cache"] == "miss" and "network_stream" in first.extensions
        assert client.get("/bytes/100000").content == first.content
        with client.stream("GET", "/bytes/1000") as response:
            streamed = response.read()
        assert client.get("/bytes/1000").content == streamed

    async def main() -> None:
        async with http.AsyncClient(cache=cache, base_url=server.url, headers=headers) as client:
            hit = await client.get("/bytes/100000")
            assert (hit.content, hit.extensions["cache"]) == (first.content, "stale")
            async with client.stream("GET", "/bytes/2000") as response:
                body = await response.aread()
            assert (await client.get("/bytes/2000")).content == body

    asyncio.run(main())
    assert cache.statistics()["stale"] == 4


def test_gathered_requests_are_cached() -> None:
    async def main() -> None:
        origin = Origin(fresh)
        async with http.AsyncClient(cache=True, transport=origin) as client:
            urls = ["http://h/a", "http://h/b"] * 10
            responses = await client.gather_get(urls)
            assert [str(each.url) for each in responses] == urls
            assert [each.extensions["cache"] for each in await client.gather_get(urls)] == ["hit"] * 20
            assert origin.sent() == 2

    asyncio.run(main())


def test_what_cache_means() -> None:
    assert http.Client()._cache is None and http.Client(cache=False)._cache is None
    assert isinstance(http.AsyncClient(cache=True)._cache, http.Cache)
    with pytest.raises(TypeError, match="cache= is a Cache"):
        http.Client(cache="yes")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="max_body_bytes"):
        http.Cache(max_body_bytes=-1)
    with http.Cache() as cache:
        assert "shared" not in repr(cache)
