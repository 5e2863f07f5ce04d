"""How each HTTP client makes the requests of a client row: always the way its own documentation shows.

All of them may have as many connections as the row has requests at once, and none checks the server's certificate,
which was made for the occasion.
"""

from __future__ import annotations

import asyncio
import importlib
import io
import warnings
from collections.abc import Awaitable, Callable
from time import perf_counter
from typing import Any, Protocol

from bench.contenders import CLIENTS, loop_factory

CONNECTIONS_MAX = 1000


class Client(Protocol):
    """A client that is ready for requests."""

    def get(self, url: str, requests: int, at_once: int, bytes_each: int) -> list[float]:
        """Make so many requests, so many at once, and check each answer's status and length.

        How many seconds each took, where the client lets us see that.
        """

    def close(self) -> None:
        """Close its connections."""


def check(status: int, length: int, bytes_each: int) -> None:
    if status != 200 or length != bytes_each:
        raise RuntimeError(f"answered {status} with {length} bytes instead of 200 with {bytes_each}")


async def share_out(requests: int, at_once: int, get: Callable[[], Awaitable[None]]) -> list[float]:
    """Make the requests in tasks that share them, as a service's handlers do."""
    left = requests
    seconds: list[float] = []

    async def worker() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            begin = perf_counter()
            await get()
            seconds.append(perf_counter() - begin)

    await asyncio.gather(*[worker() for _ in range(at_once)])
    return seconds


class OnLoop:
    """What the clients on an event loop have in common: a runner that keeps loop and client between rounds."""

    def __init__(self, loop: str) -> None:
        self.runner = asyncio.Runner(loop_factory=loop_factory(loop))
        self.client: Any = self.runner.run(self.open())

    async def open(self) -> object:
        """Make the client."""
        raise NotImplementedError

    async def fetch(self, url: str) -> tuple[int, int]:
        """Make one request: its status, and its body's length."""
        raise NotImplementedError

    async def shut(self) -> None:
        """Close the client."""
        await self.client.close()

    async def fetch_all(self, url: str, requests: int, at_once: int, bytes_each: int) -> list[float]:
        """Make the requests."""

        async def get() -> None:
            check(*await self.fetch(url), bytes_each)

        return await share_out(requests, at_once, get)

    def get(self, url: str, requests: int, at_once: int, bytes_each: int) -> list[float]:
        """See Client."""
        return self.runner.run(self.fetch_all(url, requests, at_once, bytes_each))

    def close(self) -> None:
        """See Client."""
        self.runner.run(self.shut())
        self.runner.close()


class Httpx(OnLoop):
    """httpx.AsyncClient, or one of the same surface."""

    module = "httpx"

    async def open(self) -> object:
        """See OnLoop."""
        httpx = importlib.import_module(self.module)
        limits = httpx.Limits(max_connections=CONNECTIONS_MAX, max_keepalive_connections=CONNECTIONS_MAX)
        return httpx.AsyncClient(limits=limits, timeout=30.0, verify=False)

    async def fetch(self, url: str) -> tuple[int, int]:
        """See OnLoop."""
        response = await self.client.get(url)
        return response.status_code, len(response.content)

    async def shut(self) -> None:
        """See OnLoop."""
        await self.client.aclose()


class Httpx2(Httpx):
    """httpx2.AsyncClient."""

    module = "httpx2"


class Aioxide(Httpx):
    """aioxide.http.AsyncClient, a Python task for each request under way."""

    module = "aioxide.http"


class AioxideGather(Aioxide):
    """aioxide.http's gather_get: the same client, with requests driven in Rust and answers taken as they complete."""

    async def fetch_all(self, url: str, requests: int, at_once: int, bytes_each: int) -> list[float]:
        """See OnLoop."""
        async with self.client.gather_get([url] * requests, limit=at_once) as answers:
            async for done in answers:
                response = done.result()
                check(response.status_code, len(response.content), bytes_each)
        return []


class Aiohttp(OnLoop):
    """aiohttp.ClientSession."""

    async def open(self) -> object:
        """See OnLoop."""
        aiohttp = importlib.import_module("aiohttp")
        return aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=CONNECTIONS_MAX, ssl=False))

    async def fetch(self, url: str) -> tuple[int, int]:
        """See OnLoop."""
        async with self.client.get(url) as response:
            return response.status, len(await response.read())


