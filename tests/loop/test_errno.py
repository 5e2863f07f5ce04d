"""Errors of the system carry their number, as Python's own sockets raise them."""

from __future__ import annotations

import asyncio
import errno
import resource
import socket
import struct

import pytest

import aioxide


def test_a_reset_connection_says_which_error_it_was(runner: asyncio.Runner) -> None:
    class Keeper(asyncio.Protocol):
        def __init__(self) -> None:
            self.lost = asyncio.get_running_loop().create_future()

        def connection_lost(self, exc: Exception | None) -> None:
            self.lost.set_result(exc)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        with socket.create_server(("127.0.0.1", 0)) as listener:
            _, protocol = await loop.create_connection(Keeper, *listener.getsockname())
            peer, _ = listener.accept()
            # Closing without lingering resets the connection.
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            peer.close()
            error = await protocol.lost
        assert type(error) is ConnectionResetError
        assert (error.errno, error.strerror) == (errno.ECONNRESET, "Connection reset by peer")

    runner.run(main())


def test_a_loop_without_descriptors_says_so() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with open("/dev/null") as lowest:
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest.fileno() + 1, hard))
        try:
            with pytest.raises(OSError) as caught:
                aioxide.new_event_loop()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert caught.value.errno == errno.EMFILE
