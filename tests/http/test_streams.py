"""Bodies read piece by piece by blocking code."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from aioxide import http


def test_pieces_come_as_they_are_sent(url: str) -> None:
    with http.Client() as client, client.stream("GET", f"{url}/stream/5/10/50") as response:
        assert not response.is_closed
        started = time.perf_counter()
        times = [time.perf_counter() - started for _ in response.iter_bytes()]
    assert len(times) == 5
    assert times[0] < times[-1] - 0.1
    assert response.is_closed
    assert response.num_bytes_downloaded == 50


def test_each_way_to_read(url: str) -> None:
    with http.Client(base_url=url) as client:
        with client.stream("GET", "/stream/3/5/1") as response:
            assert [len(piece) for piece in response.iter_bytes(6)] == [6, 6, 3]
        with client.stream("GET", "/stream/3/5/1") as response:
            assert len("".join(response.iter_text())) == 15
        with client.stream("GET", "/hello") as response:
            assert list(response.iter_lines()) == ["/hello"]
        with client.stream("GET", "/stream/3/5/1") as response:
            assert len(response.read()) == 15
            assert len(response.text) == 15
        with client.stream("HEAD", "/bytes/10") as response:
            assert response.read() == b""
        # The thread that reads streams may give a connection back a moment after the next request asked for one.
        assert 1 <= client.statistics()["connections_open"] <= 2


def test_left_midway(url: str, eventually: Callable[[Callable[[], bool]], None]) -> None:
    with http.Client(base_url=url) as client:
        with client.stream("GET", "/stream/1000/1000/1") as response:
            for _ in response.iter_bytes():
                break
        with client.stream("GET", "/stream/1000/1000/1") as response:
            pass
        with pytest.raises(http.StreamClosed):
            response.read()
        with pytest.raises(ZeroDivisionError), client.stream("GET", "/stream/1000/1000/1") as response:
            raise ZeroDivisionError
        response = client.send(client.build_request("GET", "/stream/1000/1000/1"), stream=True)
        del response
        eventually(lambda: client.statistics()["connections_open"] == 0)
        assert client.statistics()["requests_in_flight"] == 0


def test_a_stream_outlives_its_client_s_close(url: str) -> None:
    client = http.Client(base_url=url)
    with client.stream("GET", "/stream/3/5/20") as response:
        client.close()
        assert len(response.read()) == 15


def test_redirects_of_streams(url: str) -> None:
    with http.Client(base_url=url) as client:
        with client.stream("GET", "/redirect/2", follow_redirects=True) as response:
            assert response.status_code == 200
            assert len(response.history) == 2
            response.read()
        with client.stream("GET", "/redirect/2") as response:
            assert response.next_request is not None
            following = response.next_request
        assert client.send(following, follow_redirects=True).status_code == 200


def test_async_code_cannot_read_them(url: str) -> None:
    with http.Client() as client, client.stream("GET", f"{url}/bytes/10") as response:
        with pytest.raises(RuntimeError, match="async"):
            response.aread().send(None)
        with pytest.raises(RuntimeError, match="async"):
            response.aclose().send(None)
