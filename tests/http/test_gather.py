"""gather_get: many requests as one."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from aioxide import http
from aioxide._native import HttpServer
from aioxide.http._gather import gather


def test_all_in_order(runner: asyncio.Runner) -> None:
    async def main(url: str) -> None:
        urls = [f"{url}/{n}" for n in range(100)]
        started = time.perf_counter()
        responses = await http.gather_get(urls, limit=50, headers={"X": "y"})
        assert time.perf_counter() - started < 1.5
        assert [response.text for response in responses] == [f"/{n}" for n in range(100)]
        assert responses[3].request.headers["x"] == "y"
        assert responses[3].url == urls[3]
        assert await http.gather_get([]) == []

    with HttpServer(latency=0.05) as own:
        runner.run(main(own.url))
        assert own.requests_served() == 100


def test_as_they_complete(runner: asyncio.Runner, url: str) -> None:
    async def main() -> None:
        delays = [200, 0, 100]
        requests = http.gather_get([f"{url}/delay/{each}" for each in delays])
        assert len(requests) == 3
        done = [each async for each in requests]
        assert [each.index for each in done] == [1, 2, 0]
        assert [each.url.path for each in done] == ["/delay/0", "/delay/100", "/delay/200"]
        assert all(each.result() is each.response and each.error is None for each in done)
        with pytest.raises(RuntimeError, match="once"):
            await requests

    runner.run(main())


def test_errors_are_values_or_raised(runner: asyncio.Runner, url: str, refused_url: str) -> None:
    async def main() -> None:
        urls = [f"{url}/close", f"{url}/ok", refused_url, "ftp://127.0.0.1/", "/relative"]
        results: list[Any] = await http.gather_get(urls, return_exceptions=True)
        kinds = [type(each) for each in results]
        assert kinds == [
            http.RemoteProtocolError,
            http.Response,
            http.ConnectError,
            http.UnsupportedProtocol,
            http.UnsupportedProtocol,
        ]
        assert [results[n].request.url for n in (0, 2, 3, 4)] == [urls[n] for n in (0, 2, 3, 4)]
        assert results[1].text == "/ok"
        with pytest.raises(http.RemoteProtocolError):
            await http.gather_get([f"{url}/delay/5000", f"{url}/close"])
        async for done in http.gather_get([f"{url}/close"]):
            assert done.response is None
            with pytest.raises(http.RemoteProtocolError):
                done.result()
        with pytest.raises(http.InvalidURL):
            http.gather_get(["http://h:port/"])
        with pytest.raises(ValueError, match="limit"):
            http.gather_get([url], limit=0)

    runner.run(main())


def test_no_more_than_the_limit_at_once(runner: asyncio.Runner, url: str) -> None:
    async def main() -> None:
        async with http.AsyncClient(base_url=url) as client:
            most = 0
            async for _ in client.gather_get([f"/delay/{n % 7}" for n in range(60)], limit=4):
                most = max(most, client.statistics()["requests_in_flight"])
            assert 1 <= most <= 4
            assert client.statistics()["requests_in_flight"] == 0

    runner.run(main())


def test_the_client_s_settings(runner: asyncio.Runner, url: str) -> None:
    async def main() -> None:
        async with http.AsyncClient(base_url=url, headers={"X-A": "1"}, params={"p": "q"}) as client:
            (response,) = await client.gather_get(["/echo"])
            assert response.url == f"{url}/echo?p=q"
            assert response.request.headers["x-a"] == "1"
            with pytest.raises(http.ReadTimeout):
                await client.gather_get(["/delay/5000"], timeout=0.1)
            assert not client.is_closed
        async with http.AsyncClient(base_url=url, auth=("user", "pass")) as client:
            (response,) = await client.gather_get(["/echo"])
            assert response.request.headers["authorization"] == "Basic dXNlcjpwYXNz"
            (response,) = await client.gather_get([f"{url}/echo".replace("//", "//own:own@")])
            assert response.request.headers["authorization"] == "Basic dXNlcjpwYXNz"
        (response,) = await http.gather_get([f"{url}/echo".replace("//", "//own:own@")])
        assert response.request.headers["authorization"] == "Basic b3duOm93bg=="
        async with http.AsyncClient(base_url=url, auth=http.Auth()) as client:
            with pytest.raises(NotImplementedError):  # as a caller of ours is told who decides about redirects himself
                gather(client, ["/"], limit=1)

    runner.run(main())


def test_what_is_decided_for_each_request(runner: asyncio.Runner, url: str) -> None:
    """Redirects, retries, hooks, several requests of an auth, custom transports: as if each were sent alone."""
    hooked: list[str] = []

    async def hook(request: http.Request) -> None:
        hooked.append(request.url.path)

    class Twice(http.Auth):
        def auth_flow(self, request: http.Request) -> Any:
            yield request
            request.headers["X-Second"] = "yes"
            yield request

    async def paths(client: http.AsyncClient, *urls: str) -> list[str]:
        async with client:
            responses = await client.gather_get(urls, limit=2)
            assert [each.status_code for each in responses] == [200] * len(urls)
            return [each.url.path for each in responses]

    async def main() -> None:
        redirects = [f"{url}/redirect/{number}" for number in range(1, 5)]
        client = http.AsyncClient(follow_redirects=True, event_hooks={"request": [hook]})
        assert await paths(client, *redirects) == ["/redirect/0"] * 4
        assert len(hooked) == 2 + 3 + 4 + 5
        async with http.AsyncClient(auth=Twice()) as client:
            (response,) = await client.gather_get([f"{url}/echo"])
            assert response.request.headers["x-second"] == "yes" and len(response.history) == 1
        transport = http.MockTransport(lambda request: http.Response(200))
        assert await paths(http.AsyncClient(transport=transport), "http://h/1", "http://h/2") == ["/1", "/2"]

    runner.run(main())


def test_tasks_end_with_their_gather(runner: asyncio.Runner) -> None:
    started: list[str] = []

    async def answer(request: http.Request) -> http.Response:
        started.append(request.url.path)
        if request.url.path == "/fails":
            raise http.ReadError("it broke")
        await asyncio.sleep(0 if request.url.path == "/quick" else 60)
        return http.Response(200)

    async def main() -> None:
        async with http.AsyncClient(transport=http.MockTransport(answer)) as client:
            with pytest.raises(http.ReadError, match="it broke"):
                await client.gather_get(["http://h/slow", "http://h/fails", "http://h/never"], limit=2)
            assert started[:2] == ["/slow", "/fails"]
            requests = client.gather_get(["http://h/slow", "http://h/quick"])
            async with requests:
                async for done in requests:
                    assert done.index == 1 and done.result().status_code == 200
                    break
            results = await client.gather_get(["http://h/quick", "http://h/fails"], return_exceptions=True)
            assert [type(each) for each in results] == [http.Response, http.ReadError]
            waiting = asyncio.create_task(client.gather_get(["http://h/slow"] * 3)._all())
            await asyncio.sleep(0.01)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            assert await client.gather_get([]) == []
            with pytest.raises(RuntimeError, match="once only"):
                async for _ in requests:
                    pass
            with pytest.raises(ValueError, match="limit="):
                client.gather_get(["http://h/"], limit=0)
        assert len(asyncio.all_tasks()) == 1

    runner.run(main())


def test_ending_early_drops_the_rest(runner: asyncio.Runner, url: str) -> None:
    urls = ["/delay/10", *["/delay/5000"] * 5]

    async def main() -> None:
        async with http.AsyncClient(base_url=url) as client:
            async with client.gather_get(urls) as requests:
                async for done in requests:
                    assert done.index == 0
                    break
            await asyncio.sleep(0.05)
            assert client.statistics()["requests_in_flight"] == 0

            requests = client.gather_get(urls)
            async for _ in requests:
                break
            await requests.aclose()
            await requests.aclose()
            await asyncio.sleep(0.05)
            assert client.statistics()["requests_in_flight"] == 0

            async def wait_for_all() -> None:
                await client.gather_get(urls)

            task = asyncio.ensure_future(wait_for_all())
            await asyncio.sleep(0.1)
            assert client.statistics()["requests_in_flight"] == 5
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await asyncio.sleep(0.05)
            assert client.statistics()["requests_in_flight"] == 0
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.1):
                    async for _ in client.gather_get(urls):
                        pass
            await asyncio.sleep(0.05)
            # The one that was answered is kept open.
            assert (client.statistics()["requests_in_flight"], client.statistics()["connections_open"]) == (0, 1)

    runner.run(main())


def test_never_started(runner: asyncio.Runner, url: str) -> None:
    async def main() -> None:
        requests = http.gather_get([url])
        await requests.aclose()
        with pytest.raises(RuntimeError, match="once"):
            await requests
        http.gather_get([url])

    runner.run(main())
