"""Hedged requests: a second is sent when the first takes long, and the sooner answer is taken."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from tests.http.listening import Listener

import aioxide
from aioxide import http

LONG = 5.0
SOON = 0.05


class Replicas(Listener):
    """Answers each connection's requests after the delay of its number; None closes it instead. Counts what ends."""

    def __init__(self, *delays: float | None) -> None:
        self.delays = list(delays)
        self.requests: list[bytes] = []
        self.dropped = threading.Semaphore(0)
        self._lock = threading.Lock()
        self._connections = 0
        super().__init__()
        self.url = f"http://127.0.0.1:{self.port}"

    def serve(self, connection: socket.socket) -> None:
        with self._lock:
            number = self._connections
            self._connections += 1
        delay = self.delays[number] if number < len(self.delays) else 0.0
        with connection:
            connection.settimeout(10)
            while True:
                head = b""
                while b"\r\n\r\n" not in head:
                    try:
                        received = connection.recv(65536)
                    except OSError:
                        received = b""
                    if not received:
                        self.dropped.release()
                        return
                    head += received
                if head.endswith(b"\r\n\r\n") and b" HTTP/1.1\r\n" not in head:
                    continue  # the end of a chunked body
                with self._lock:
                    self.requests.append(head.partition(b"\r\n")[0])
                if delay is None:
                    return
                if delay:
                    # Until the answer is due, or the client gives up.
                    connection.settimeout(delay)
                    try:
                        if not connection.recv(1):
                            self.dropped.release()
                            return
                    except TimeoutError:
                        connection.settimeout(10)
                body = str(number).encode()
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))


@pytest.fixture
def replicas() -> Iterator[Any]:
    made: list[Replicas] = []

    def start(*delays: float | None) -> Replicas:
        made.append(Replicas(*delays))
        return made[-1]

    yield start
    for each in made:
        each.close()


def ask(kind: Any, url: str, method: str = "GET", count: int = 1, **options: Any) -> list[http.Response]:
    """One after the other, by one client, which is whole afterwards."""
    request = {name: options.pop(name) for name in ("content", "extensions", "stream") if name in options}
    if kind is None:
        with http.Client(**options) as client:
            responses = [client.request(method, url, **request) for _ in range(count)]
            check_whole(client)
        return responses

    async def main() -> list[http.Response]:
        async with http.AsyncClient(**options) as client:
            responses = [await client.request(method, url, **request) for _ in range(count)]
            check_whole(client)
            return responses

    with asyncio.Runner(loop_factory=kind) as runner:
        return runner.run(main())


def check_whole(client: Any) -> None:
    """No request is under way, and no slot of the pool is lost; the background engine's thread may take a moment."""
    deadline = time.monotonic() + 5
    while True:
        statistics = client.statistics()
        is_idle = statistics["requests_in_flight"] == statistics["requests_waiting"] == 0
        if is_idle and statistics["connections_open"] == statistics["connections_idle"]:
            return
        assert time.monotonic() < deadline, statistics
        time.sleep(0.001)


each_kind = pytest.mark.parametrize(
    "kind", [None, asyncio.new_event_loop, aioxide.new_event_loop], ids=["blocking", "asyncio", "aioxide"]
)


@each_kind
def test_the_sooner_answer_is_taken(replicas: Any, kind: Any) -> None:
    slow = replicas(LONG)
    begun = time.monotonic()
    (response,) = ask(kind, slow.url, hedge_after=SOON)
    assert time.monotonic() - begun < LONG
    assert response.text == "1" and slow.requests == [b"GET / HTTP/1.1"] * 2
    assert slow.dropped.acquire(timeout=5)  # the first one's connection was closed
    timeline = response.timeline
    assert SOON <= timeline["hedge"] <= timeline["queue"] <= timeline["first_byte"] <= timeline["total"] < LONG


@each_kind
def test_the_first_may_be_the_sooner_one(replicas: Any, kind: Any) -> None:
    server = replicas(4 * SOON, LONG)
    (response,) = ask(kind, server.url, hedge_after=SOON)
    assert response.text == "0" and response.timeline["queue"] < response.timeline["hedge"]
    assert server.dropped.acquire(timeout=5)


@each_kind
def test_a_quick_answer_is_not_hedged(replicas: Any, kind: Any) -> None:
    server = replicas()
    (response,) = ask(kind, server.url, hedge_after=LONG)
    assert "hedge" not in response.timeline and len(server.requests) == 1


