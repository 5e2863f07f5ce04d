"""The functions and the blocking Client, against the embedded server."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from aioxide import http
from aioxide._native import HttpServer

from .conftest import ScriptedServer, echoed


def test_each_function(url: str) -> None:
    echo = f"{url}/echo"
    for name in ("get", "options", "delete"):
        assert echoed(getattr(http, name)(echo, headers={"X-Mine": "1"}))["method"] == name.upper()
    for name in ("post", "put", "patch"):
        told = echoed(getattr(http, name)(echo, content=b"body"))
        assert (told["method"], told["body"]) == (name.upper(), "body")
    head = http.head(f"{url}/bytes/10")
    assert (head.status_code, head.content, head.headers["content-length"]) == (200, b"", "10")
    assert echoed(http.request("PURGE", echo))["method"] == "PURGE"
    with http.stream("GET", f"{url}/bytes/100000") as response:
        assert sum(map(len, response.iter_bytes())) == 100_000


def test_each_method_of_a_client(url: str) -> None:
    with http.Client(base_url=url) as client:
        for name in ("get", "options", "delete", "post", "put", "patch"):
            assert echoed(getattr(client, name)("/echo"))["method"] == name.upper()
        assert client.head("/bytes/10").content == b""
        assert echoed(client.request("POST", "echo", json=[1]))["body"] == "[1]"
        assert client.send(client.build_request("GET", "/bytes/3")).num_bytes_downloaded == 3
        assert client.send(http.Request("GET", f"{url}/bytes/3")).status_code == 200


def test_what_a_response_tells(url: str) -> None:
    response = http.get(f"{url}/hello")
    assert (response.status_code, response.reason_phrase, response.http_version) == (200, "OK", "HTTP/1.1")
    assert response.extensions["http_version"] == b"HTTP/1.1"
    assert response.headers["content-type"].startswith("text/plain")
    assert response.text == "/hello"
    assert (response.url, response.request.method) == (f"{url}/hello", "GET")
    assert (response.history, response.is_closed, response.is_stream_consumed) == ([], True, True)
    assert 0 < response.elapsed.total_seconds() < 5
    assert set(response.timeline) <= {"queue", "dns", "connect", "sent", "first_byte", "total"}
    assert 0 < response.timeline["total"] < 5
    assert response.timeline["first_byte"] <= response.timeline["total"]
    assert http.get(f"{url}/status/404").reason_phrase == "Not Found"
    with pytest.raises(json.JSONDecodeError):
        response.json()


def test_a_client_s_settings_go_with_each_request(url: str) -> None:
    with http.Client(
        base_url=f"{url}/base",
        headers={"X-A": "client", "X-B": "client", "User-Agent": "me"},
        params={"p": "client", "q": "client"},
        cookies={"c": "client"},
        auth=("user", "pass"),
    ) as client:
        request = client.build_request(
            "GET", "sub", headers={"x-b": "request"}, params={"q": "request"}, cookies={"d": "2"}
        )
        assert str(request.url) == f"{url}/base/sub?p=client&q=request"
        assert request.extensions["timeout"] == http.Timeout(5).as_dict()
        client.base_url = url
        got = echoed(client.get("/echo", headers={"x-b": "request"}, cookies={"d": "2"}))["headers"]
    assert (got["x-a"], got["x-b"], got["user-agent"], got["accept"]) == ("client", "request", "me", "*/*")
    assert got["cookie"] == "c=client; d=2"
    assert got["authorization"] == "Basic dXNlcjpwYXNz"


def test_bodies_arrive_whole(url: str) -> None:
    with http.Client(base_url=url) as client:
        assert echoed(client.post("/echo", data={"a": "x y"}))["body"] == "a=x+y"
        assert echoed(client.post("/echo", json={"a": "é"}))["headers"]["content-type"] == "application/json"
        echo = echoed(client.post("/echo", content=iter([b"a", b"b"])))
        assert (echo["body"], echo["headers"]["transfer-encoding"]) == ("ab", "chunked")
        assert 'name="f"; filename="n.txt"' in echoed(client.post("/echo", files={"f": ("n.txt", b"x")}))["body"]
        big = "x" * 1_000_000
        assert echoed(client.post("/echo", content=big))["body"] == big
        assert len(client.get("/bytes/3000000").content) == 3_000_000
        assert echoed(client.post("/echo"))["headers"]["content-length"] == "0"

        async def pieces() -> Any:
            yield b""

        with pytest.raises(RuntimeError, match="async"):
            client.post("/echo", content=pieces())


@pytest.mark.parametrize(
    "path",
    ["/a b|c^d'`{}", "/%zz", "//double//slash", "/a%2Fb%2e/c", "/é?é=ü&x=%&y=a b", "/?", "/?a?b", "/a[b]c;d=1,2"],
)
def test_the_path_goes_out_as_the_url_says(scripted: ScriptedServer, path: str) -> None:
    url = http.URL(scripted.url + path)
    http.get(url)
    assert scripted.requests[0].path.encode() == url.raw_path


def test_credentials(url: str) -> None:
    def authorization(**kwargs: Any) -> str | None:
        return echoed(http.get(kwargs.pop("at", f"{url}/echo"), **kwargs))["headers"].get("authorization")

    assert authorization(auth=("user", "pass")) == "Basic dXNlcjpwYXNz"
    assert authorization(auth=http.BasicAuth(b"user", b"pass")) == "Basic dXNlcjpwYXNz"
    assert authorization(at=f"{url}/echo".replace("//", "//us%65r:pass@")) == "Basic dXNlcjpwYXNz"
    assert authorization() is None

    def with_token(request: http.Request) -> http.Request:
        request.headers["Authorization"] = "Bearer x"
        return request

    assert authorization(auth=with_token) == "Bearer x"
    with http.Client(auth=("user", "pass")) as client:
        assert "authorization" not in echoed(client.get(f"{url}/echo", auth=None))["headers"]
    for wrong in (1, ("user",)):
        with pytest.raises(TypeError):
            http.get(f"{url}/echo", auth=wrong)  # type: ignore[arg-type]


def test_an_authentication_of_several_requests(url: str) -> None:
    class Challenge(http.Auth):
        requires_request_body = True
        requires_response_body = True

        def auth_flow(self, request: http.Request) -> Any:
            first = yield request
            request.headers["X-Answer"] = str(len(first.content))
            yield request

    with http.Client(auth=Challenge()) as client:
        response = client.post(f"{url}/echo", content=iter([b"abc"]))
        assert echoed(response)["headers"]["x-answer"] == str(len(response.history[0].content))
        assert echoed(response)["body"] == "abc"
        with client.stream("GET", f"{url}/echo") as response:
            response.read()
            assert "x-answer" in echoed(response)["headers"]


def test_hooks_see_each_request_and_response(url: str, eventually: Callable[[Callable[[], bool]], None]) -> None:
    seen: list[Any] = []
    hooks: dict[str, list[Any]] = {"request": [seen.append], "response": [seen.append, lambda r: seen.append(r.read())]}
    with http.Client(event_hooks=hooks, follow_redirects=True) as client:
        response = client.get(f"{url}/redirect/1")
        assert [type(each).__name__ for each in seen] == ["Request", "Response", "bytes"] * 2
        assert seen[4] is response
        client.event_hooks = {"response": [http.Response.raise_for_status]}
        with pytest.raises(http.HTTPStatusError), client.stream("GET", f"{url}/status/500"):
            raise AssertionError("the hook raises first")
        eventually(lambda: client.statistics()["requests_in_flight"] == 0)
        with pytest.raises(ValueError, match="hooks"):
            client.event_hooks = {"other": []}


def test_a_closed_client_refuses(url: str) -> None:
    with http.Client() as client:
        client.get(url)
        with pytest.raises(RuntimeError, match="open"):
            client.__enter__()
    assert client.is_closed
    client.close()
    for call in (lambda: client.get(url), client.__enter__, lambda: client.stream("GET", url).__enter__()):
        with pytest.raises(RuntimeError, match="closed"):
            call()


def test_what_is_not_there_yet_is_named() -> None:
    for kind in (http.Client, http.AsyncClient):
        with pytest.raises(ValueError, match="both be False"):
            kind(http1=False)


def test_connections_are_kept_and_used_again() -> None:
    with HttpServer() as own, http.Client(base_url=own.url) as client:
        for _ in range(20):
            client.get("/")
        assert own.requests_served() == 20
        statistics = client.statistics()
        assert (statistics["connections_open"], statistics["connections_idle"], statistics["requests_in_flight"]) == (
            1,
            1,
            0,
        )


def test_many_threads_share_one_client() -> None:
    with HttpServer(latency=0.05) as own, http.Client(base_url=own.url) as client, ThreadPoolExecutor(20) as pool:
        started = time.perf_counter()
        texts = list(pool.map(lambda n: client.get(f"/{n}").text, range(100)))
        taken = time.perf_counter() - started
        assert texts == [f"/{n}" for n in range(100)]
        # One after the other they would take 5 s.
        assert taken < 2.5
        assert own.requests_served() == 100
        assert client.statistics()["requests_in_flight"] == 0


def test_other_threads_run_while_one_waits(url: str) -> None:
    beats = 0
    done = threading.Event()

    def beat() -> None:
        nonlocal beats
        while not done.is_set():
            beats += 1
            time.sleep(0.005)

    thread = threading.Thread(target=beat)
    thread.start()
    http.get(f"{url}/delay/300")
    done.set()
    thread.join()
    assert beats > 10


def test_making_a_client_is_quick() -> None:
    http.Client().close()
    started = time.perf_counter()
    for _ in range(100):
        http.Client().close()
    assert (time.perf_counter() - started) / 100 < 0.001
