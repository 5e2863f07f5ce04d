"""What the small servers of the tests have in common: each connection is served in a thread of its own."""

from __future__ import annotations

import socket
import threading


class Listener:
    """Serves each connection by `serve` until it is closed."""

    def __init__(self, host: str = "127.0.0.1") -> None:
        self._listener = socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def serve(self, connection: socket.socket) -> None:
        """Serve one connection, and close it."""
        raise NotImplementedError

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=[connection], daemon=True).start()

    def close(self) -> None:
        # accept() in another thread does not notice a close, but does notice a shutdown.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(10)
