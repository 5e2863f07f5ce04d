"""Threads: one execution context for each request.

The kernel switches between them whenever it likes, and the interpreter asks the running thread to
give way every `sys.getswitchinterval()` seconds. While a thread waits for its answer it holds no GIL,
so the waits overlap.
"""

from threading import Thread

from aioxide import http
from aioxide.history import example


def job(n: int, url: str) -> None:
    print(f"--- request {n} sent")
    http.get(url)
    print(f"--- response {n} received")


def main(urls: list[str]) -> None:
    threads = [Thread(target=job, args=(n, url)) for n, url in enumerate(urls, start=1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    example.run(main)
