"""A transport that calls a WSGI application, without a network in between."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from io import BytesIO
from typing import TYPE_CHECKING, Any, TextIO

from .._content import SyncByteStream
from .._response import Response
from .._urls import DEFAULT_PORTS
from .base import BaseTransport

if TYPE_CHECKING:
    from .._request import Request

Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


class WSGITransport(BaseTransport):
    """Answers requests by a WSGI application (PEP 3333), for tests and for calls in-process.

    `raise_app_exceptions`: an error that the application reports through ``exc_info`` is raised; else its error page is
    the response. `script_name` and `remote_addr` are what the application is told of where it is mounted and who asks;
    `wsgi_errors` is the text stream for its log, by default ``sys.stderr``.

    >>> from aioxide import http
    >>> def app(environ, start_response):
    ...     start_response("200 OK", [("Content-Type", "text/plain")])
    ...     return [environ["PATH_INFO"].encode()]
    >>> http.Client(transport=WSGITransport(app)).get("http://app/a").text
    '/a'
    """

    def __init__(
        self,
        app: Application,
        raise_app_exceptions: bool = True,
        script_name: str = "",
        remote_addr: str = "127.0.0.1",
        wsgi_errors: TextIO | None = None,
    ) -> None:
        self.app = app
        self.raise_app_exceptions = raise_app_exceptions
        self.script_name = script_name
        self.remote_addr = remote_addr
        self.wsgi_errors = wsgi_errors

    def handle_request(self, request: Request) -> Response:
        """Call the application; its body is read as the response's is. RuntimeError when it starts no response."""
        started: list[Any] = []

        def start_response(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Callable[[bytes], Any]:
            started[:] = [status, headers, exc_info]
            return written.append

        written: list[bytes] = []
        body = _Body(self.app(self._environ(request), start_response), written)
        try:
            if not started:
                body.start()  # an application that is a generator starts its response with its first piece
            if not started:
                raise RuntimeError(f"the WSGI application started no response to {request.url}")
            status, headers, exc_info = started
            if exc_info and exc_info[0] and self.raise_app_exceptions:
                raise exc_info[1]
        except BaseException:
            body.close()
            raise
        fields = [(name.encode("ascii"), value.encode("latin-1")) for name, value in headers]
        return Response(int(status.split()[0]), headers=fields, stream=body)

    def _environ(self, request: Request) -> dict[str, Any]:
        url = request.url
        environ = {
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": url.scheme,
            "wsgi.input": BytesIO(request.read()),
            "wsgi.errors": self.wsgi_errors or sys.stderr,
            "wsgi.multithread": True,
            "wsgi.multiprocess": False,
            "wsgi.run_once": False,
            "REQUEST_METHOD": request.method,
            "SCRIPT_NAME": self.script_name,
            "PATH_INFO": url.path,
            "QUERY_STRING": url.query.decode("ascii"),
            "SERVER_NAME": url.host,
            "SERVER_PORT": str(url.port or DEFAULT_PORTS[url.scheme]),
            "SERVER_PROTOCOL": "HTTP/1.1",
            "REMOTE_ADDR": self.remote_addr,
        }
        for name, value in request.headers.raw:
            key = name.decode("ascii").upper().replace("-", "_")
            environ[key if key in ("CONTENT_TYPE", "CONTENT_LENGTH") else f"HTTP_{key}"] = value.decode("latin-1")
        return environ


class _Body(SyncByteStream):
    """What the application returned, and what it wrote before."""

    def __init__(self, result: Iterable[bytes], written: list[bytes]) -> None:
        self._result = result
        self._pieces = iter(result)
        self._first: list[bytes] = []
        self._written = written

    def start(self) -> None:
        """Take pieces until there is one with something in it: by then the response has been started."""
        for piece in self._pieces:
            if piece:
                self._first.append(piece)
                return

    def __iter__(self) -> Iterator[bytes]:
        self.start()
        yield from self._written
        yield from self._first
        yield from self._pieces

    def close(self) -> None:
        """Close what the application returned, as PEP 3333 asks."""
        close = getattr(self._result, "close", None)
        if close is not None:
            close()
