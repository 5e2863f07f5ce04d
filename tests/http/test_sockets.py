"""What connections are made of: Unix domain sockets, addresses to connect from, options of sockets."""

from __future__ import annotations

import asyncio
import socket
import struct
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from aioxide import http

LINGER_NOT = struct.pack("ii", 1, 0)

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="all of 127.0.0.0/8 is local on Linux")


class Server:
    """Answers with the address of who asked, and notes how each connection ended."""

    def __init__(self, listener: socket.socket) -> None:
        self.listener = listener
        self.ends: list[str] = []
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, peer = self.listener.accept()
            except OSError:
                return
            with connection:
                connection.settimeout(5)
                data = b""
                while not data.endswith(b"\r\n\r\n"):
                    data += connection.recv(65_536)
                body = f"{peer[0] if peer else 'unix'} {data.split()[4].decode()}".encode()
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
                try:
                    self.ends.append("closed" if connection.recv(1) == b"" else "more")
                except ConnectionResetError:
                    self.ends.append("reset")

    def close(self) -> None:
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self._thread.join(10)


@pytest.fixture
def tcp() -> Iterator[Server]:
    server = Server(socket.create_server(("127.0.0.1", 0)))
    yield server
    server.close()


@pytest.fixture
def unix(tmp_path: Path) -> Iterator[Server]:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "socket"))
    listener.listen()
    server = Server(listener)
    yield server
    server.close()


def url_of(server: Server) -> str:
    return f"http://127.0.0.1:{server.listener.getsockname()[1]}/"


def get_both(runner: asyncio.Runner, url: str, **settings: object) -> list[http.Response]:
    """The same request, through each transport."""
    with http.Client(transport=http.HTTPTransport(**settings)) as client:  # type: ignore[arg-type]
        responses = [client.get(url)]

    async def main() -> None:
        async with http.AsyncClient(transport=http.AsyncHTTPTransport(**settings)) as client:  # type: ignore[arg-type]
            responses.append(await client.get(url))

    runner.run(main())
    return responses


def test_unix_sockets(runner: asyncio.Runner, unix: Server, tmp_path: Path) -> None:
    for response in get_both(runner, "http://any.test/path", uds=str(tmp_path / "socket")):
        assert response.text == "unix any.test"
        assert response.extensions["network_stream"].get_extra_info("server_addr") is None
    with pytest.raises(http.ConnectError, match="any.test: .*nowhere: no such file"):
        http.Client(transport=http.HTTPTransport(uds=str(tmp_path / "nowhere"))).get("http://any.test/")
    with pytest.raises(http.ConnectError):
        http.Client(transport=http.HTTPTransport(uds="/" + "x" * 200)).get("http://any.test/")


def test_an_address_to_connect_from(runner: asyncio.Runner, tcp: Server) -> None:
    for response in get_both(runner, url_of(tcp), local_address="127.0.0.7"):
        assert response.text.startswith("127.0.0.7 ")
    with pytest.raises(http.ConnectError, match="assign requested address"):
        get_both(runner, url_of(tcp), local_address="192.0.2.1")
    with pytest.raises(http.ConnectError, match="no address that can be reached"):
        get_both(runner, url_of(tcp), local_address="::1")
    with pytest.raises(ValueError, match="local_address"):
        http.HTTPTransport(local_address="somewhere")


def test_options_of_sockets(runner: asyncio.Runner, tcp: Server) -> None:
    options = [(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_NOT), (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)]
    get_both(runner, url_of(tcp), socket_options=options)
    get_both(runner, url_of(tcp), socket_options=[])
    for _ in range(500):
        if len(tcp.ends) == 4:
            break
        threading.Event().wait(0.01)
    assert tcp.ends == ["reset", "reset", "closed", "closed"]
    with pytest.raises(http.ConnectError, match="protocol not available"):
        get_both(runner, url_of(tcp), socket_options=[(socket.SOL_SOCKET, 9999, 1)])