@each_kind
def test_what_may_do_harm_twice_is_sent_once(replicas: Any, kind: Any) -> None:
    async def pieces() -> Any:
        yield b"a"

    streamed = iter([b"a"]) if kind is None else pieces()
    for method, options in [("POST", {"content": b"a"}), ("PATCH", {}), ("PUT", {"content": streamed})]:
        server = replicas(4 * SOON)
        (response,) = ask(kind, server.url, method, hedge_after=SOON, **options)
        assert "hedge" not in response.timeline and len(server.requests) == 1, method
    server = replicas(LONG)
    (response,) = ask(kind, server.url, "PUT", hedge_after=SOON, content=b"whole")
    assert response.text == "1"


@each_kind
def test_a_request_may_say_so_itself(replicas: Any, kind: Any) -> None:
    server = replicas(LONG)
    assert ask(kind, server.url, extensions={"hedge_after": SOON})[0].text == "1"
    server = replicas(4 * SOON)
    (response,) = ask(kind, server.url, hedge_after=SOON, extensions={"hedge_after": None})
    assert response.text == "0" and len(server.requests) == 1


@each_kind
def test_one_that_fails_leaves_it_to_the_other(replicas: Any, kind: Any) -> None:
    server = replicas(4 * SOON, None, None)
    assert ask(kind, server.url, hedge_after=SOON)[0].text == "0"
    server = replicas(LONG, None)
    with pytest.raises(http.TransportError):
        ask(kind, server.url, hedge_after=SOON, timeout=http.Timeout(5, read=0.3))


@each_kind
def test_the_budget_is_kept_to(replicas: Any, kind: Any) -> None:
    server = replicas(*[LONG, 0.0] * 10, *[4 * SOON] * 4)
    limits = http.Limits(max_keepalive_connections=0)
    responses = ask(kind, server.url, count=14, hedge_after=SOON, hedge_budget=0, limits=limits)
    assert ["hedge" in each.timeline for each in responses] == [True] * 10 + [False] * 4
    assert len(server.requests) == 24


@each_kind
def test_a_full_pool_is_not_filled_further(replicas: Any, kind: Any) -> None:
    server = replicas(4 * SOON)
    (response,) = ask(kind, server.url, hedge_after=SOON, limits=http.Limits(max_connections=1))
    assert response.text == "0" and "hedge" not in response.timeline


@each_kind
def test_the_total_counts_from_the_first(replicas: Any, kind: Any) -> None:
    server = replicas(LONG, LONG)
    begun = time.monotonic()
    with pytest.raises(http.ReadTimeout, match="the total of 0.3 s is over"):
        ask(kind, server.url, hedge_after=0.2, timeout=http.Timeout(LONG, total=0.3))
    assert time.monotonic() - begun < 2


def test_cancelling_drops_both(runner: asyncio.Runner, replicas: Any) -> None:
    async def main() -> None:
        server = replicas(LONG, LONG)
        async with http.AsyncClient(hedge_after=SOON) as client:
            task = asyncio.create_task(client.get(server.url))
            while len(server.requests) < 2:
                await asyncio.sleep(0.01)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await asyncio.to_thread(server.dropped.acquire)
            await asyncio.to_thread(server.dropped.acquire)
            check_whole(client)

    runner.run(main())


def test_gathered_requests_are_hedged_too(runner: asyncio.Runner, replicas: Any) -> None:
    async def main() -> None:
        server = replicas(LONG)
        async with http.AsyncClient(hedge_after=SOON) as client:
            responses = await client.gather_get([server.url] * 3)
            assert "0" not in [each.text for each in responses]
            check_whole(client)

    runner.run(main())


def test_streamed_responses_are_hedged_until_their_head(replicas: Any) -> None:
    with http.Client(hedge_after=SOON) as client:
        with client.stream("GET", replicas(LONG).url) as response:
            assert response.read() == b"1" and response.timeline["hedge"] >= SOON
        check_whole(client)


def test_the_settings_are_checked() -> None:
    with pytest.raises(ValueError, match="hedge_budget"):
        http.Client(hedge_budget=1.5)
    with pytest.raises(ValueError, match="hedge_after=-1"):
        http.Client(hedge_after=-1).get("http://127.0.0.1:1/")
