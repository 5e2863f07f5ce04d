"""Tornado gen: a generator that yields futures.

The runner takes each future that the generator yields, and resumes it with the result: the program reads from
top to bottom again. Values can be sent into generators since 2005, which made coroutines of them; they could
return none before Python 3.3, hence `raise gen.Return`.
"""

from collections.abc import Generator
from typing import Any

import aioxide
from aioxide import gen
from aioxide.history import example
from aioxide.httpclient import AsyncHTTPClient


@gen.coroutine
def asynchronous_fetch_gen(url: str) -> Generator[Any, Any, None]:
    http_client = AsyncHTTPClient()
    response = yield http_client.fetch(url, raise_error=False)
    raise gen.Return(response.body)


@gen.coroutine
def job(n: int, url: str) -> Generator[Any, Any, None]:
    print(f"--- request {n} sent")
    yield asynchronous_fetch_gen(url)
    print(f"--- response {n} received")


async def amain(urls: list[str]) -> None:
    AsyncHTTPClient(max_clients=len(urls))
    jobs = [job(n, url) for n, url in enumerate(urls, start=1)]
    await gen.multi(jobs, quiet_exceptions=Exception)  # the first failure is raised; further ones are not logged


def main(urls: list[str]) -> None:
    aioxide.run(amain(urls))


if __name__ == "__main__":
    example.run(main)
