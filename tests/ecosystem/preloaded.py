"""The service of an application that used a loop when it was imported: before its server forks, with `--preload`."""

from __future__ import annotations

import asyncio
import socket

from tests.ecosystem.service import app

import aioxide

__all__ = ["app"]

# Neither closed nor ended: what it leaves must not disturb the workers' own loops.
loop = aioxide.new_event_loop()
sender, receiver = loop.run_until_complete(asyncio.sleep(0.001, socket.socketpair()))
loop.add_reader(receiver, receiver.recv, 1)
loop.call_later(0.5, print, "a timer of the parent's loop ran in a worker")
