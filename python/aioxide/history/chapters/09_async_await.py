"""Async/await: the language's own coroutines.

New in 2015, with Python 3.5. The same loop and the same client as in the chapters before; `await` says where
the task may be switched.
"""

import asyncio

import aioxide
from aioxide.history import example
from aioxide.httpclient import AsyncHTTPClient


async def asynchronous_fetch(url: str) -> bytes:
    http_client = AsyncHTTPClient()
    response = await http_client.fetch(url, raise_error=False)
    return response.body


async def job(n: int, url: str) -> None:
    print(f"--- request {n} sent")
    await asynchronous_fetch(url)
    print(f"--- response {n} received")


async def amain(urls: list[str]) -> None:
    AsyncHTTPClient(max_clients=len(urls))
    await asyncio.gather(*(job(n, url) for n, url in enumerate(urls, start=1)))


def main(urls: list[str]) -> None:
    aioxide.run(amain(urls))


if __name__ == "__main__":
    example.run(main)