class Pyreqwest(OnLoop):
    """pyreqwest's Client."""

    async def open(self) -> object:
        """See OnLoop."""
        builder = importlib.import_module("pyreqwest.client").ClientBuilder()
        return builder.max_connections(CONNECTIONS_MAX).danger_accept_invalid_certs(True).build()

    async def fetch(self, url: str) -> tuple[int, int]:
        """See OnLoop."""
        response = await self.client.get(url).build().send()
        return response.status, len(await response.bytes())


class Wreq(OnLoop):
    """wreq.Client."""

    async def open(self) -> object:
        """See OnLoop."""
        return importlib.import_module("wreq").Client(tls_verify=False)

    async def fetch(self, url: str) -> tuple[int, int]:
        """See OnLoop."""
        response = await self.client.get(url)
        return response.status.as_int(), len(await response.bytes())

    async def shut(self) -> None:
        """See OnLoop."""
        self.client.close()


class Niquests(OnLoop):
    """niquests.AsyncSession."""

    async def open(self) -> object:
        """See OnLoop."""
        niquests = importlib.import_module("niquests")
        return niquests.AsyncSession(pool_connections=10, pool_maxsize=CONNECTIONS_MAX)

    async def fetch(self, url: str) -> tuple[int, int]:
        """See OnLoop."""
        response = await self.client.get(url, verify=False)
        return response.status_code, len(response.content)


class Tornado(OnLoop):
    """Tornado's AsyncHTTPClient, the simple one or that of libcurl."""

    implementation = "tornado.simple_httpclient.SimpleAsyncHTTPClient"

    async def open(self) -> object:
        """See OnLoop."""
        client = importlib.import_module("tornado.httpclient").AsyncHTTPClient
        client.configure(self.implementation, max_clients=CONNECTIONS_MAX)
        return client()

    async def fetch(self, url: str) -> tuple[int, int]:
        """See OnLoop."""
        response = await self.client.fetch(url, validate_cert=False)
        return response.code, len(response.body)

    async def shut(self) -> None:
        """See OnLoop."""
        self.client.close()


class TornadoCurl(Tornado):
    """See Tornado."""

    implementation = "tornado.curl_httpclient.CurlAsyncHTTPClient"


class Pycurl:
    """libcurl's multi interface, turned by its own wait."""

    def __init__(self) -> None:
        self.pycurl: Any = importlib.import_module("pycurl")
        self.multi = self.pycurl.CurlMulti()
        # As many idle connections are kept as are made: libcurl's own default depends on how many handles there are.
        self.multi.setopt(self.pycurl.M_MAXCONNECTS, CONNECTIONS_MAX)
        self.handles: list[Any] = []

    def get(self, url: str, requests: int, at_once: int, bytes_each: int) -> list[float]:
        """See Client."""
        curl = self.pycurl
        while len(self.handles) < at_once:
            self.handles.append(curl.Curl())
        to_start = requests
        for handle in self.handles[:at_once]:
            if to_start > 0:
                to_start -= 1
                self.start(handle, url)
        seconds: list[float] = []
        while len(seconds) < requests:
            while self.multi.perform()[0] == curl.E_CALL_MULTI_PERFORM:
                pass
            _, finished, failed = self.multi.info_read(at_once)
            if failed:
                raise RuntimeError(f"pycurl: {failed[0][2]}")
            for handle in finished:
                self.multi.remove_handle(handle)
                check(handle.getinfo(curl.RESPONSE_CODE), len(handle.body.getvalue()), bytes_each)
                seconds.append(perf_counter() - handle.begin)
                if to_start > 0:
                    to_start -= 1
                    self.start(handle, url)
            if not finished:
                self.multi.select(1.0)
        return seconds

    def start(self, handle: Any, url: str) -> None:
        """Begin a request on a handle that has none."""
        handle.begin = perf_counter()
        handle.body = io.BytesIO()
        handle.setopt(self.pycurl.URL, url)
        handle.setopt(self.pycurl.WRITEDATA, handle.body)
        handle.setopt(self.pycurl.SSL_VERIFYPEER, 0)
        handle.setopt(self.pycurl.SSL_VERIFYHOST, 0)
        self.multi.add_handle(handle)

    def close(self) -> None:
        """See Client."""
        for handle in self.handles:
            handle.close()
        self.multi.close()


