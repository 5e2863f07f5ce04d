"""How each HTTP client makes the requests of a client row: always the way its own documentation shows."""

from __future__ import annotations

import asyncio
import importlib
import io
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from bench.contenders import CLIENTS, loop_factory


class Client(Protocol):
    """A client that is ready for requests."""

    def get(self, url: str, requests: int, at_once: int, bytes_each: int) -> None:
        """Make so many requests, so many at once, and check each answer's status and length."""

    def close(self) -> None:
        """Close its connections."""


def check(status: int, length: int, bytes_each: int) -> None:
    if status != 200 or length != bytes_each:
        raise RuntimeError(f"answered {status} with {length} bytes instead of 200 with {bytes_each}")


async def share_out(requests: int, at_once: int, get: Callable[[], Awaitable[None]]) -> None:
    """Make the requests in tasks that share them, as a service's handlers do."""
    left = requests

    async def worker() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            await get()

    await asyncio.gather(*[worker() for _ in range(at_once)])


class OnLoop:
    """What the clients on an event loop have in common: a runner that keeps loop and client between rounds."""

    def __init__(self, loop: str) -> None:
        self.runner = asyncio.Runner(loop_factory=loop_factory(loop))
        self.client: Any = self.runner.run(self.open())

    async def open(self) -> object:
        """Make the client."""
        raise NotImplementedError

    async def fetch(self, url: str, requests: int, at_once: int, bytes_each: int) -> None:
        """Make the requests."""
        raise NotImplementedError

    async def shut(self) -> None:
        """Close the client."""
        raise NotImplementedError

    def get(self, url: str, requests: int, at_once: int, bytes_each: int) -> None:
        """See Client."""
        self.runner.run(self.fetch(url, requests, at_once, bytes_each))

    def close(self) -> None:
        """See Client."""
        self.runner.run(self.shut())
        self.runner.close()


class Httpx(OnLoop):
    """httpx.AsyncClient, or aioxide's, which has the same surface."""

    module = "httpx"

    async def open(self) -> object:
        """See OnLoop."""
        httpx = importlib.import_module(self.module)
        limits = httpx.Limits(max_connections=100, max_keepalive_connections=100)
        return httpx.AsyncClient(limits=limits, timeout=30.0)

    async def fetch(self, url: str, requests: int, at_once: int, bytes_each: int) -> None:
        """See OnLoop."""

        async def get() -> None:
            response = await self.client.get(url)
            check(response.status_code, len(response.content), bytes_each)

        await share_out(requests, at_once, get)

    async def shut(self) -> None:
        """See OnLoop."""
        await self.client.aclose()


class Aioxide(Httpx):
    """aioxide.http.AsyncClient, a Python task for each request under way."""

    module = "aioxide.http"


class AioxideGather(Aioxide):
    """aioxide.http's gather_get: the same client, with requests driven in Rust and answers taken as they complete."""

    async def fetch(self, url: str, requests: int, at_once: int, bytes_each: int) -> None:
        """See OnLoop."""
        async with self.client.gather_get([url] * requests, limit=at_once) as answers:
            async for done in answers:
                response = done.result()
                check(response.status_code, len(response.content), bytes_each)


class Aiohttp(OnLoop):
    """aiohttp.ClientSession."""

    async def open(self) -> object:
        """See OnLoop."""
        aiohttp = importlib.import_module("aiohttp")
        return aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=100))

    async def fetch(self, url: str, requests: int, at_once: int, bytes_each: int) -> None:
        """See OnLoop."""

        async def get() -> None:
            async with self.client.get(url) as response:
                check(response.status, len(await response.read()), bytes_each)

        await share_out(requests, at_once, get)

    async def shut(self) -> None:
        """See OnLoop."""
        await self.client.close()


class Pycurl:
    """libcurl's multi interface, turned by its own wait."""

    def __init__(self) -> None:
        self.pycurl: Any = importlib.import_module("pycurl")
        self.multi = self.pycurl.CurlMulti()
        self.handles: list[Any] = []

    def get(self, url: str, requests: int, at_once: int, bytes_each: int) -> None:
        """See Client."""
        curl = self.pycurl
        while len(self.handles) < at_once:
            self.handles.append(curl.Curl())
        to_start = requests
        for handle in self.handles[:at_once]:
            if to_start > 0:
                to_start -= 1
                self.start(handle, url)
        done = 0
        while done < requests:
            while self.multi.perform()[0] == curl.E_CALL_MULTI_PERFORM:
                pass
            _, finished, failed = self.multi.info_read(at_once)
            if failed:
                raise RuntimeError(f"pycurl: {failed[0][2]}")
            for handle in finished:
                self.multi.remove_handle(handle)
                check(handle.getinfo(curl.RESPONSE_CODE), len(handle.body.getvalue()), bytes_each)
                done += 1
                if to_start > 0:
                    to_start -= 1
                    self.start(handle, url)
            if not finished:
                self.multi.select(1.0)

    def start(self, handle: Any, url: str) -> None:
        """Begin a request on a handle that has none."""
        handle.body = io.BytesIO()
        handle.setopt(self.pycurl.URL, url)
        handle.setopt(self.pycurl.WRITEDATA, handle.body)
        self.multi.add_handle(handle)

    def close(self) -> None:
        """See Client."""
        for handle in self.handles:
            handle.close()
        self.multi.close()


def make(name: str) -> Client:
    """The client of that name, ready for requests."""
    loop = CLIENTS[name][1]
    if loop is None:
        return Pycurl()
    classes = {"aioxide": Aioxide, "aioxide-rust": AioxideGather, "httpx": Httpx}
    return classes.get(name, Aiohttp)(loop)
