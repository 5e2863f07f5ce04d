"""Servers on loopback: the engine's own, and one that answers with bytes that a test writes."""

from __future__ import annotations

import os
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.tls.certificates import make_certificates

from aioxide import http
from aioxide._native import HttpServer

Serve = Callable[[Callable[[socket.socket], None]], str]


@pytest.fixture(scope="session")
def server() -> Iterator[HttpServer]:
    """The engine's embedded server."""
    with HttpServer() as running:
        yield running


@pytest.fixture(scope="session")
def url(server: HttpServer) -> str:
    return server.url


@pytest.fixture
def refused_url() -> str:
    """A URL at which nobody listens."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{unused.getsockname()[1]}"


class ScriptedServer:
    """Answers each request with what `answer` set for its path, and closes the connection; keeps the requests."""

    def __init__(self) -> None:
        self.answers: dict[str, bytes] = {}
        self.requests: list[Message] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def answer(self, path: str, *lines: str, status: str = "200 OK", body: bytes = b"") -> None:
        """Answer requests for `path` with this status, these header lines and this body."""
        head = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Connection: close", *lines]
        self.answers[path] = "\r\n".join(head).encode() + b"\r\n\r\n" + body

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection:
                connection.settimeout(10)
                message = Message.read(connection)
                if message is not None:
                    self.requests.append(message)
                    answer = self.answers.get(message.path, b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
                    try:
                        connection.sendall(answer)
                    except OSError:
                        continue  # the client gave up: some tests want it to

    def close(self) -> None:
        # accept() in another thread does not notice a close, but does notice a shutdown.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(10)


class Message:
    """A request as it came over the wire."""

    def __init__(self, method: str, path: str, headers: dict[str, str], body: bytes) -> None:
        self.method = method
        self.path = path
        self.headers = headers
        self.body = body

    @classmethod
    def read(cls, connection: socket.socket) -> Message | None:
        data = b""
        while b"\r\n\r\n" not in data:
            try:
                piece = connection.recv(65_536)
            except OSError:
                return None
            if not piece:
                return None
            data += piece
        head, _, body = data.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = {line.partition(":")[0].lower(): line.partition(":")[2].strip() for line in lines}
        while len(body) < int(headers.get("content-length", 0)):
            body += connection.recv(65_536)
        method, path, _ = first.split(" ")
        return cls(method, path, headers, body)


@pytest.fixture
def scripted() -> Iterator[ScriptedServer]:
    server = ScriptedServer()
    yield server
    server.close()


@pytest.fixture
def other_scripted() -> Iterator[ScriptedServer]:
    server = ScriptedServer()
    yield server
    server.close()


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Serve each connection with a function of its socket, once the head of a request has come; gives the URL."""
    listeners: list[socket.socket] = []

    def start(behave: Callable[[socket.socket], None]) -> str:
        listener = socket.create_server(("127.0.0.1", 0))
        listeners.append(listener)

        def accept() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                threading.Thread(target=answer, args=[connection], daemon=True).start()

        def answer(connection: socket.socket) -> None:
            with connection:
                try:
                    head = b""
                    while not head.endswith(b"\r\n\r\n"):
                        head += connection.recv(1)
                    behave(connection)
                except OSError:
                    return  # the client hung up, which is what most of these tests want

        threading.Thread(target=accept, daemon=True).start()
        return f"http://127.0.0.1:{listener.getsockname()[1]}/"

    yield start
    for listener in listeners:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def echoed(response: http.Response) -> dict[str, Any]:
    """What /echo says that it got, its headers as a dict of lower-case names."""
    told = response.raise_for_status().json()
    headers = told["headers"]
    pairs = headers.items() if isinstance(headers, dict) else headers
    return {**told, "headers": {name.lower(): value for name, value in pairs}}


def resident_bytes() -> int:
    """How much of the process is in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.fixture
def eventually() -> Callable[[Callable[[], bool]], None]:
    """Wait until something holds that another thread brings about; fail when it does not within five seconds."""

    def wait(holds: Callable[[], bool]) -> None:
        for _ in range(500):
            if holds():
                return
            threading.Event().wait(0.01)
        raise AssertionError("it did not come about within 5 s")

    return wait


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Certificates and keys as files: ``ca.pem``, ``localhost.pem``, ``other.pem``, ``client.pem``."""
    folder = tmp_path_factory.mktemp("certificates")
    return make_certificates(folder, "DNS:localhost, IP:127.0.0.1, IP:::1, DNS:named.test")


@pytest.fixture
def trusting(certificates: Path) -> ssl.SSLContext:
    """A client's context that trusts the authority of the tests."""
    return ssl.create_default_context(cafile=str(certificates / "ca.pem"))
