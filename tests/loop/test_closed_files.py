"""Watched files that are closed before the loop is told."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import weakref

import pytest


@pytest.mark.parametrize("direction", ["reader", "writer"])
def test_a_closed_socket_is_still_known(runner: asyncio.Runner, direction: str) -> None:
    """AnyIO closes a socket first, and removes its callbacks by the object afterwards."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        add, remove = getattr(loop, f"add_{direction}"), getattr(loop, f"remove_{direction}")
        left, right = socket.socketpair()
        with right:
            add(left, pytest.fail, "a closed socket is ready for nobody")
            left.close()
            assert remove(left) is True
            with pytest.raises(ValueError, match="Invalid file descriptor: -1"):
                remove(left)

    runner.run(main())


def test_a_closed_file_object_is_still_known(runner: asyncio.Runner) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        read_fd, write_fd = os.pipe()
        reading, writing = open(read_fd, "rb", 0), open(write_fd, "wb", 0)
        loop.add_reader(reading, pytest.fail, "a closed pipe is read by nobody")
        reading.close()
        writing.close()
        with pytest.raises(ValueError, match="Invalid file object"):
            loop.remove_reader(reading)  # refused before anything is looked up
        loop._remove_reader(reading)  # type: ignore[attr-defined]

    runner.run(main())


def test_a_watched_socket_lives_until_it_is_not_watched(runner: asyncio.Runner) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        left, right = socket.socketpair()
        number, alive = left.fileno(), weakref.ref(left)
        heard = asyncio.Event()
        loop.add_reader(left, heard.set)
        del left
        gc.collect()
        right.send(b"x")
        await asyncio.wait_for(heard.wait(), 5)
        with alive():
            assert loop.remove_reader(number)
        gc.collect()
        assert alive() is None
        right.close()

    runner.run(main())
