"""A small proxy for tests: forwards, makes tunnels by CONNECT and by SOCKS 5, and keeps what it was asked."""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

from tests.http.listening import Listener


def read_exactly(connection: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        piece = connection.recv(count - len(data))
        if not piece:
            raise ConnectionError("the client is gone")
        data += piece
    return data


def read_head(connection: socket.socket) -> bytes:
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += read_exactly(connection, 1)
    return head


class Proxy(Listener):
    """Serves until it is closed, each connection in a thread. Every name leads to the loopback.

    With a `certificate` it is spoken to by TLS.
    """

    def __init__(self, credentials: tuple[str, str] | None = None, certificate: Path | None = None) -> None:
        self.credentials = credentials
        self.context: ssl.SSLContext | None = None
        if certificate is not None:
            self.context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            self.context.load_cert_chain(certificate)
        self.heads: list[bytes] = []
        self.targets: list[tuple[str, int]] = []
        self.answer: Callable[[socket.socket], None] | None = None
        super().__init__()
        self.address = f"127.0.0.1:{self.port}"

    def serve(self, connection: socket.socket) -> None:
        with connection, contextlib.ExitStack() as stack:
            connection.settimeout(10)
            try:
                if self.context is not None:
                    # recv() of TLS takes no flags, and a TLS proxy of ours speaks HTTP.
                    self._http(stack.enter_context(self.context.wrap_socket(connection, server_side=True)))
                elif self.answer is not None:
                    read_head(connection)
                    self.answer(connection)
                elif connection.recv(1, socket.MSG_PEEK) == b"\x05":
                    self._socks(connection)
                else:
                    self._http(connection)
            except OSError:
                return  # the client, or what it wanted, is gone

    def _http(self, connection: socket.socket) -> None:
        head = read_head(connection)
        self.heads.append(head)
        method, target, _ = head.split(b"\r\n", 1)[0].split(b" ")
        if self.credentials is not None and b"proxy-authorization: basic" not in head.lower():
            connection.sendall(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
        elif method == b"CONNECT":
            host, _, port = target.decode().rpartition(":")
            with self._connect(host, int(port)) as upstream:
                connection.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
                relay(connection, upstream)
        else:
            url = urlsplit(target.decode())
            with self._connect(url.hostname or "", url.port or 80) as upstream:
                path = f"{url.path or '/'}?{url.query}" if url.query else url.path or "/"
                upstream.sendall(head.replace(target, path.encode(), 1))
                relay(connection, upstream)

    def _socks(self, connection: socket.socket) -> None:
        _, count = read_exactly(connection, 2)
        methods = read_exactly(connection, count)
        if self.credentials is not None:
            if 2 not in methods:
                connection.sendall(b"\x05\xff")
                return
            connection.sendall(b"\x05\x02")
            _, length = read_exactly(connection, 2)
            user = read_exactly(connection, length).decode()
            password = read_exactly(connection, read_exactly(connection, 1)[0]).decode()
            accepted = (user, password) == self.credentials
            connection.sendall(b"\x01\x00" if accepted else b"\x01\x01")
            if not accepted:
                return
        else:
            connection.sendall(b"\x05\x00")
        kind = read_exactly(connection, 4)[3]
        if kind == 3:
            host = read_exactly(connection, read_exactly(connection, 1)[0]).decode()
        else:
            family, length = (socket.AF_INET, 4) if kind == 1 else (socket.AF_INET6, 16)
            host = socket.inet_ntop(family, read_exactly(connection, length))
        port = int.from_bytes(read_exactly(connection, 2), "big")
        try:
            upstream = self._connect(host, port)
        except OSError:
            connection.sendall(b"\x05\x05\x00\x01\0\0\0\0\0\0")
            return
        with upstream:
            # The bound address as a name, which few proxies send and all may.
            connection.sendall(b"\x05\x00\x00\x03\x03abc\x00\x01")
            relay(connection, upstream)

    def _connect(self, host: str, port: int) -> socket.socket:
        self.targets.append((host, port))
        return socket.create_connection(("127.0.0.1", port), timeout=10)


def relay(one: socket.socket, other: socket.socket) -> None:
    """Pass bytes on in both directions until one side ends. In one thread, since a TLS connection belongs to one."""
    while True:
        pending = [each for each in (one, other) if isinstance(each, ssl.SSLSocket) and each.pending()]
        ready = pending or select.select([one, other], [], [], 10)[0]
        for source in ready:
            data = source.recv(65_536)
            if not data:
                return
            (other if source is one else one).sendall(data)
        if not ready:
            return
