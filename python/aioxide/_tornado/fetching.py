"""How a fetch is carried out on a loop, whoever's request it is."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from aioxide.http import _exceptions as http
from aioxide.http._config import Limits
from aioxide.http._core import open_core
from aioxide.http._proxies import Proxy
from aioxide.http._uploads import AsyncUpload, Source
from aioxide.http._wire import timeouts, wire_url, with_request

from .rules import Fetch

if TYPE_CHECKING:
    from aioxide._native import HttpClient, RawResponse, Upload
    from aioxide.http._request import Request

    from .messages import HTTPRequest, HTTPResponse

_KEEPALIVE_SECONDS = 5.0
MAX_PROXIES = 64


class Cores:
    """The native pools of a client: one for what goes straight, and one for each proxy that a request has named."""

    def __init__(self, max_clients: int) -> None:
        if max_clients < 1:
            raise ValueError(f"max_clients is how many fetches may be under way at once: at least 1, not {max_clients}")
        self._limits = Limits(
            max_connections=max_clients, max_keepalive_connections=max_clients, keepalive_expiry=_KEEPALIVE_SECONDS
        )
        self.direct: HttpClient = open_core(self._limits)
        self._by_proxy: dict[tuple[Any, ...], HttpClient] = {}

    def of(self, request: HTTPRequest) -> HttpClient:
        """The pool for the request. ValueError for a proxy without a port, or one that wants another `auth_mode`."""
        if not request.proxy_host:
            return self.direct
        if not request.proxy_port:
            raise ValueError("a request with a proxy_host needs its proxy_port")
        if request.proxy_auth_mode not in (None, "basic"):
            raise ValueError(f"unsupported proxy_auth_mode {request.proxy_auth_mode}")
        key = (request.proxy_host, request.proxy_port, request.proxy_username, request.proxy_password)
        core = self._by_proxy.get(key)
        if core is None:
            if len(self._by_proxy) >= MAX_PROXIES:
                self._by_proxy.pop(next(iter(self._by_proxy))).close()
            auth = (request.proxy_username, request.proxy_password or "") if request.proxy_username else None
            core = open_core(self._limits, Proxy(f"http://{request.proxy_host}:{request.proxy_port}", auth=auth))
            self._by_proxy[key] = core
        return core

    def statistics(self) -> dict[str, int]:
        """What all of them hold now."""
        all_of_them = [core.statistics() for core in (self.direct, *self._by_proxy.values())]
        return {name: sum(each[name] for each in all_of_them) for name in all_of_them[0]}

    def close(self) -> None:
        """Close the idle connections; those in use are closed once their response is read."""
        for core in (self.direct, *self._by_proxy.values()):
            core.close()


async def carry_out(cores: Cores, fetch: Fetch) -> HTTPResponse:
    """Send what the fetch wants sent, until there is its response."""
    while True:
        message = fetch.message()
        raw = await _send(cores.of(fetch.request), message, fetch)
        try:
            if fetch.answers_challenge(raw, message) or fetch.follows(raw):
                continue
            if not fetch.streams:
                return fetch.response(raw, fetch.decoded(raw))
            return fetch.response(raw, await _stream(fetch, raw, message))
        finally:
            if fetch.streams:
                raw.close()


async def _send(core: HttpClient, message: Request, fetch: Fetch) -> RawResponse:
    def start(body: bytes | Upload | None) -> asyncio.Future[RawResponse]:
        url, fields = wire_url(message), message.headers._list
        return core.fetch(
            asyncio.get_running_loop(), message.method, url, fields, body, stream=fetch.streams, **timeouts(message)
        )

    try:
        if fetch.request.body_producer is None:
            return await start(message.content or None)
        return await _send_produced(fetch.request.body_producer, message, start)
    except http.RequestError as error:
        raise with_request(error, message) from error.__cause__


async def _stream(fetch: Fetch, raw: RawResponse, message: Request) -> bytes:
    """Give the head and the body to the callbacks; what none of them takes is returned."""
    fetch.announce_head(raw)
    decoder = fetch.decoder(raw)
    kept: list[bytes] = []
    take: Callable[[bytes], Any] = fetch.request.streaming_callback or kept.append
    while True:
        try:
            piece = await raw.read_chunk()
        except http.RequestError as error:
            raise with_request(error, message) from error.__cause__
        for data in fetch.pieces(decoder, piece or None):
            taken = take(data)
            if taken is not None:
                await taken
        if not piece:
            return b"".join(kept)


async def _send_produced(
    producer: Callable[..., Any], message: Request, start: Callable[[Upload], asyncio.Future[RawResponse]]
) -> RawResponse:
    """Send what the producer writes, as it writes it."""
    upload, loop = Source(message).upload, asyncio.get_running_loop()

    def write(piece: bytes) -> asyncio.Future[None]:
        upload.put(bytes(piece))
        return upload.room(loop)

    async def produce() -> None:
        produced = producer(write)
        if produced is not None:
            await produced

    uploading = AsyncUpload(upload, produce)
    return await uploading.carry(lambda: start(upload))
