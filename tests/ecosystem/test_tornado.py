"""A Tornado application and Tornado's client on our loop."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import tornado.web
from tornado.httpclient import AsyncHTTPClient, HTTPClientError
from tornado.httpserver import HTTPServer
from tornado.ioloop import IOLoop, PeriodicCallback
from tornado.iostream import StreamClosedError
from tornado.tcpclient import TCPClient
from tornado.tcpserver import TCPServer
from tornado.testing import bind_unused_port
from tornado.websocket import WebSocketHandler, websocket_connect

import aioxide


class Plain(tornado.web.RequestHandler):
    def get(self, number: str) -> None:
        self.write({"number": int(number)})


class Executor(tornado.web.RequestHandler):
    async def post(self) -> None:
        size = await IOLoop.current().run_in_executor(None, len, self.request.body)
        assert isinstance(asyncio.get_running_loop(), aioxide.EventLoop)
        self.write(str(size))


class Generator(tornado.web.RequestHandler):
    @tornado.gen.coroutine
    def get(self) -> Any:
        for number in range(50):
            self.write(f"{number}\n")
            yield self.flush()
            yield tornado.gen.moment


class Failing(tornado.web.RequestHandler):
    async def get(self) -> None:
        raise tornado.web.HTTPError(418)


class Echo(WebSocketHandler):
    async def on_message(self, message: str | bytes) -> None:
        await self.write_message(message, binary=isinstance(message, bytes))


def application() -> tornado.web.Application:
    handlers = [(r"/n/(\d+)", Plain), ("/size", Executor), ("/lines", Generator), ("/fail", Failing), ("/ws", Echo)]
    return tornado.web.Application(handlers, log_function=lambda _handler: None)


def test_http(runner: asyncio.Runner) -> None:
    async def main() -> None:
        sock, port = bind_unused_port()
        server = HTTPServer(application())
        server.add_socket(sock)
        client = AsyncHTTPClient(force_instance=True, max_clients=25)
        base = f"http://127.0.0.1:{port}"
        ticks: list[float] = []
        ticking = PeriodicCallback(lambda: ticks.append(IOLoop.current().time()), 10)
        ticking.start()

        async def number(n: int) -> None:
            answer = await client.fetch(f"{base}/n/{n}")
            assert tornado.escape.json_decode(answer.body) == {"number": n}

        async def size(n: int) -> None:
            answer = await client.fetch(f"{base}/size", method="POST", body=b"x" * n)
            assert int(answer.body) == n

        async def lines() -> None:
            assert (await client.fetch(f"{base}/lines")).body.split() == [b"%d" % n for n in range(50)]

        async def fail() -> None:
            try:
                await client.fetch(f"{base}/fail")
            except HTTPClientError as error:
                assert error.code == 418
            else:
                raise AssertionError("418 is an error")

        async with asyncio.TaskGroup() as group:
            for n in range(100):
                group.create_task(number(n))
                group.create_task(size(n * 5000))
            for _ in range(20):
                group.create_task(lines())
                group.create_task(fail())
        assert len(ticks) > 3 and ticks == sorted(ticks)
        ticking.stop()
        client.close()
        server.stop()
        await server.close_all_connections()

    runner.run(main())


def test_websocket(runner: asyncio.Runner) -> None:
    async def talk(port: int, seed: int) -> None:
        rng = random.Random(seed)
        socket = await websocket_connect(f"ws://127.0.0.1:{port}/ws", ping_interval=1)
        sent = [rng.randbytes(rng.randrange(70_000)) if rng.random() < 0.5 else str(rng.random()) for _ in range(30)]
        for message in sent:
            await socket.write_message(message, binary=isinstance(message, bytes))
        assert [await socket.read_message() for _ in sent] == sent
        socket.close()
        assert await socket.read_message() is None

    async def main() -> None:
        sock, port = bind_unused_port()
        server = HTTPServer(application())
        server.add_socket(sock)
        await asyncio.gather(*(talk(port, seed) for seed in range(15)))
        server.stop()
        await server.close_all_connections()

    runner.run(main())


class Upper(TCPServer):
    async def handle_stream(self, stream: Any, address: Any) -> None:
        try:
            while True:
                stream.write((await stream.read_until(b"\n")).upper())
        except StreamClosedError:
            return


def test_streams(runner: asyncio.Runner) -> None:
    """`IOStream` watches its socket by `add_reader` and `add_writer`, and not by a transport."""

    async def main() -> None:
        sock, port = bind_unused_port()
        server = Upper()
        server.add_socket(sock)

        async def talk(number: int) -> None:
            stream = await TCPClient().connect("127.0.0.1", port)
            for turn in range(50):
                line = f"line {turn} of {number} ".encode() * turn
                await stream.write(line + b"\n")
                assert await stream.read_until(b"\n") == line.upper() + b"\n"
            stream.close()

        await asyncio.gather(*(talk(number) for number in range(30)))
        server.stop()

    runner.run(main())


def test_ioloop_is_a_wrapper() -> None:
    """`IOLoop(asyncio_loop=...)` started and stopped by Tornado itself, with callbacks from another thread."""
    import threading

    loop = IOLoop(asyncio_loop=aioxide.new_event_loop(), make_current=False)
    seen: list[int] = []

    def elsewhere() -> None:
        for number in range(1000):
            loop.add_callback(seen.append, number)
        loop.add_callback(loop.stop)

    thread = threading.Thread(target=elsewhere)
    loop.add_callback(thread.start)
    loop.start()
    thread.join()
    assert seen == list(range(1000))
    loop.close(all_fds=True)
    assert loop.asyncio_loop.is_closed()
