"""The native core as a transport of coroutines. Apart, since blocking programs do without asyncio."""

from __future__ import annotations

from asyncio import _get_running_loop, sleep
from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any

from .._exceptions import RequestError
from .._request import Request
from .._response import Response
from .._streams import AsyncBody
from .._uploads import AsyncUpload, is_streamed
from .._wire import terms, wire_url, with_request
from .base import AsyncBaseTransport
from .default import NativeTransport, pause_after, pauses_of, upload_blocking, websocket_terms
from .trio import blocking_pieces, in_thread

if TYPE_CHECKING:
    from aioxide._native import RawResponse, Upload


class AsyncHTTPTransport(NativeTransport, AsyncBaseTransport):
    """The native core for coroutines, on any loop. See HTTPTransport.

    Under trio each request takes a worker thread, which waits for it.
    """

    async def handle_async_request(self, request: Request) -> Response:
        """Send the request, and give the response with its body unread and still encoded."""
        if not isinstance(request, Request):
            from .foreign import handle_foreign_async

            answer: Response = await handle_foreign_async(self, request)
            return answer
        try:
            raw = await self._fetch(request, True)
        except RequestError as error:
            raise with_request(error, request) from error.__cause__
        return Response._from_core(raw, request, 0.0, "utf-8", AsyncBody)

    def _fetch(self, request: Request, stream: bool) -> Awaitable[RawResponse]:
        """The core's answer. The caller gives its errors the request."""
        if request._stream is None and not self._retries and "upload_progress" not in request.extensions:
            # The common case costs no coroutine of its own.
            return self._start(request, wire_url(request), request._content or None, stream)
        return self._fetch_stream_or_retry(request, stream)

    async def _fetch_stream_or_retry(self, request: Request, stream: bool) -> RawResponse:
        url = wire_url(request)
        pauses = pauses_of(self._retries)
        while True:
            try:
                if not is_streamed(request):
                    return await self._start(request, url, request._content or None, stream)
                return await self._upload(request, url, stream)
            except RequestError as error:
                pause = pause_after(error, pauses)
                if pause is None:
                    raise
            await sleep(pause)

    async def _upload(self, request: Request, url: str, stream: bool) -> RawResponse:
        loop = _get_running_loop()
        if loop is None:
            pieces = blocking_pieces(request.stream)
            return await in_thread(lambda: upload_blocking(self._core, request, url, stream, pieces))
        uploading = AsyncUpload.of(request)
        return await uploading.carry(lambda: self._start(request, url, uploading.upload, stream))

    def _start(self, request: Request, url: str, body: bytes | Upload | None, stream: bool) -> Awaitable[RawResponse]:
        loop = _get_running_loop()
        arguments: Any = (request.method, url, request.headers._list, body)
        if loop is not None:
            return self._core.fetch(loop, *arguments, stream=stream, **terms(request))
        return in_thread(lambda: self._core.fetch_blocking(*arguments, stream=stream, **terms(request)))

    async def _open_websocket(self, request: Request) -> RawResponse:
        """The core's answer to a request that asks for a WebSocket, as its extensions say."""
        loop = _get_running_loop()
        if loop is None:
            raise RuntimeError("an AsyncClient's WebSockets need asyncio: under trio use a Client's, in a thread")
        core = self._core_for_websockets()
        arguments = websocket_terms(request)
        return await core.open_websocket(loop, wire_url(request), request.headers._list, **arguments)

    async def aclose(self) -> None:
        """Close the idle connections; those in use are closed once their response is read."""
        self._close_cores()


_HANDLE_ASYNC_REQUEST = AsyncHTTPTransport.handle_async_request


def is_native(transport: Any) -> bool:
    """Whether requests may go straight to the core: a subclass, or a method that a test replaced, is asked instead."""
    return type(transport) is AsyncHTTPTransport and AsyncHTTPTransport.handle_async_request is _HANDLE_ASYNC_REQUEST
