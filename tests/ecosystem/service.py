"""The FastAPI service that uvicorn and gunicorn serve, and the class that puts gunicorn's workers on our loop."""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request, WebSocket, WebSocketDisconnect
from fastapi.responses import StreamingResponse
from uvicorn_worker import UvicornWorker

started = asyncio.Event()


@asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
    started.set()
    yield
    started.clear()


app = FastAPI(lifespan=lifespan)


class Worker(UvicornWorker):
    """A gunicorn worker on aioxide's loop."""

    CONFIG_KWARGS = {"loop": "aioxide:new_event_loop", "http": "auto"}


def loop_name() -> str:
    loop = type(asyncio.get_running_loop())
    return f"{loop.__module__.partition('.')[0]}.{loop.__name__}"


@app.get("/loop")
async def loop() -> dict[str, object]:
    return {"loop": loop_name(), "pid": os.getpid(), "parent": os.getppid(), "started": started.is_set()}


@app.post("/digest")
async def digest(request: Request) -> dict[str, object]:
    sha, size = hashlib.sha256(), 0
    async for chunk in request.stream():
        sha.update(chunk)
        size += len(chunk)
    return {"sha256": sha.hexdigest(), "size": size}


@app.get("/count")
async def count(up_to: int) -> StreamingResponse:
    async def lines() -> AsyncIterator[bytes]:
        for number in range(up_to):
            yield b"%d\n" % number
            if number % 10 == 0:
                await asyncio.sleep(0)

    return StreamingResponse(lines(), media_type="text/plain")


@app.get("/blocking")
def blocking(value: int) -> dict[str, int]:
    time.sleep(0.01)  # a plain function: Starlette runs it in a thread
    return {"value": value}


@app.websocket("/ws")
async def websocket(socket: WebSocket) -> None:
    await socket.accept()
    try:
        while True:
            message = await socket.receive_text()
            await socket.send_json({"echo": message, "loop": loop_name()})
    except WebSocketDisconnect:
        return
