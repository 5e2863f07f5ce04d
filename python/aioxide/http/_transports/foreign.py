"""Requests of a real httpx (or a package of its shape), answered with that package's own classes.

What a request belongs to is told by its class's module; nothing is imported that is not there already.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from .._config import Timeout
from .._content import AsyncIteratorByteStream, IteratorByteStream
from .._exceptions import InvalidURL, RequestError
from .._headers import Headers
from .._request import Request
from .._streams import AsyncBody, BlockingBody

if TYPE_CHECKING:
    from .default import HTTPTransport
    from .default_async import AsyncHTTPTransport


def handle_foreign(transport: HTTPTransport, request: Any) -> Any:
    """Send another package's request. Its response, or one of its exceptions."""
    package = _package_of(request)
    try:
        ours = _ours(request, package, IteratorByteStream(request.stream))
        raw = transport._fetch(ours, True)
    except (RequestError, InvalidURL) as error:
        raise _theirs(error, package, request) from error
    body = BlockingBody(raw, ours)
    base: Any = package.SyncByteStream

    class Stream(base):  # type: ignore[misc]
        def __iter__(self) -> Any:
            try:
                yield from body
            except RequestError as error:
                raise _theirs(error, package, request) from error

        def close(self) -> None:
            body.close()

    return _response(package, raw, Stream())


async def handle_foreign_async(transport: AsyncHTTPTransport, request: Any) -> Any:
    """Send another package's request. Its response, or one of its exceptions."""
    package = _package_of(request)
    try:
        ours = _ours(request, package, AsyncIteratorByteStream(request.stream))
        raw = await transport._fetch(ours, True)
    except (RequestError, InvalidURL) as error:
        raise _theirs(error, package, request) from error
    body = AsyncBody(raw, ours)
    base: Any = package.AsyncByteStream

    class Stream(base):  # type: ignore[misc]
        async def __aiter__(self) -> Any:
            try:
                async for piece in body:
                    yield piece
            except RequestError as error:
                raise _theirs(error, package, request) from error

        async def aclose(self) -> None:
            await body.aclose()

    return _response(package, raw, Stream())


def _package_of(request: Any) -> Any:
    package = sys.modules[type(request).__module__.partition(".")[0]]
    if not hasattr(package, "AsyncByteStream"):
        raise TypeError(f"a request of aioxide.http or of httpx, not {type(request).__name__}")
    return package


def _ours(request: Any, package: Any, body: IteratorByteStream | AsyncIteratorByteStream) -> Request:
    extensions = {"timeout": Timeout(None).as_dict(), **request.extensions}
    headers = Headers._adopt(list(request.headers.raw))
    try:
        content = request.content
    except package.RequestNotRead:
        return Request(request.method, str(request.url), headers=headers, stream=body, extensions=extensions)
    return Request(request.method, str(request.url), headers=headers, content=content, extensions=extensions)


def _theirs(error: Exception, package: Any, request: Any) -> Exception:
    """The exception of the same name there."""
    kind = getattr(package, type(error).__name__, package.TransportError)
    if isinstance(error, InvalidURL):
        invalid: Exception = kind(str(error))
        return invalid
    theirs: Exception = kind(str(error), request=request)
    return theirs


def _response(package: Any, raw: Any, stream: Any) -> Any:
    extensions = {
        "http_version": raw.http_version.encode("ascii"),
        "reason_phrase": raw.reason.encode("ascii", "replace"),
    }
    return package.Response(raw.status, headers=raw.headers, stream=stream, extensions=extensions)
