"""An HTTP/2 server for tests, on the h2 library; each connection in a thread of its own."""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import ConnectionTerminated, DataReceived, RequestReceived, StreamEnded, StreamReset
from h2.exceptions import NoSuchStreamError, ProtocolError, StreamIDTooLowError
from h2.settings import SettingCodes
from tests.http.listening import Listener

# A stream that the client has reset: h2 remembers it only for a while.
GONE = (NoSuchStreamError, StreamIDTooLowError)


class Request:
    """A request on one stream."""

    def __init__(self, stream: int, headers: dict[str, str]) -> None:
        self.stream = stream
        self.headers = headers
        self.path = headers[":path"]
        self.body = bytearray()


class Connection:
    """A client's connection, as `Http2Server.respond` sees it."""

    def __init__(self, server: Http2Server, transport: socket.socket) -> None:
        self.server = server
        self.transport = transport
        self.h2 = H2Connection(H2Configuration(client_side=False, header_encoding="utf-8"))
        self.requests: dict[int, Request] = {}
        self.unsent: dict[int, bytes] = {}
        self.served = 0
        self.resets: list[int] = []
        self.going_away: ErrorCodes | int | None = None
        self.said_goodbye = False

    def run(self) -> None:
        self.h2.initiate_connection()
        self.h2.update_settings(self.server.settings)
        self.flush()
        # Over TLS an end without close_notify is an error.
        while data := self.transport.recv(65_536):
            for event in self.h2.receive_data(data):
                if isinstance(event, RequestReceived):
                    self.requests[event.stream_id] = Request(event.stream_id, dict(event.headers))
                    self.server.peak = max(self.server.peak, len(self.requests))
                elif isinstance(event, DataReceived):
                    if event.stream_id in self.requests:
                        self.requests[event.stream_id].body += event.data
                    self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                elif isinstance(event, ConnectionTerminated):
                    self.going_away = event.error_code
                elif isinstance(event, StreamReset):
                    self.resets.append(event.stream_id)
                    self.requests.pop(event.stream_id, None)
                    self.unsent.pop(event.stream_id, None)
                elif isinstance(event, StreamEnded) and event.stream_id in self.requests:
                    self.served += 1
                    self.server.requests.append(self.requests[event.stream_id])
                    self.server.respond(self, self.requests[event.stream_id])
            self.pump()
            self.flush()
        self.said_goodbye = True

    def answer(self, request: Request, body: bytes = b"", status: int = 200) -> None:
        """Answer a request; the body is sent as the client takes it."""
        # The client may have given up.
        with contextlib.suppress(*GONE):
            self.h2.send_headers(request.stream, [(":status", str(status)), ("content-length", str(len(body)))])
            self.unsent[request.stream] = body
            self.pump()

    def reset(self, request: Request, code: ErrorCodes) -> None:
        """Refuse a request."""
        self.h2.reset_stream(request.stream, code)
        self.requests.pop(request.stream, None)
        self.flush()

    def pump(self) -> None:
        for stream, body in list(self.unsent.items()):
            if stream not in self.requests:
                del self.unsent[stream]
                continue
            try:
                self.unsent[stream] = body = self.send(stream, body)
            except GONE:
                body = b""
            if not body:
                del self.unsent[stream]
                self.requests.pop(stream, None)

    def send(self, stream: int, body: bytes) -> bytes:
        """Send what the client takes now; what is left."""
        while body:
            room = min(self.h2.local_flow_control_window(stream), self.h2.max_outbound_frame_size)
            if room <= 0:
                return body
            self.h2.send_data(stream, body[:room])
            body = body[room:]
        self.h2.end_stream(stream)
        return b""

    def flush(self) -> None:
        self.transport.sendall(self.h2.data_to_send())


class Http2Server(Listener):
    """Answers each request by its path, or as `respond` says. Over TLS if there are certificates."""

    def __init__(self, certificates: Path | None = None, protocols: tuple[str, ...] = ("h2",)) -> None:
        self.context: ssl.SSLContext | None = None
        if certificates is not None:
            self.context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            self.context.load_cert_chain(certificates / "localhost.pem")
            self.context.set_alpn_protocols(list(protocols))
        self.settings: dict[Any, int] = {SettingCodes.MAX_CONCURRENT_STREAMS: 100}
        self.connections: list[Connection] = []
        self.requests: list[Request] = []
        self.peak = 0
        self.connection_class = Connection
        self.respond: Callable[[Connection, Request], None] = lambda connection, request: connection.answer(
            request, bytes(request.body) or request.path.encode()
        )
        super().__init__()
        self.url = f"http{'s' if self.context else ''}://127.0.0.1:{self.port}"

    def serve(self, accepted: socket.socket) -> None:
        # What a client does that gives up, or is misled on purpose, is not the server's business.
        with contextlib.suppress(OSError, ProtocolError), accepted:
            accepted.settimeout(20)
            if self.context is None:
                transport = accepted
            else:
                transport = self.context.wrap_socket(accepted, server_side=True, suppress_ragged_eofs=False)
            with transport:
                connection = self.connection_class(self, transport)
                self.connections.append(connection)
                connection.run()


@contextlib.contextmanager
def serving(certificates: Path | None = None) -> Iterator[Http2Server]:
    server = Http2Server(certificates)
    try:
        yield server
    finally:
        server.close()
