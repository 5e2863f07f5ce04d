"""Every style of the history with the same client, on one loop: each calls and is called by the others."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from typing import Any

import pytest

import aioxide
from aioxide import concurrent, gen, http, httpclient
from aioxide.httpclient import AsyncHTTPClient, HTTPClient, HTTPResponse

Result = asyncio.Future[bytes]


def fetch_blocking(url: str) -> bytes:
    return HTTPClient().fetch(url).body


def fetch_with_callback(url: str, callback: Callable[[HTTPResponse], None]) -> None:
    AsyncHTTPClient().fetch(url, callback=callback)


def fetch_future(url: str) -> Result:
    result: Result = concurrent.Future()

    def on_fetch(fetched: asyncio.Future[HTTPResponse]) -> None:
        try:
            result.set_result(fetched.result().body)
        except Exception as error:
            result.set_exception(error)

    AsyncHTTPClient().fetch(url).add_done_callback(on_fetch)
    return result


@gen.coroutine
def fetch_gen(url: str) -> Generator[Any, Any, bytes]:
    response = yield AsyncHTTPClient().fetch(url)
    raise gen.Return(response.body)


@aioxide.coroutine
def fetch_yield_from(url: str) -> Generator[Any, Any, bytes]:
    response = yield from AsyncHTTPClient().fetch(url)
    return response.body


async def fetch_async(url: str) -> bytes:
    return (await AsyncHTTPClient().fetch(url)).body


async def fetch_like_httpx(url: str) -> bytes:
    async with http.AsyncClient() as client:
        return (await client.get(url)).raise_for_status().content


async def fetch_gathered(url: str) -> bytes:
    (response,) = await http.gather_get([url])
    return response.raise_for_status().content


async def fetch_in_thread(url: str) -> bytes:
    return await asyncio.to_thread(lambda: http.get(url).raise_for_status().content)


def fetch_called_back(url: str) -> Result:
    result: Result = asyncio.get_running_loop().create_future()

    def on_response(response: HTTPResponse) -> None:
        if response.error is None:
            result.set_result(response.body)
        else:
            result.set_exception(response.error)

    fetch_with_callback(url, on_response)
    return result


STYLES: list[Callable[[str], Any]] = [
    fetch_called_back,
    fetch_future,
    fetch_gen,
    fetch_yield_from,
    fetch_async,
    fetch_like_httpx,
    fetch_gathered,
    fetch_in_thread,
]


def by_await(style: Callable[[str], Any], url: str) -> Any:
    async def main() -> bytes:
        result: bytes = await style(url)
        return result

    return main()


def by_gen(style: Callable[[str], Any], url: str) -> Any:
    @gen.coroutine
    def main() -> Generator[Any, Any, bytes]:
        result: bytes = yield style(url)
        return result

    return main()


def by_yield_from(style: Callable[[str], Any], url: str) -> Any:
    @aioxide.coroutine
    def main() -> Generator[Any, Any, bytes]:
        result: bytes = yield from style(url)
        return result

    return main()


CALLERS = [by_await, by_gen, by_yield_from]


async def finished(made: Any) -> Any:
    return await made


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("caller", CALLERS)
def test_each_pair(
    runner: asyncio.Runner, url: str, refused_url: str, caller: Callable[..., Any], style: Callable[[str], Any]
) -> None:
    async def main() -> None:
        assert await finished(caller(style, f"{url}/x")) == b"/x"
        with pytest.raises(http.ConnectError) as refused:
            await finished(caller(style, refused_url))
        assert refused.value.request.url == refused_url
        with pytest.raises((http.HTTPStatusError, httpclient.HTTPClientError), match="404"):
            await finished(caller(style, f"{url}/status/404"))

    runner.run(main())


@pytest.mark.parametrize("style", [each for each in STYLES if each is not fetch_in_thread])
@pytest.mark.parametrize("caller", CALLERS)
def test_timeouts_and_cancellation_cross(
    runner: asyncio.Runner, url: str, caller: Callable[..., Any], style: Callable[[str], Any]
) -> None:
    async def main() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await finished(caller(style, f"{url}/delay/2000"))
        task = asyncio.ensure_future(finished(caller(style, f"{url}/delay/2000")))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        # The styles that only pass a result on (a future of one's own, a callback) leave their fetch running.
        AsyncHTTPClient().close()

    runner.run(main())


def test_all_at_once(runner: asyncio.Runner, url: str) -> None:
    async def main() -> None:
        paths = [f"{url}/{n}" for n in range(len(STYLES))]
        results = await asyncio.gather(*(style(path) for style, path in zip(STYLES, paths, strict=True)))
        assert results == [f"/{n}".encode() for n in range(len(STYLES))]
        assert await gen.multi([style(path) for style, path in zip(STYLES, paths, strict=True)]) == results
        assert fetch_blocking(f"{url}/blocking") == b"/blocking"

    runner.run(main())
