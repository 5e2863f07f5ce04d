"""The load that a service of `service.py` is put under, from our loop, with a check of every answer."""

from __future__ import annotations

import asyncio
import hashlib
import json
import random

import httpx
from websockets.asyncio.client import connect

OUR_LOOP = "aioxide.EventLoop"


async def http_load(port: int, seed: int = 1) -> set[int]:
    """Ask for everything that the service has, many at a time; give the processes that answered."""
    rng = random.Random(seed)
    bodies = [rng.randbytes(rng.choice([0, 1, 1000, 70_000, 600_000])) for _ in range(30)]
    limits = httpx.Limits(max_connections=20)
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", limits=limits, timeout=60) as client:

        async def digest(body: bytes) -> None:
            answer = await client.post("/digest", content=body)
            assert answer.json() == {"sha256": hashlib.sha256(body).hexdigest(), "size": len(body)}

        async def count(up_to: int) -> None:
            async with client.stream("GET", "/count", params={"up_to": up_to}) as answer:
                assert [int(line) async for line in answer.aiter_lines()] == list(range(up_to))

        async def blocking(value: int) -> None:
            assert (await client.get("/blocking", params={"value": value})).json() == {"value": value}

        async def who() -> int:
            # A connection of its own, so that the kernel may choose another worker.
            answer = (await client.get("/loop", headers={"connection": "close"})).json()
            assert answer["loop"] == OUR_LOOP and answer["started"]
            return int(answer["pid"])

        async with asyncio.TaskGroup() as group:
            for body in bodies:
                group.create_task(digest(body))
            for value in range(30):
                group.create_task(blocking(value))
                group.create_task(count(value * 20))
            asked = [group.create_task(who()) for _ in range(60)]
        return {task.result() for task in asked}


async def websocket_load(port: int, clients: int = 20, messages: int = 25) -> None:
    """Talk over many WebSockets at once; every message comes back, in order."""

    async def talk(number: int) -> None:
        async with connect(f"ws://127.0.0.1:{port}/ws") as socket:
            for turn in range(messages):
                text = f"{number}/{turn} " + "x" * (turn * 100)
                await socket.send(text)
                assert json.loads(await socket.recv()) == {"echo": text, "loop": OUR_LOOP}

    async with asyncio.TaskGroup() as group:
        for number in range(clients):
            group.create_task(talk(number))
