"""Yield from: one generator hands its caller over to another.

With `yield from` and `return` in generators, new in Python 3.3 of 2012, no runner stands between two coroutines.
asyncio, a part of Python since 3.4 of 2014, began so, with `@asyncio.coroutine`.
"""

import asyncio
from collections.abc import Generator
from typing import Any

import aioxide
from aioxide.history import example
from aioxide.httpclient import AsyncHTTPClient


@aioxide.coroutine
def asynchronous_fetch_gen(url: str) -> Generator[Any, Any, bytes]:
    http_client = AsyncHTTPClient()
    response = yield from http_client.fetch(url, raise_error=False)
    return response.body


@aioxide.coroutine
def job(n: int, url: str) -> Generator[Any, Any, None]:
    print(f"--- request {n} sent")
    yield from asynchronous_fetch_gen(url)
    print(f"--- response {n} received")


@aioxide.coroutine
def amain(urls: list[str]) -> Generator[Any, Any, None]:
    AsyncHTTPClient(max_clients=len(urls))
    yield from asyncio.gather(*(job(n, url) for n, url in enumerate(urls, start=1)))


def main(urls: list[str]) -> None:
    aioxide.run(amain(urls))


if __name__ == "__main__":
    example.run(main)
