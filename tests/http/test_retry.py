"""Retries: what is sent again, how often, after which pause, within which budget."""

from __future__ import annotations

import asyncio
import time
from email.utils import formatdate
from typing import Any

import pytest

from aioxide import http


class Unreliable(http.BaseTransport, http.AsyncBaseTransport):
    """Fails as told, one request after the other, then answers 200."""

    def __init__(self, *failures: Exception | int | http.Response) -> None:
        self.failures = list(failures)
        self.bodies: list[bytes] = []
        self.totals: list[float | None] = []

    def handle_request(self, request: http.Request) -> http.Response:
        self.bodies.append(request.read())
        self.totals.append(request.extensions["timeout"].get("total"))
        failure = self.failures.pop(0) if self.failures else 200
        if isinstance(failure, Exception):
            raise failure
        return failure if isinstance(failure, http.Response) else http.Response(failure)

    async def handle_async_request(self, request: http.Request) -> http.Response:
        await request.aread()
        return self.handle_request(request)


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    taken: list[float] = []
    monkeypatch.setattr("time.sleep", taken.append)
    return taken


def client(*failures: Any, **settings: Any) -> tuple[http.Client, Unreliable]:
    transport = Unreliable(*failures)
    return http.Client(transport=transport, retry=http.Retry(**{"jitter": 0, **settings})), transport


def test_it_is_sent_again_after_growing_pauses(pauses: list[float]) -> None:
    ours, transport = client(http.ConnectError("x"), 503, http.ReadTimeout("x"), attempts=4, max_pause=1.5)
    response = ours.put("http://h/", content=b"body")
    assert (response.status_code, response.num_retries) == (200, 3)
    assert pauses == [0.5, 1.0, 1.5] and transport.bodies == [b"body"] * 4


def test_only_so_often(pauses: list[float]) -> None:
    ours, transport = client(503, 503, 503)
    assert ours.get("http://h/").status_code == 503
    assert len(transport.bodies) == 3
    ours, transport = client(*[http.ReadError("x")] * 3)
    with pytest.raises(http.ReadError) as caught:
        ours.get("http://h/")
    assert caught.value.request.url.host == "h" and len(transport.bodies) == 3


def test_what_is_not_sent_again(pauses: list[float]) -> None:
    for failure in (http.ReadError("x"), http.RemoteProtocolError("x")):
        ours, transport = client(failure)
        with pytest.raises(type(failure)):
            ours.post("http://h/", content=b"order")
    for failure in (http.LocalProtocolError("x"), http.UnsupportedProtocol("x")):
        ours, transport = client(failure)
        with pytest.raises(type(failure)):
            ours.get("http://h/")
    ours, transport = client(503)
    assert ours.post("http://h/").status_code == 503
    ours, transport = client(404)
    assert ours.get("http://h/").status_code == 404
    assert pauses == []
    # Nothing of it was sent: this one is safe.
    ours, transport = client(http.ConnectTimeout("x"))
    assert ours.post("http://h/", content=b"order").status_code == 200


def test_what_the_server_asks_for(pauses: list[float]) -> None:
    def answered(retry_after: str) -> http.Response:
        return http.Response(429, headers={"Retry-After": retry_after})

    in_ten_seconds = formatdate(time.time() + 10, usegmt=True)
    ours, _ = client(answered("7"), answered(in_ten_seconds), answered("nonsense"), attempts=4)
    assert ours.get("http://h/").status_code == 200
    assert pauses[0] == 7 and 8 < pauses[1] <= 10 and pauses[2] == 2
    ours, _ = client(answered("3600"))
    assert ours.get("http://h/").status_code == 429, "more than max_pause"


def test_the_budget_bounds_what_a_broken_server_costs(pauses: list[float]) -> None:
    ours, transport = client(*[503] * 1000, budget=0.1)
    for _ in range(100):
        assert ours.get("http://h/").status_code == 503
    # Ten at the start, and a tenth of a hundred.
    assert 118 <= len(transport.bodies) <= 121


def test_jitter_and_checks(pauses: list[float]) -> None:
    retry = http.Retry(backoff=1, jitter=1, budget=1)
    for _ in range(50):
        ours = http.Client(transport=Unreliable(503), retry=retry)
        ours.get("http://h/")
    assert len(pauses) == 50 and all(0 <= pause <= 1 for pause in pauses) and len(set(pauses)) > 10
    for wrong in ({"attempts": 0}, {"jitter": 2}, {"backoff": -1}, {"budget": -0.1}):
        with pytest.raises(ValueError, match="Retry needs"):
            http.Retry(**wrong)  # type: ignore[arg-type]


def test_the_total_is_for_all_attempts(runner: asyncio.Runner) -> None:
    transport = Unreliable(*[503] * 100)
    retry = http.Retry(attempts=100, backoff=0.05, max_pause=0.05, jitter=0, budget=1)

    async def main() -> None:
        timeout = http.Timeout(5, total=0.3)
        async with http.AsyncClient(transport=transport, retry=retry, timeout=timeout) as ours:
            started = time.monotonic()
            assert (await ours.get("http://h/")).status_code == 503
            assert time.monotonic() - started < 1

    runner.run(main())
    given = [total for total in transport.totals if total is not None]
    assert 2 <= len(given) <= 8 and given == sorted(given, reverse=True)


def test_gathered_requests_are_sent_again_too(runner: asyncio.Runner) -> None:
    async def main() -> None:
        transport = Unreliable(503, http.ConnectError("x"))
        async with http.AsyncClient(transport=transport, retry=http.Retry(backoff=0)) as ours:
            (response,) = await ours.gather_get(["http://h/"])
            assert (response.status_code, response.num_retries) == (200, 2)

    runner.run(main())
