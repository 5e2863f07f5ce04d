"""Sequential execution: one request after the other.

The thread waits for each answer before it asks for the next, so the waits add up.
"""

from aioxide import http
from aioxide.history import example


def job(n: int, url: str) -> None:
    print(f"--- request {n} sent")
    http.get(url)
    print(f"--- response {n} received")


def main(urls: list[str]) -> None:
    for n, url in enumerate(urls, start=1):
        job(n, url)


if __name__ == "__main__":
    example.run(main)
