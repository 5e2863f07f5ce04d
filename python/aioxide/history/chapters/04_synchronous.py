"""Synchronous: Tornado's blocking client.

The call blocks its thread until the answer is there, as in the first chapter: this is where the way from
callbacks to `await` begins.
"""

from aioxide.history import example
from aioxide.httpclient import HTTPClient


def synchronous_fetch(url: str) -> bytes:
    http_client = HTTPClient()
    try:
        response = http_client.fetch(url, raise_error=False)
        return response.body
    finally:
        http_client.close()


def job(n: int, url: str) -> None:
    print(f"--- request {n} sent")
    synchronous_fetch(url)
    print(f"--- response {n} received")


def main(urls: list[str]) -> None:
    for n, url in enumerate(urls, start=1):
        job(n, url)


if __name__ == "__main__":
    example.run(main)
