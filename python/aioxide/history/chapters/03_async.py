"""Async: one thread, one loop, and switching under our control.

Every `await` gives the thread back to the loop, which runs whatever is ready; nothing else can
interrupt a task.
"""

import asyncio

import aioxide
from aioxide import http
from aioxide.history import example


async def ajob(client: http.AsyncClient, n: int, url: str) -> None:
    print(f"--- request {n} sent")
    await client.get(url)
    print(f"--- response {n} received")


async def amain(urls: list[str]) -> None:
    # A client keeps to 100 connections unless told otherwise, as httpx does; here every request gets its own.
    async with http.AsyncClient(limits=http.Limits(max_connections=None)) as client:
        await asyncio.gather(*(ajob(client, n, url) for n, url in enumerate(urls, start=1)))


def main(urls: list[str]) -> None:
    aioxide.run(amain(urls))


if __name__ == "__main__":
    example.run(main)
