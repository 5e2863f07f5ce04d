"""HTTP servers that people run on a loop, each the way its own documentation shows, without access logs."""

from __future__ import annotations

import asyncio
import importlib
import logging
import socket
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from bench.servers import BACKLOG, Announce, address_of

BODY_BYTES = 1024
# What the load generator sends elsewhere, and compares each answer's body with.
BODY = bytes(n % 251 for n in range(BODY_BYTES))


def listen() -> socket.socket:
    return socket.create_server(("127.0.0.1", 0), backlog=BACKLOG)


async def serve_uvicorn(announce: Announce) -> None:
    uvicorn = importlib.import_module("uvicorn")

    async def application(
        scope: dict[str, Any],
        receive: Callable[[], Awaitable[dict[str, Any]]],
        send: Callable[[dict[str, Any]], Awaitable[None]],
    ) -> None:
        headers = [(b"content-type", b"application/octet-stream"), (b"content-length", str(BODY_BYTES).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": BODY})

    config = uvicorn.Config(
        application, http="httptools", ws="none", lifespan="off", log_level="warning", access_log=False
    )
    listener = listen()
    announce(address_of(listener.getsockname()))
    await uvicorn.Server(config).serve(sockets=[listener])


async def serve_aiohttp(announce: Announce) -> None:
    web = importlib.import_module("aiohttp.web")

    async def handler(request: Any) -> Any:
        return web.Response(body=BODY)

    application = web.Application()
    application.router.add_get("/", handler)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    listener = listen()
    await web.SockSite(runner, listener).start()
    announce(address_of(listener.getsockname()))
    await asyncio.get_running_loop().create_future()


async def serve_tornado(announce: Announce) -> None:
    import tornado.web
    from tornado.httpserver import HTTPServer

    class Handler(tornado.web.RequestHandler):
        def get(self) -> None:
            """Answer with the body."""
            self.write(BODY)

    logging.getLogger("tornado.access").setLevel(logging.ERROR)
    server = HTTPServer(tornado.web.Application([("/", Handler)]))
    listener = listen()
    listener.setblocking(False)
    server.add_sockets([listener])
    announce(address_of(listener.getsockname()))
    await asyncio.get_running_loop().create_future()


HTTP_SERVERS: dict[str, Callable[[Announce], Coroutine[Any, Any, None]]] = {
    "uvicorn": serve_uvicorn,
    "aiohttp": serve_aiohttp,
    "tornado": serve_tornado,
}
