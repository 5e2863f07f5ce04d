"""httpx's `AsyncClient` on our loop, against a server on the same loop."""

from __future__ import annotations

import asyncio
import random

import httpx
import pytest
import uvicorn
from tests.ecosystem.processes import free_port
from tests.ecosystem.service import app


def test_clients_that_give_up(runner: asyncio.Runner) -> None:
    """Requests cancelled at any moment disturb no other one, and the pool stays whole."""
    rng = random.Random(3)

    async def main() -> None:
        port = free_port()
        server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="warning"))
        serve = asyncio.create_task(server.serve())
        while not server.started:
            await asyncio.sleep(0.01)
        limits = httpx.Limits(max_connections=10)
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", limits=limits, timeout=30) as client:

            async def ask(value: int, patience: float | None) -> int | None:
                try:
                    async with asyncio.timeout(patience):
                        return int((await client.get("/blocking", params={"value": value})).json()["value"])
                except TimeoutError:
                    return None

            patiences = [rng.choice([None, None, 0.002, 0.01, 0.03]) for _ in range(150)]
            answers = await asyncio.gather(*(ask(n, patience) for n, patience in enumerate(patiences)))
            for number, (answer, patience) in enumerate(zip(answers, patiences, strict=True)):
                assert answer == number or (patience is not None and answer is None)
            assert None in answers
        server.should_exit = True
        await serve

    runner.run(main())


def test_no_answer(runner: asyncio.Runner) -> None:
    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async def main() -> None:
        async with await asyncio.start_server(say_nothing, "127.0.0.1", 0) as server, httpx.AsyncClient() as client:
            url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"

            async def ask() -> None:
                with pytest.raises(httpx.ReadTimeout):
                    await client.get(url, timeout=httpx.Timeout(5, read=0.1))

            await asyncio.gather(*(ask() for _ in range(50)))

    runner.run(main())


def test_connection_refused(runner: asyncio.Runner) -> None:
    async def main() -> None:
        async with httpx.AsyncClient() as client:
            for _ in range(20):
                with pytest.raises(httpx.ConnectError):
                    await client.get(f"http://127.0.0.1:{free_port()}/")

    runner.run(main())
