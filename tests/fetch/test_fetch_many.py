"""`fetch_many`: every row once, in bounded memory, whatever goes wrong on the way."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from typing import Any, Literal

import pytest

import aioxide
from aioxide import http
from aioxide._native import HttpServer
from aioxide.fetch import FetchResult, Row, fetch_many

Style = Literal["native", "async"]
STYLES: tuple[Style, ...] = ("native", "async")
BOTH = pytest.mark.parametrize("style", STYLES)


@pytest.fixture
def server() -> Iterator[HttpServer]:
    with HttpServer() as server:
        yield server


async def collect(rows: Any, **kwargs: Any) -> list[FetchResult]:
    return [result async for result in fetch_many(rows, **kwargs)]


@BOTH
def test_every_row_has_one_result(server: HttpServer, style: Style) -> None:
    results = aioxide.run(collect((f"{server.url}/{n}" for n in range(5000)), style=style, concurrency=20))
    assert sorted(result.row.index for result in results) == list(range(5000))
    assert {result.status for result in results} == {200}
    assert all(result.row.url == f"{server.url}/{result.row.index}" for result in results)
    assert all(0 <= result.seconds < 60 for result in results)


@BOTH
def test_failures_are_results(server: HttpServer, style: Style) -> None:
    rows = [f"{server.url}/close", "nonsense://host/", "http://[", Row(9, f"{server.url}/status/500")]
    results = {result.row.index: result for result in aioxide.run(collect(rows, style=style))}
    assert results[9].status == 500
    assert isinstance(results[0].error, http.RemoteProtocolError)
    assert isinstance(results[1].error, http.UnsupportedProtocol)
    assert isinstance(results[2].error, http.InvalidURL)


@BOTH
def test_what_rows_raise_ends_the_run(server: HttpServer, style: Style) -> None:
    def rows() -> Iterator[str]:
        yield f"{server.url}/"
        raise LookupError("no more")

    with pytest.raises(LookupError, match="no more"):
        aioxide.run(collect(rows(), style=style, concurrency=3))


@BOTH
def test_redirects_and_tries_go_on(server: HttpServer, style: Style) -> None:
    async def main() -> None:
        async with http.AsyncClient(follow_redirects=True, retry=http.Retry(attempts=2, backoff=0.001)) as client:
            rows = [f"{server.url}/status/200", {"url": f"{server.url}/echo", "method": "POST", "body": "given"}]
            results = await collect([*rows, f"{server.url}/close"], style=style, client=client)
            by_row = {result.row.index: result for result in results}
            assert [by_row[0].status, by_row[1].row.method] == [200, "POST"]
            assert isinstance(by_row[2].error, http.RemoteProtocolError)
            # The client is the caller's: it goes on being open.
            assert (await client.get(server.url)).status_code == 200

    aioxide.run(main())


@BOTH
def test_the_clients_hooks_and_mounts_hold(server: HttpServer, style: Style) -> None:
    seen: list[str] = []

    async def see(response: http.Response) -> None:
        seen.append(response.url.path)

    async def main() -> None:
        mounts = {"http://mounted.test": http.MockTransport(lambda request: http.Response(204))}
        hooks = {"response": [see]}
        rows = [f"{server.url}/a", "http://mounted.test/b"]
        for client in (
            http.AsyncClient(event_hooks=hooks, mounts=mounts, follow_redirects=True, retry=http.Retry()),
            http.AsyncClient(mounts=mounts, follow_redirects=True, retry=http.Retry()),
        ):
            async with client:
                results = await collect(rows, style=style, client=client)
            assert sorted((result.row.index, result.status) for result in results) == [(0, 200), (1, 204)]
        assert sorted(seen) == ["/a", "/b"]

    aioxide.run(main())


@BOTH
def test_no_more_rows_are_taken_than_are_needed(server: HttpServer, style: Style) -> None:
    taken = 0

    async def endless() -> AsyncIterator[str]:
        nonlocal taken
        while True:
            taken += 1
            yield f"{server.url}/{taken}"

    async def main() -> None:
        async with aclosing(fetch_many(endless(), style=style, concurrency=4)) as results:
            async for _ in results:
                await asyncio.sleep(0.2)
                break
        assert len(asyncio.all_tasks()) == 1

    aioxide.run(main())
    # A block in Rust is taken at once.
    assert taken <= (2000 if style == "native" else 10)


@BOTH
def test_it_can_be_cancelled_at_any_time(server: HttpServer, style: Style) -> None:
    async def main(seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await collect((f"{server.url}/delay/{n % 5}" for n in range(100_000)), style=style)
        except TimeoutError:
            pass
        assert len(asyncio.all_tasks()) == 1

    for seconds in (0, 0.001, 0.01, 0.1):
        aioxide.run(main(seconds))


def test_the_rate_is_kept(server: HttpServer) -> None:
    begin = time.monotonic()
    assert len(aioxide.run(collect([f"{server.url}/"] * 11, rate=50))) == 11
    assert time.monotonic() - begin >= 10 / 50


def test_limits_are_checked() -> None:
    for wrong in ({"concurrency": 0}, {"rate": 0}):
        with pytest.raises(ValueError, match="must be"):
            aioxide.run(collect([], **wrong))


ROBOTS = """
User-agent: aioxide
Disallow: /private
Crawl-delay: 0.25
"""


def robots_client(asked: list[str], status: int = 200) -> http.AsyncClient:
    def answer(request: http.Request) -> http.Response:
        asked.append(request.url.path)
        if request.url.path == "/robots.txt":
            return http.Response(status, text=ROBOTS)
        return http.Response(200)

    return http.AsyncClient(transport=http.MockTransport(answer))


def test_robots_are_heeded_and_asked_once() -> None:
    asked: list[str] = []
    rows = ["http://host.test/a", "http://host.test/private/b", "http://host.test/c", "http://host.test/d"]
    begin = time.monotonic()
    results = aioxide.run(collect(rows, client=robots_client(asked), robots="aioxide"))
    assert time.monotonic() - begin >= 2 * 0.25
    assert sorted(asked) == ["/a", "/c", "/d", "/robots.txt"]
    refused = [result for result in results if result.error]
    assert [type(result.error).__name__ for result in refused] == ["RobotsDisallowedError"]
    assert refused[0].row.url.endswith("/private/b")


def test_a_url_that_is_none_is_a_failed_row_with_robots_too() -> None:
    rows = ["http://[", "http://host.test/a"]
    results = aioxide.run(collect(rows, client=robots_client([]), robots="aioxide"))
    assert {type(result.error).__name__ for result in results} == {"InvalidURL", "NoneType"}


@pytest.mark.parametrize(("status", "allowed"), [(404, True), (503, False)])
def test_a_host_without_robots_allows_all_and_a_failing_one_nothing(status: int, allowed: bool) -> None:
    results = aioxide.run(collect(["http://host.test/a"], client=robots_client([], status), robots="aioxide"))
    assert [result.error is None for result in results] == [allowed]
