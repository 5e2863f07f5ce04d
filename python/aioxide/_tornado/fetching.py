"""How a fetch is carried out on a loop, whoever's request it is."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from aioxide.http import _exceptions as http
from aioxide.http._config import Limits
from aioxide.http._core import HTTP1_PROTOCOLS, open_core
from aioxide.http._proxies import Proxy
from aioxide.http._tls import ContextSource, context_source
from aioxide.http._uploads import AsyncUpload, Source
from aioxide.http._wire import timeouts, wire_url, with_request

from .rules import Fetch

if TYPE_CHECKING:
    from ssl import SSLContext

    from aioxide._native import HttpClient, RawResponse, Upload
    from aioxide.http._request import Request

    from .messages import HTTPRequest, HTTPResponse

_KEEPALIVE_SECONDS = 5.0
MAX_OTHERS = 64


class Cores:
    """The native pools of a client: one for most requests, one for each proxy and TLS setting that a request names."""

    def __init__(self, max_clients: int) -> None:
        if max_clients < 1:
            raise ValueError(f"max_clients is how many fetches may be under way at once: at least 1, not {max_clients}")
        self._limits = Limits(
            max_connections=max_clients, max_keepalive_connections=max_clients, keepalive_expiry=_KEEPALIVE_SECONDS
        )
        self._usual = open_core(self._limits, context_source(True, None, True, HTTP1_PROTOCOLS))
        self._others: dict[tuple[Any, ...], HttpClient] = {}

    def of(self, request: HTTPRequest) -> HttpClient:
        """The pool for the request.

        ValueError for a proxy without a port, or one that wants another `auth_mode`; what `create_ssl_context` raises.
        """
        proxy, tls = _proxy_key(request), _tls_key(request)
        if proxy is None and tls is None:
            return self._usual
        core = self._others.get((proxy, tls))
        if core is None:
            if len(self._others) >= MAX_OTHERS:
                self._others.pop(next(iter(self._others))).close()
            core = open_core(self._limits, _tls_source(request), None if proxy is None else _proxy(request))
            self._others[proxy, tls] = core
        return core

    def statistics(self) -> dict[str, int]:
        """What all of them hold now."""
        all_of_them = [core.statistics() for core in (self._usual, *self._others.values())]
        return {name: sum(each[name] for each in all_of_them) for name in all_of_them[0]}

    def close(self) -> None:
        """Close the idle connections; those in use are closed once their response is read."""
        for core in (self._usual, *self._others.values()):
            core.close()


def _proxy_key(request: HTTPRequest) -> tuple[Any, ...] | None:
    if not request.proxy_host:
        return None
    if not request.proxy_port:
        raise ValueError("a request with a proxy_host needs its proxy_port")
    if request.proxy_auth_mode not in (None, "basic"):
        raise ValueError(f"unsupported proxy_auth_mode {request.proxy_auth_mode}")
    return request.proxy_host, request.proxy_port, request.proxy_username, request.proxy_password


def _proxy(request: HTTPRequest) -> Proxy:
    auth = (request.proxy_username, request.proxy_password or "") if request.proxy_username else None
    return Proxy(f"http://{request.proxy_host}:{request.proxy_port}", auth=auth)


def _tls_key(request: HTTPRequest) -> tuple[Any, ...] | None:
    options = request.ssl_options
    if isinstance(options, dict):
        return tuple(sorted((name, str(value)) for name, value in options.items()))
    if options is not None:
        return (options,)
    key = (request.validate_cert, request.ca_certs, request.client_cert, request.client_key)
    return None if key == (True, None, None, None) else key


def _tls_source(request: HTTPRequest) -> ContextSource:
    options = request.ssl_options
    if isinstance(options, dict):
        return context_source(_context_of(options), None, True, HTTP1_PROTOCOLS)
    if options is not None:
        return context_source(options, None, True, HTTP1_PROTOCOLS)
    verify = bool(request.validate_cert) and (request.ca_certs or True)
    cert = request.client_cert and (
        (request.client_cert, request.client_key) if request.client_key else request.client_cert
    )
    return context_source(verify, cert or None, True, HTTP1_PROTOCOLS)


def _context_of(options: dict[str, Any]) -> SSLContext:
    """The context that a dict of Tornado's stands for: checked is what it asks to be checked, which may be nothing."""
    import ssl

    context = ssl.SSLContext(options.get("ssl_version", ssl.PROTOCOL_TLS_CLIENT))
    if "certfile" in options:
        context.load_cert_chain(options["certfile"], options.get("keyfile"))
    if "cert_reqs" in options:
        context.check_hostname = options["cert_reqs"] != ssl.CERT_NONE
        context.verify_mode = options["cert_reqs"]
    if "ca_certs" in options:
        context.load_verify_locations(options["ca_certs"])
    if "ciphers" in options:
        context.set_ciphers(options["ciphers"])
    return context


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
    def start(body: bytes | Upload | None) -> Awaitable[RawResponse]:
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
    producer: Callable[..., Any], message: Request, start: Callable[[Upload], Awaitable[RawResponse]]
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
