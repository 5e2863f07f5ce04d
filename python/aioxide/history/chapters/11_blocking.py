"""No blocking code allowed: what one `time.sleep` does to all the others.

The same program as chapter 3, but the first job calls something that blocks. The loop has only this one
thread, so every other task stands still until the call returns.
"""

import asyncio
import time

import aioxide
from aioxide import http
from aioxide.history import example


async def ajob(client: http.AsyncClient, n: int, url: str) -> None:
    print(f"--- request {n} sent")
    if n == 1:
        time.sleep(0.4)  # `await asyncio.sleep(0.4)` would let the others run
    await client.get(url)
    print(f"--- response {n} received")


async def amain(urls: list[str]) -> None:
    async with http.AsyncClient(limits=http.Limits(max_connections=None)) as client:
        await asyncio.gather(*(ajob(client, n, url) for n, url in enumerate(urls, start=1)))


def main(urls: list[str]) -> None:
    aioxide.run(amain(urls))


if __name__ == "__main__":
    example.run(main)
