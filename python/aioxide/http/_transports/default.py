"""The native core as a transport of blocking code: for a client of this package, or plugged into a real httpx."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from .._config import DEFAULT_LIMITS, Limits
from .._core import open_core, protocols
from .._exceptions import ConnectError, ConnectTimeout, RequestError
from .._proxies import ProxyTypes, build_proxy
from .._request import Request
from .._response import Response
from .._streams import BlockingBody
from .._tls import context_source
from .._uploads import BlockingUpload, is_streamed
from .._wire import terms, wire_url, with_request
from .base import BaseTransport

if TYPE_CHECKING:
    from aioxide._native import HttpClient, RawResponse

_FIRST_RETRY_SECONDS = 0.5


class NativeTransport:
    """What both native transports have in common: the core and its settings."""

    # Where pytest-httpx looks for a pool of httpcore's that goes through a proxy.
    _pool = None

    def __init__(
        self,
        verify: Any = True,
        cert: Any = None,
        trust_env: bool = True,
        http1: bool = True,
        http2: bool = False,
        limits: Limits = DEFAULT_LIMITS,
        proxy: ProxyTypes | None = None,
        uds: str | None = None,
        local_address: str | None = None,
        retries: int = 0,
        socket_options: Any = None,
        hedge_budget: float = 0.1,
    ) -> None:
        self.proxy = build_proxy(proxy)
        self._retries = retries

        def open_for(http1: bool, http2: bool) -> HttpClient:
            return open_core(
                limits,
                context_source(verify, cert, trust_env, protocols(http1, http2)),
                self.proxy,
                http1=http1,
                http2=http2,
                uds=uds,
                local_address=local_address,
                socket_options=socket_options,
                hedge_budget=hedge_budget,
            )

        self._core = open_for(http1, http2)
        self._cores = [self._core]
        self._open_http1_core = partial(open_for, True, False) if http2 else None

    def _core_for_websockets(self) -> HttpClient:
        """One that does not offer HTTP/2, which a server would choose: a WebSocket begins with HTTP/1.1."""
        if self._open_http1_core is None:
            return self._core
        if len(self._cores) == 1:
            self._cores.append(self._open_http1_core())
        return self._cores[1]

    def _close_cores(self) -> None:
        for core in self._cores:
            core.close()


class HTTPTransport(NativeTransport, BaseTransport):
    """The native core for blocking code, from any number of threads at once.

    `limits` and `proxy` are as for a Client. `retries`: so often is a failed connection tried again, after 0.5 seconds,
    then twice as long each time; a request that was sent is never sent again. `verify`, `cert` and `trust_env` make the
    context of connections for https, as `create_ssl_context` says. With `http2` that protocol is spoken where a server
    chooses it in the TLS handshake; with `http1` False as well it is spoken with every server, without TLS too.

    `uds`: the path of a Unix domain socket, to which all requests go, whatever host their URLs name; a proxy is then
    left aside. `local_address`: the IP address to connect from; hosts are then reached by addresses of its family
    alone. `socket_options`: (level, name, value) as for ``socket.setsockopt``, the value an int or bytes, set before
    the socket connects. What the system refuses of these raises ConnectError. `hedge_budget` is as for a Client.

    It takes the requests of a real httpx too, and answers with that package's own classes.
    """

    def handle_request(self, request: Request) -> Response:
        """Send the request, and give the response with its body unread and still encoded."""
        if not isinstance(request, Request):
            from .foreign import handle_foreign

            answer: Response = handle_foreign(self, request)
            return answer
        raw = self._fetch(request, True)
        return Response._from_core(raw, request, 0.0, "utf-8", BlockingBody)

    def _fetch(self, request: Request, stream: bool) -> RawResponse:
        url = wire_url(request)
        pauses = pauses_of(self._retries)
        while True:
            try:
                if is_streamed(request):
                    return upload_blocking(self._core, request, url, stream)
                return self._core.fetch_blocking(
                    request.method,
                    url,
                    request.headers._list,
                    request._content or None,
                    stream=stream,
                    **terms(request),
                )
            except RequestError as error:
                pause = pause_after(error, pauses)
                if pause is None:
                    raise with_request(error, request) from error.__cause__
            from time import sleep

            sleep(pause)

    def _open_websocket(self, request: Request) -> RawResponse:
        """The core's answer to a request that asks for a WebSocket, as its extensions say."""
        core, arguments = self._core_for_websockets(), websocket_terms(request)
        return core.open_websocket(None, wire_url(request), request.headers._list, **arguments)

    def close(self) -> None:
        """Close the idle connections; those in use are closed once their response is read."""
        self._close_cores()


def upload_blocking(
    core: HttpClient, request: Request, url: str, stream: bool, pieces: Iterator[bytes] | None = None
) -> RawResponse:
    """The core's answer to a request whose body is sent as it is read; `pieces` are read instead, if given."""
    uploading = BlockingUpload(request, pieces)
    try:
        answer = core.fetch_blocking(
            request.method,
            url,
            request.headers._list,
            uploading.upload,
            stream=stream,
            produce=uploading,
            **terms(request),
        )
        # The answer may have come together with the news that the last piece was taken.
        uploading.report()
        return answer
    finally:
        uploading.close()


def websocket_terms(request: Request) -> dict[str, Any]:
    """The terms of a request that asks for a WebSocket, which is never hedged, and how that is to be."""
    given = terms(request)
    given.pop("hedge_after", None)
    return {"settings": request.extensions["websocket"], **given}


def pauses_of(retries: int) -> Iterator[float]:
    """How long to wait before each retry, in seconds."""
    return (_FIRST_RETRY_SECONDS * 2**attempt for attempt in range(retries))


def pause_after(error: RequestError, pauses: Iterator[float]) -> float | None:
    """The pause before the next try, None when the error stands."""
    if not isinstance(error, (ConnectError, ConnectTimeout)):
        return None
    return next(pauses, None)


_HANDLE_REQUEST = HTTPTransport.handle_request


def is_native(transport: Any) -> bool:
    """Whether requests may go straight to the core: a subclass, or a method that a test replaced, is asked instead."""
    return type(transport) is HTTPTransport and HTTPTransport.handle_request is _HANDLE_REQUEST
