"""Future: the call returns a promise of the result.

The future can be passed on, waited for together with others, and asked for its result or its error; what
comes next is still a callback.
"""

import asyncio

import aioxide
from aioxide.concurrent import Future
from aioxide.history import example
from aioxide.httpclient import AsyncHTTPClient, HTTPResponse


def asynchronous_fetch_future(url: str) -> "Future[bytes]":
    http_client = AsyncHTTPClient()
    my_future: Future[bytes] = Future()
    fetch_future = http_client.fetch(url, raise_error=False)

    def on_fetch(f: "Future[HTTPResponse]") -> None:
        if f.cancelled() or my_future.cancelled():
            my_future.cancel()
        elif error := f.exception():
            my_future.set_exception(error)
        else:
            my_future.set_result(f.result().body)

    fetch_future.add_done_callback(on_fetch)
    return my_future


def job(n: int, url: str) -> "Future[bytes]":
    def on_body(f: "Future[bytes]") -> None:
        if not f.cancelled() and f.exception() is None:
            print(f"--- response {n} received")

    print(f"--- request {n} sent")
    future = asynchronous_fetch_future(url)
    future.add_done_callback(on_body)
    return future


async def amain(urls: list[str]) -> None:
    AsyncHTTPClient(max_clients=len(urls))
    await asyncio.gather(*(job(n, url) for n, url in enumerate(urls, start=1)))


def main(urls: list[str]) -> None:
    aioxide.run(amain(urls))


if __name__ == "__main__":
    example.run(main)
