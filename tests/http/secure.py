"""A small HTTPS server for tests, on Python's own ssl module, each connection in a thread."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.http.conftest import Message
from tests.http.listening import Listener


class SecureServer(Listener):
    """Answers every request with what `answer` gives for it, 200 and the path at first; keeps connections alive."""

    def __init__(self, certificates: Path, name: str = "localhost", host: str = "127.0.0.1") -> None:
        self.context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self.context.load_cert_chain(certificates / f"{name}.pem")
        self.context.set_servername_callback(self._named)
        self.names: list[str | None] = []
        self.peers: list[dict[str, Any] | None] = []
        self.resumed: list[bool] = []
        self.handshake_errors: list[str] = []
        self.requests: list[Message] = []
        self._open: list[ssl.SSLSocket] = []
        self.answer: Callable[[Message], bytes] = lambda message: message.path.encode()
        self.stalls = threading.Event()
        """When set, connections are accepted and left alone."""
        super().__init__(host)
        shown = f"[{host}]" if ":" in host else host
        self.url = f"https://{shown}:{self.port}"

    def _named(self, _socket: ssl.SSLObject, name: str | None, _context: ssl.SSLContext) -> None:
        self.names.append(name)

    def serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection:
            connection.settimeout(10)
            if self.stalls.is_set():
                connection.recv(65_536)
                threading.Event().wait(5)
                return
            try:
                secured = self.context.wrap_socket(connection, server_side=True)
            except ssl.SSLError as error:
                self.handshake_errors.append(str(error))
                return
            self._open.append(secured)
            with secured:
                self.peers.append(secured.getpeercert())
                self.resumed.append(bool(secured.session_reused))
                while (message := Message.read(secured)) is not None:
                    self.requests.append(message)
                    body = self.answer(message)
                    secured.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)

    def hang_up(self) -> None:
        """End every connection, without close_notify."""
        for connection in self._open:
            with contextlib.suppress(OSError):
                socket.socket.shutdown(connection, socket.SHUT_RDWR)
        self._open.clear()


@contextlib.contextmanager
def serving(certificates: Path, name: str = "localhost", host: str = "127.0.0.1") -> Iterator[SecureServer]:
    server = SecureServer(certificates, name, host)
    try:
        yield server
    finally:
        server.close()
