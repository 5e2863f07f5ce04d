"""aiohttp's server and client on one loop of ours."""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

FILE_BYTES = 3_000_000
CANCELLED = web.AppKey("cancelled", list[str])


async def digest(request: web.Request) -> web.Response:
    sha = hashlib.sha256()
    async for chunk in request.content.iter_any():
        sha.update(chunk)
    return web.json_response({"sha256": sha.hexdigest(), "name": request.match_info["name"]})


async def parts(request: web.Request) -> web.Response:
    answer = {}
    async for part in await request.multipart():
        answer[part.name] = len(await part.read())
    return web.json_response(answer)


async def count(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    for number in range(int(request.query["up_to"])):
        await response.write(b"%d\n" % number)
    await response.write_eof()
    return response


async def websocket(request: web.Request) -> web.WebSocketResponse:
    socket = web.WebSocketResponse(heartbeat=5)
    await socket.prepare(request)
    async for message in socket:
        if message.type is aiohttp.WSMsgType.TEXT:
            await socket.send_str(message.data[::-1])
        elif message.type is aiohttp.WSMsgType.BINARY:
            await socket.send_bytes(message.data[::-1])
    return socket


async def never(request: web.Request) -> web.Response:
    try:
        await asyncio.sleep(3600)
    except asyncio.CancelledError:
        request.app[CANCELLED].append(request.query["id"])
        raise
    return web.Response()


@asynccontextmanager
async def service(folder: Path) -> AsyncIterator[tuple[web.Application, str]]:
    app = web.Application(client_max_size=1 << 24)
    app[CANCELLED] = []
    app.add_routes(
        [
            web.post("/digest/{name}", digest),
            web.post("/parts", parts),
            web.get("/count", count),
            web.get("/ws", websocket),
            web.get("/never", never),
            web.static("/files", folder),
        ]
    )
    runner = web.AppRunner(app, handler_cancellation=True)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield app, f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def test_requests(runner: asyncio.Runner, tmp_path: Path) -> None:
    rng = random.Random(2)
    data = rng.randbytes(FILE_BYTES)
    (tmp_path / "file.bin").write_bytes(data)
    bodies = [rng.randbytes(rng.choice([0, 10, 100_000, 1_000_000])) for _ in range(60)]

    async def main() -> None:
        async with service(tmp_path) as (_, base), aiohttp.ClientSession(base) as session:

            async def post(number: int, body: bytes) -> None:
                async with session.post(f"/digest/{number}", data=body) as answer:
                    expected = {"sha256": hashlib.sha256(body).hexdigest(), "name": str(number)}
                    assert await answer.json() == expected

            async def form(size: int) -> None:
                fields = aiohttp.FormData()
                fields.add_field("text", "x" * size)
                fields.add_field("file", data[: size * 10], filename="f")
                async with session.post("/parts", data=fields) as answer:
                    assert await answer.json() == {"text": size, "file": size * 10}

            async def read(up_to: int) -> None:
                async with session.get("/count", params={"up_to": up_to}) as answer:
                    assert [int(line) async for line in answer.content] == list(range(up_to))

            async def file(first: int) -> None:
                # Served by sendfile(2), which goes through the loop's own.
                async with session.get("/files/file.bin", headers={"Range": f"bytes={first}-"}) as answer:
                    assert answer.status == 206 and await answer.read() == data[first:]

            async with asyncio.TaskGroup() as group:
                for number, body in enumerate(bodies):
                    group.create_task(post(number, body))
                    group.create_task(read(number * 10))
                    group.create_task(form(number * 100))
                for first in range(0, FILE_BYTES, FILE_BYTES // 10):
                    group.create_task(file(first))

    runner.run(main())


def test_websockets(runner: asyncio.Runner, tmp_path: Path) -> None:
    async def talk(session: aiohttp.ClientSession, number: int) -> None:
        async with session.ws_connect("/ws", compress=15 if number % 2 else 0) as socket:
            for turn in range(30):
                text = f"{number}:{turn}" * turn
                await socket.send_str(text)
                assert await socket.receive_str() == text[::-1]
                await socket.send_bytes(text.encode() * 50)
                assert await socket.receive_bytes() == (text.encode() * 50)[::-1]

    async def main() -> None:
        async with service(tmp_path) as (_, base), aiohttp.ClientSession(base) as session:
            await asyncio.gather(*(talk(session, number) for number in range(20)))

    runner.run(main())


def test_giving_up(runner: asyncio.Runner, tmp_path: Path) -> None:
    """A client that gives up cancels its handler; what others ask meanwhile is answered."""

    async def give_up(session: aiohttp.ClientSession, number: int) -> None:
        with pytest.raises(TimeoutError):
            await session.get("/never", params={"id": number}, timeout=aiohttp.ClientTimeout(total=0.1 + number / 200))

    async def main() -> None:
        connector = aiohttp.TCPConnector(limit=0)
        async with service(tmp_path) as (app, base), aiohttp.ClientSession(base, connector=connector) as session:
            giving_up = asyncio.gather(*(give_up(session, number) for number in range(40)))
            async with session.post("/digest/x", data=b"abc") as answer:
                assert (await answer.json())["sha256"] == hashlib.sha256(b"abc").hexdigest()
            await giving_up
            async with asyncio.timeout(10):
                while len(app[CANCELLED]) < 40:
                    await asyncio.sleep(0.01)
            assert sorted(map(int, app[CANCELLED])) == list(range(40))

    runner.run(main())
