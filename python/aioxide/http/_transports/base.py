"""What every transport is: one method that takes a request and gives its response, and one that closes it."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from .._request import Request
    from .._response import Response


class BaseTransport:
    """Base of transports for blocking code.

    Subclass it with `handle_request` and, where there is something to release, `close`.

    >>> from aioxide import http
    >>> class Teapot(BaseTransport):
    ...     def handle_request(self, request):
    ...         return http.Response(418)
    >>> http.Client(transport=Teapot()).get("http://example.com/").status_code
    418
    """

    def handle_request(self, request: Request) -> Response:
        """Send one request, as it stands, and give the response.

        The body may be left unread in the response's `stream`; whoever gets the response closes it.
        """
        raise NotImplementedError(f"{type(self).__name__} must define handle_request")

    def close(self) -> None:
        """Release what the transport holds; the client calls it when it is closed."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        self.close()


class AsyncBaseTransport:
    """Base of transports for coroutines.

    Subclass it with `handle_async_request` and, where there is something to release, `aclose`.
    """

    async def handle_async_request(self, request: Request) -> Response:
        """Send one request, as it stands, and give the response.

        The body may be left unread in the response's `stream`; whoever gets the response closes it.
        """
        raise NotImplementedError(f"{type(self).__name__} must define handle_async_request")

    async def aclose(self) -> None:
        """Release what the transport holds; the client calls it when it is closed."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        await self.aclose()
