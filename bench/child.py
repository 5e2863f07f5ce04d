"""A contender's process: does one row's job on one contender, told what to do by lines of JSON on its input.

``python -m bench.child server|loop|client|http-server|https-server CONTENDER JOB``. Each answer is one line of JSON. It
ends when its input does, so that nothing is left running when the harness goes away.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import sys
import threading
import time
from typing import Any, cast

from bench import floor
from bench.contenders import FLOOR, loop_factory
from bench.http_servers import HTTP_SERVERS
from bench.loop_jobs import LOOP_JOBS, start_and_stop
from bench.servers import BACKLOG, SERVERS, server_context


def say(answer: dict[str, Any]) -> None:
    print(json.dumps(answer), flush=True)


def end_with_input() -> None:
    """Wait for the input's end, and leave at once: the loop in the main thread has no part in it."""
    sys.stdin.read()
    os._exit(0)


def serve(contender: str, job: str) -> None:
    """Run an echo server until the harness goes away."""
    if contender == FLOOR:
        floor.serve(job)
    threading.Thread(target=end_with_input, daemon=True).start()
    with asyncio.Runner(loop_factory=loop_factory(contender)) as runner:
        runner.run((SERVERS | HTTP_SERVERS)[job](lambda address: say({"address": address})))


def time_rounds(work: Any, warm_up: Any = None) -> None:
    """For each line of the input do the work once, and answer how long it took; the warm-up does not count."""
    for line in sys.stdin:
        order = json.loads(line)
        if warm_up is not None:
            warm_up(order)
        begin, begin_cpu = time.perf_counter(), time.process_time()
        latencies = work(order) or ()
        seconds, cpu_seconds = time.perf_counter() - begin, time.process_time() - begin_cpu
        answer = {"operations": order["operations"], "seconds": seconds, "cpu_seconds": cpu_seconds}
        if latencies:
            percentiles = statistics.quantiles(latencies, n=100)
            answer |= {"latency_p50": percentiles[49], "latency_p99": percentiles[98]}
        say(answer)


def run_on_loop(contender: str, job: str) -> None:
    """Do a job of the loop alone, once for each line of the input."""
    if job == "start_and_stop":
        factory = loop_factory(contender)
        say({})
        time_rounds(lambda order: start_and_stop(factory, order["operations"]))
        return
    with asyncio.Runner(loop_factory=loop_factory(contender)) as runner:
        say({"loop": str(type(runner.get_loop()))})
        time_rounds(lambda order: runner.run(LOOP_JOBS[job](order["operations"])))


def run_client(contender: str, job: str) -> None:
    """Make requests of the server that each line of the input names."""
    from bench import clients

    client = clients.make(contender, blocking=job == "http_get_sync")
    say({})

    def get(order: dict[str, Any], requests: int) -> Any:
        return client.get(order["url"], requests, order["connections"], order["bytes_each"])

    # Others have had their turn since the last round: whoever has closed its connections meanwhile opens them first.
    time_rounds(lambda order: get(order, order["operations"]), lambda order: get(order, order["connections"]))
    client.close()


def serve_http(bytes_each: int) -> None:
    """Run the engine's own HTTP server until the harness goes away."""
    from aioxide._native import HttpServer

    with HttpServer(body_size=bytes_each) as server:
        say({"url": server.url})
        sys.stdin.read()


def serve_https(bytes_each: int) -> None:
    """Answer every GET with so many bytes, over TLS, until the harness goes away."""
    import aioxide

    response = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % bytes_each + bytes(bytes_each)

    class Answering(asyncio.Protocol):
        transport: asyncio.Transport
        held = b""

        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport = cast("asyncio.Transport", transport)

        def data_received(self, data: bytes) -> None:
            *heads, self.held = (self.held + data).split(b"\r\n\r\n")
            for _ in heads:
                self.transport.write(response)

    async def listen() -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(Answering, "127.0.0.1", 0, backlog=BACKLOG, ssl=server_context())
        say({"url": f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"})
        await asyncio.Event().wait()

    threading.Thread(target=end_with_input, daemon=True).start()
    aioxide.run(listen())


def main(kind: str, contender: str, job: str) -> None:
    match kind:
        case "server":
            serve(contender, job)
        case "loop":
            run_on_loop(contender, job)
        case "client":
            run_client(contender, job)
        case "http-server":
            serve_http(int(job))
        case "https-server":
            serve_https(int(job))
        case _:
            raise ValueError(kind)


if __name__ == "__main__":
    main(*sys.argv[1:])