class Blocking:
    """What the clients of blocking code have in common: one request after the other."""

    def __init__(self) -> None:
        self.client: Any = self.open()

    def open(self) -> object:
        """Make the client."""
        raise NotImplementedError

    def fetch(self, url: str) -> tuple[int, int]:
        """Make one request: its status, and its body's length."""
        raise NotImplementedError

    def get(self, url: str, requests: int, at_once: int, bytes_each: int) -> list[float]:
        """See Client."""
        if at_once != 1:
            raise ValueError("a blocking client makes one request at a time")
        seconds: list[float] = []
        for _ in range(requests):
            begin = perf_counter()
            check(*self.fetch(url), bytes_each)
            seconds.append(perf_counter() - begin)
        return seconds

    def close(self) -> None:
        """See Client."""
        self.client.close()


class HttpxSync(Blocking):
    """httpx.Client, or one of the same surface."""

    module = "httpx"

    def open(self) -> object:
        """See Blocking."""
        return importlib.import_module(self.module).Client(timeout=30.0, verify=False)

    def fetch(self, url: str) -> tuple[int, int]:
        """See Blocking."""
        response = self.client.get(url)
        return response.status_code, len(response.content)


class AioxideSync(HttpxSync):
    """aioxide.http.Client."""

    module = "aioxide.http"


class RequestsSync(Blocking):
    """requests.Session."""

    def open(self) -> object:
        """See Blocking."""
        warnings.simplefilter("ignore")
        return importlib.import_module("requests").Session()

    def fetch(self, url: str) -> tuple[int, int]:
        """See Blocking."""
        # Said of the session, the environment's certificates would go before it.
        response = self.client.get(url, verify=False)
        return response.status_code, len(response.content)


class Urllib3(Blocking):
    """urllib3.PoolManager."""

    def open(self) -> object:
        """See Blocking."""
        warnings.simplefilter("ignore")
        return importlib.import_module("urllib3").PoolManager(cert_reqs="CERT_NONE")

    def fetch(self, url: str) -> tuple[int, int]:
        """See Blocking."""
        response = self.client.request("GET", url)
        return response.status, len(response.data)

    def close(self) -> None:
        """See Client."""
        self.client.clear()


class PyreqwestSync(Blocking):
    """pyreqwest's SyncClient."""

    def open(self) -> object:
        """See Blocking."""
        builder = importlib.import_module("pyreqwest.client").SyncClientBuilder()
        return builder.danger_accept_invalid_certs(True).build()

    def fetch(self, url: str) -> tuple[int, int]:
        """See Blocking."""
        response = self.client.get(url).build().send()
        return response.status, len(response.bytes())


class PycurlSync(Blocking):
    """libcurl's easy interface, one handle for all requests."""

    def open(self) -> object:
        """See Blocking."""
        self.pycurl: Any = importlib.import_module("pycurl")
        handle = self.pycurl.Curl()
        handle.setopt(self.pycurl.SSL_VERIFYPEER, 0)
        handle.setopt(self.pycurl.SSL_VERIFYHOST, 0)
        return handle

    def fetch(self, url: str) -> tuple[int, int]:
        """See Blocking."""
        body = io.BytesIO()
        self.client.setopt(self.pycurl.URL, url)
        self.client.setopt(self.pycurl.WRITEDATA, body)
        self.client.perform()
        return self.client.getinfo(self.pycurl.RESPONSE_CODE), len(body.getvalue())


_ON_LOOP: dict[str, type[OnLoop]] = {
    "aioxide": Aioxide,
    "aioxide-rust": AioxideGather,
    "httpx": Httpx,
    "httpx2": Httpx2,
    "aiohttp": Aiohttp,
    "aiohttp-uvloop": Aiohttp,
    "aiohttp-aioxide": Aiohttp,
    "pyreqwest": Pyreqwest,
    "wreq": Wreq,
    "niquests": Niquests,
    "tornado": Tornado,
    "tornado-curl": TornadoCurl,
}
_BLOCKING: dict[str, type[Blocking]] = {
    "aioxide": AioxideSync,
    "httpx": HttpxSync,
    "requests": RequestsSync,
    "urllib3": Urllib3,
    "pyreqwest": PyreqwestSync,
    "pycurl": PycurlSync,
}


def make(name: str, blocking: bool) -> Client:
    """The client of that name, or its form for blocking code, ready for requests."""
    if blocking:
        return _BLOCKING[name]()
    loop = CLIENTS[name][1]
    return Pycurl() if loop is None else _ON_LOOP[name](loop)
