"""Equal requests that are under way at once: one is sent, and nobody is lost. Stale responses that are revalidated."""

from __future__ import annotations

import asyncio
import random
import threading
from typing import Any

import pytest
from tests.http.origins import Answer, Origin, fresh

from aioxide import http


class Gate(http.AsyncBaseTransport):
    """Answers once it is opened; `answer` may raise."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.opened = asyncio.Event()
        self.arrived = 0

    async def handle_async_request(self, request: http.Request) -> http.Response:
        self.arrived += 1
        await self.opened.wait()
        return self.answer(request)


async def started(gate: Gate, count: int, url: str = "http://h/", **options: Any) -> tuple[http.AsyncClient, list[Any]]:
    client = http.AsyncClient(cache=True, transport=gate)
    tasks = [asyncio.create_task(client.get(url, **options)) for _ in range(count)]
    for _ in range(20):
        await asyncio.sleep(0)
    return client, tasks


def test_equal_requests_are_sent_once() -> None:
    async def main() -> None:
        gate = Gate(fresh)
        client, tasks = await started(gate, 10)
        assert gate.arrived == 1
        gate.opened.set()
        responses = await asyncio.gather(*tasks)
        assert [each.text for each in responses] == ["shared"] * 10 and gate.arrived == 1
        assert [each.extensions["cache"] for each in responses] == ["miss"] + ["shared"] * 9
        assert not client._cache.flights.under_way  # type: ignore[union-attr]
        await client.aclose()

    asyncio.run(main())


def test_a_cancelled_request_leaves_the_others_theirs() -> None:
    async def main() -> None:
        gate = Gate(fresh)
        client, tasks = await started(gate, 5)
        tasks[0].cancel()
        tasks[3].cancel()
        for _ in range(20):
            await asyncio.sleep(0)
        assert gate.arrived == 2  # one of the others leads now
        gate.opened.set()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        assert [isinstance(each, asyncio.CancelledError) for each in outcomes] == [True, False, False, True, False]
        assert gate.arrived == 2 and not client._cache.flights.under_way  # type: ignore[union-attr]
        await client.aclose()

    asyncio.run(main())


def test_an_error_reaches_all() -> None:
    def fail(request: http.Request) -> http.Response:
        raise http.ReadError("it broke")

    async def main() -> None:
        gate = Gate(fail)
        client, tasks = await started(gate, 4)
        gate.opened.set()
        errors = await asyncio.gather(*tasks, return_exceptions=True)
        assert [(type(each), str(each)) for each in errors] == [(http.ReadError, "it broke")] * 4
        assert len({id(each) for each in errors}) == len({id(each.request) for each in errors}) == 4
        assert gate.arrived == 1
        await client.aclose()

    asyncio.run(main())


@pytest.mark.parametrize("fields", [{"Cache-Control": "no-store"}, {}, {"Cache-Control": "max-age=9", "Vary": "X-Id"}])
def test_what_may_not_be_shared_is_not(fields: dict[str, str]) -> None:
    ids = iter(range(100))

    async def main() -> None:
        gate = Gate(lambda request: http.Response(200, headers=fields, text=request.headers["x-id"]))
        client = http.AsyncClient(cache=True, transport=gate)
        tasks = [asyncio.create_task(client.get("http://h/", headers={"X-Id": str(next(ids))})) for _ in range(5)]
        for _ in range(20):
            await asyncio.sleep(0)
        assert gate.arrived == 1
        gate.opened.set()
        assert sorted([(await each).text for each in tasks]) == ["0", "1", "2", "3", "4"]
        assert gate.arrived == 5
        await client.aclose()

    asyncio.run(main())


def test_requests_that_differ_are_sent_each() -> None:
    async def main() -> None:
        gate = Gate(fresh)
        client = http.AsyncClient(cache=True, transport=gate)
        options: list[dict[str, Any]] = [
            {},
            {"timeout": 3},
            {"headers": {"Accept": "a"}},
            {"headers": {"Cookie": "a=1"}},
        ]
        tasks = [asyncio.create_task(client.get("http://h/", **each)) for each in options]
        for _ in range(20):
            await asyncio.sleep(0)
        assert gate.arrived == 4
        gate.opened.set()
        await asyncio.gather(*tasks)
        await client.aclose()

    asyncio.run(main())


def test_who_waits_waits_no_longer_than_its_limit() -> None:
    async def main() -> None:
        gate = Gate(fresh)
        client, tasks = await started(gate, 2, timeout=http.Timeout(5, total=0.05))
        with pytest.raises(http.ReadTimeout, match="h: an equal request"):
            await tasks[1]
        gate.opened.set()
        assert (await tasks[0]).text == "shared"  # a custom transport heeds no limit
        await client.aclose()

    asyncio.run(main())


def test_threads_and_loops_share_one_request() -> None:
    opened, arrived = threading.Event(), threading.Semaphore(0)

    def answer(request: http.Request) -> http.Response:
        arrived.release()
        assert opened.wait(10)
        return fresh(request)

    cache, origin = http.Cache(), Origin(answer)
    outcomes: list[str] = []

    def block() -> None:
        with http.Client(cache=cache, transport=origin) as client:
            outcomes.append(client.get("http://h/").extensions["cache"])

    async def main() -> None:
        async with http.AsyncClient(cache=cache, transport=origin) as client:
            outcomes.append((await client.get("http://h/")).extensions["cache"])

    leader = threading.Thread(target=block)
    leader.start()
    assert arrived.acquire(timeout=10)
    others = [threading.Thread(target=block), threading.Thread(target=lambda: asyncio.run(main()))]
    for each in others:
        each.start()
    flight = next(iter(cache.flights.under_way.values()))
    while len(flight._waiting) < 2:
        threading.Event().wait(0.001)
    opened.set()
    for each in [leader, *others]:
        each.join(10)
    assert sorted(outcomes) == ["miss", "shared", "shared"] and origin.sent() == 1


def test_blocking_code_does_not_wait_for_its_own_thread() -> None:
    """Else a transport that asks for what it is to answer would wait for ever."""
    depth = iter([True, False])
    origin = Origin(lambda request: client.get("http://h/") if next(depth) else fresh(request))
    with http.Client(cache=True, transport=origin) as client:
        assert client.get("http://h/").text == "shared"


@pytest.mark.parametrize("seed", range(5))
def test_nobody_is_lost_whatever_is_cancelled(seed: int) -> None:
    """Each who was not cancelled gets a response or the error that its request met; nothing is left over."""
    chance = random.Random(seed)

    async def answer(request: http.Request) -> http.Response:
        for _ in range(chance.randrange(6)):
            await asyncio.sleep(0)
        if chance.random() < 0.2:
            raise http.ReadError("it broke")
        fields = ["max-age=5", "no-store", "max-age=0, stale-while-revalidate=5", "max-age=0, stale-if-error=5"]
        headers = {"Cache-Control": chance.choice(fields), "Vary": chance.choice(["Accept", "X-A"]), "ETag": '"1"'}
        if "if-none-match" in request.headers and chance.random() < 0.5:
            return http.Response(304, headers=headers)
        return http.Response(200, headers=headers, text=request.url.path)

    async def ask(client: http.AsyncClient, path: str) -> str:
        headers = {"X-A": chance.choice("ab")}
        if chance.random() < 0.3:
            async with client.stream("GET", f"http://h{path}", headers=headers) as response:
                return (await response.aread()).decode()
        return (await client.get(f"http://h{path}", headers=headers)).text

    async def main() -> None:
        cache = http.Cache()
        async with http.AsyncClient(cache=cache, transport=http.MockTransport(answer)) as client:
            for _ in range(60):
                paths = [chance.choice(["/a", "/b", "/c"]) for _ in range(12)]
                tasks = [asyncio.create_task(ask(client, path)) for path in paths]
                cancelled = set()
                for _ in range(6):
                    await asyncio.sleep(0)
                    victim = chance.randrange(12)
                    if tasks[victim].cancel():
                        cancelled.add(victim)
                outcomes = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 10)
                for number, outcome in enumerate(outcomes):
                    if isinstance(outcome, asyncio.CancelledError):
                        assert number in cancelled, seed
                    elif not isinstance(outcome, http.ReadError):
                        assert outcome == paths[number], seed
                if chance.random() < 0.3:
                    cache.clear()
        assert not cache.flights.under_way and not client._background, seed
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(main())


def test_a_stale_response_is_given_while_it_is_revalidated() -> None:
    async def main() -> None:
        cache = http.Cache()
        clock = [1e9]
        cache.now = lambda: clock[0]
        versions = iter(range(10))

        def answer(request: http.Request) -> http.Response:
            headers = {"Cache-Control": "max-age=10, stale-while-revalidate=100"}
            return http.Response(200, headers=headers, text=str(next(versions)))

        gate = Gate(answer)
        gate.opened.set()
        async with http.AsyncClient(cache=cache, transport=gate) as client:
            assert (await client.get("http://h/")).text == "0"
            gate.opened.clear()
            clock[0] += 20
            stale = await asyncio.gather(*[client.get("http://h/") for _ in range(5)])
            assert [(each.text, each.extensions["cache"]) for each in stale] == [("0", "stale")] * 5
            while gate.arrived < 2:
                await asyncio.sleep(0)
            gate.opened.set()
            while client._background:
                await asyncio.sleep(0)
            again = await client.get("http://h/")
            assert (again.text, again.extensions["cache"], gate.arrived) == ("1", "hit", 2)
            # What is under way when the client is closed ends with it.
            gate.opened.clear()
            clock[0] += 20
            assert (await client.get("http://h/")).text == "1"
        assert not client._background and not cache.flights.under_way

    asyncio.run(main())


def test_blocking_code_revalidates_first() -> None:
    origin = Origin(
        lambda request: http.Response(200, headers={"Cache-Control": "max-age=0, stale-while-revalidate=100"})
    )
    with http.Client(cache=True, transport=origin) as client:
        assert [client.get("http://h/").extensions["cache"] for _ in range(2)] == ["miss", "miss"]
