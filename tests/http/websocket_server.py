"""WebSocket servers for tests: the websockets package's, and one that speaks by hand."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import logging
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tests.http.listening import Listener
from tests.http.proxies import read_head

# Free-threaded builds do without it.
websockets = pytest.importorskip("websockets")
from websockets.sync.server import ServerConnection, serve  # noqa: E402

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
QUIET = logging.getLogger("tests.quiet")
QUIET.disabled = True


class WebSocketServer:
    """The websockets package's server: a handler for each path; the codes and reasons with which clients closed."""

    def __init__(self, context: ssl.SSLContext | None = None, **options: Any) -> None:
        self.endings: list[tuple[int, str]] = []
        self.requests: list[Any] = []
        self.handlers: dict[str, Callable[[ServerConnection], None]] = {"/": echo}
        self.process_request: Callable[[ServerConnection, Any], Any] = lambda connection, request: None
        self._server = serve(
            self._handle, "127.0.0.1", 0, ssl=context, process_request=self._asked, logger=QUIET, **options
        )
        self.port: int = self._server.socket.getsockname()[1]
        self.url = f"ws{'s' if context else ''}://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def _asked(self, connection: ServerConnection, request: Any) -> Any:
        self.requests.append(request)
        return self.process_request(connection, request)

    def _handle(self, connection: ServerConnection) -> None:
        assert connection.request is not None
        try:
            self.handlers[connection.request.path.partition("?")[0]](connection)
        except websockets.ConnectionClosed:
            pass
        connection.close()
        self.endings.append((connection.close_code, connection.close_reason))

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join(10)


def echo(connection: ServerConnection) -> None:
    for message in connection:
        connection.send(message)


@contextlib.contextmanager
def serving(context: ssl.SSLContext | None = None, **options: Any) -> Iterator[WebSocketServer]:
    server = WebSocketServer(context, **options)
    try:
        yield server
    finally:
        server.close()


class ByHand(Listener):
    """Agrees to a WebSocket, sends `then`, and keeps what the client sends until it closes."""

    def __init__(self, then: bytes = b"", behave: Callable[[socket.socket], None] | None = None) -> None:
        self.then = then
        self.behave = behave
        self.received = bytearray()
        self.is_done = threading.Event()
        super().__init__()
        self.url = f"ws://127.0.0.1:{self.port}/"

    def serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection:
            connection.settimeout(20)
            head = read_head(connection).decode()
            lines = [line.split(": ", 1) for line in head.split("\r\n")[1:] if line]
            key = {name.lower(): value for name, value in lines}["sec-websocket-key"]
            accept = base64.b64encode(hashlib.sha1(key.encode() + GUID).digest())
            answer = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            connection.sendall(answer + b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n" + self.then)
            if self.behave is not None:
                self.behave(connection)
            while piece := connection.recv(65_536):
                self.received += piece
        self.is_done.set()
