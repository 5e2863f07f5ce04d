"""Callbacks: the function returns at once, and what comes next is another function.

Nobody waits, so nothing is held up; but the program's order is torn apart, and errors go where callbacks go.
Twisted brought this to Python in 2002, and Tornado, open since 2009, began with it.
"""

import asyncio
from collections.abc import Callable

import aioxide
from aioxide.history import example
from aioxide.httpclient import AsyncHTTPClient, HTTPResponse


def asynchronous_fetch_callbacks(
    url: str, callback: Callable[[bytes], None], failed: Callable[[BaseException], None]
) -> None:
    http_client = AsyncHTTPClient()

    def handle_response(response: HTTPResponse) -> None:
        if response.code == 599 and response.error is not None:  # there was no response
            failed(response.error)
        else:
            callback(response.body)

    http_client.fetch(url, callback=handle_response, raise_error=False)


def main(urls: list[str]) -> None:
    unanswered = set(range(1, len(urls) + 1))
    errors: list[BaseException] = []

    def job(n: int, url: str) -> None:
        def handle_body(body: bytes) -> None:
            print(f"--- response {n} received")
            unanswered.remove(n)
            if not unanswered:
                loop.stop()

        print(f"--- request {n} sent")
        asynchronous_fetch_callbacks(url, handle_body, handle_error)

    def handle_error(error: BaseException) -> None:
        errors.append(error)
        loop.stop()

    def start() -> None:
        AsyncHTTPClient(max_clients=len(urls))
        for n, url in enumerate(urls, start=1):
            job(n, url)

    with asyncio.Runner(loop_factory=aioxide.new_event_loop) as runner:
        loop = runner.get_loop()
        loop.call_soon(start)
        loop.run_forever()
    if errors:
        raise errors[0]


if __name__ == "__main__":
    example.run(main)
