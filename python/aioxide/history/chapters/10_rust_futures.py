"""Rust futures: the next line of the history.

All requests are one Rust future on the same loop and thread. Python hands over the URLs and takes the responses
as they complete; there is no task and no coroutine for each of them.
"""

import aioxide
from aioxide import http
from aioxide.history import example


async def amain(urls: list[str]) -> None:
    for n in range(1, len(urls) + 1):
        print(f"--- request {n} sent")
    limits = http.Limits(max_connections=None)
    async with http.gather_get(urls, limit=len(urls), limits=limits) as responses:
        async for done in responses:
            done.result()  # raises what went wrong
            print(f"--- response {done.index + 1} received")


def main(urls: list[str]) -> None:
    aioxide.run(amain(urls))


if __name__ == "__main__":
    example.run(main)
