"""Where responses are kept: limits, several threads and processes, what a database survives."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from aioxide import http


def entry(body: bytes = b"body", selector: bytes = b"s", received_at: float = 1e9, **options: Any) -> http.CacheEntry:
    return http.CacheEntry(
        200,
        [(b"Cache-Control", b"max-age=60"), (b"Set-Cookie", b"a: b"), (b"Set-Cookie", b"")],
        body,
        selector=selector,
        vary=["accept", "x"],
        requested_at=received_at,
        received_at=received_at,
        reason=b"Fine",
        **options,
    )


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    made = http.MemoryCacheStore() if request.param == "memory" else http.SQLiteCacheStore(tmp_path / "cache.db")
    yield made
    made.close()
    made.close()


def test_what_is_put_is_got(store: Any) -> None:
    assert store.get("a") == [] and len(store) == 0
    put = entry()
    store.put("a", put)
    (got,) = store.get("a")
    for name in (
        "status",
        "headers",
        "body",
        "selector",
        "vary",
        "requested_at",
        "received_at",
        "reason",
        "http_version",
    ):
        assert getattr(got, name) == getattr(put, name), name
    store.put("a", entry(b"newer"))
    store.put("a", entry(b"other", b"t"))
    store.put("b", entry())
    assert sorted(each.body for each in store.get("a")) == [b"newer", b"other"] and len(store) == 3
    store.delete("a")
    store.delete("never")
    assert store.get("a") == [] and len(store) == 1
    store.clear()
    assert len(store) == 0


def test_variants_have_a_limit(store: Any) -> None:
    for number in range(50):
        store.put("a", entry(str(number).encode(), str(number).encode(), 1e9 + number))
    assert {int(each.body) for each in store.get("a")} == set(range(18, 50))


def test_the_least_recently_used_go_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [1e9]
    monkeypatch.setattr("time.time", lambda: clock[0])
    stores: list[Any] = [
        http.MemoryCacheStore(max_bytes=10_000),
        http.SQLiteCacheStore(tmp_path / "cache.db", max_bytes=10_000),
    ]
    for store in stores:
        for key in "abcdef":
            store.put(key, entry(b"x" * 1000))  # 6 of about 1550 bytes
            clock[0] += 100
        store.get("a")
        clock[0] += 100
        store.put("g", entry(b"x" * 1000))
        kept = {key for key in "abcdefg" if store.get(key)}
        assert {"a", "g"} <= kept and "b" not in kept and len(kept) >= 4, store
        store.put("a", entry(b"x" * 10_001))  # too much for all of it: what is there is out of date
        assert store.get("a") == []
        store.close()


def test_one_url_full_of_variants() -> None:
    store = http.MemoryCacheStore(max_bytes=5_000)
    for number in range(10):
        store.put("a", entry(b"x" * 1000, str(number).encode()))
    assert [each.selector for each in store.get("a")] == [b"7", b"8", b"9"]
    assert store._bytes <= 5_000
    store.clear()
    assert store._bytes == 0
    keys = http.MemoryCacheStore(max_keys=2)
    for key in "abc":
        keys.put(key, entry())
    assert len(keys) == 2 and keys.get("a") == []


def test_limits_are_checked(tmp_path: Path) -> None:
    for make in (
        lambda: http.MemoryCacheStore(max_bytes=0),
        lambda: http.MemoryCacheStore(max_keys=0),
        lambda: http.SQLiteCacheStore(tmp_path / "a", max_bytes=0),
    ):
        with pytest.raises(ValueError, match="at least 1"):
            make()


def test_many_threads_at_once(store: Any) -> None:
    failures: list[BaseException] = []

    def work(name: str) -> None:
        try:
            for number in range(50):
                store.put(f"{number % 7}", entry(name.encode(), name.encode()))
                assert all(each.body == each.selector for each in store.get(f"{number % 5}"))
                if number % 10 == 0:
                    store.delete(f"{number % 3}")
        except BaseException as error:  # noqa: BLE001 - shown below
            failures.append(error)

    threads = [threading.Thread(target=work, args=[str(number)]) for number in range(6)]
    for each in threads:
        each.start()
    for each in threads:
        each.join(60)
    assert failures == []


def test_a_database_outlives_its_process(tmp_path: Path) -> None:
    path = tmp_path / "cache.db"
    program = f"""
from aioxide import http
origin = http.MockTransport(lambda request: http.Response(200, headers={{"Cache-Control": "max-age=600"}}, text="kept"))
with http.Cache(http.SQLiteCacheStore({str(path)!r})) as cache, http.Client(cache=cache, transport=origin) as client:
    response = client.get("http://h/")
    print(response.text, response.extensions["cache"])
"""
    outcomes = [
        subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout.split()
        for _ in range(2)
    ]
    assert outcomes == [["kept", "miss"], ["kept", "hit"]]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_no_secret_of_a_request_is_written(tmp_path: Path) -> None:
    path = tmp_path / "cache.db"
    origin = http.MockTransport(
        lambda request: http.Response(200, headers={"Cache-Control": "max-age=600", "Vary": "Cookie"}, text="kept")
    )
    secrets = {"Authorization": "Bearer very-secret", "Cookie": "session=very-secret"}
    with http.Cache(http.SQLiteCacheStore(path)) as cache:
        with http.Client(cache=cache, transport=origin) as client:
            url = "http://user:very-secret@h/"
            assert [client.get(url, headers=secrets).extensions["cache"] for _ in range(2)] == ["miss", "hit"]
            assert client.get("http://h/").extensions["cache"] == "miss"
        assert "very-secret" not in repr(cache)
    assert b"very-secret" not in path.read_bytes() and b"kept" in path.read_bytes()


def test_a_database_of_another_version_is_emptied(tmp_path: Path) -> None:
    path = tmp_path / "cache.db"
    store = http.SQLiteCacheStore(path)
    store.put("a", entry())
    store.close()
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    store = http.SQLiteCacheStore(path)
    assert store.get("a") == []
    store.put("a", entry())
    assert len(store.get("a")) == 1
    store.close()


def test_what_is_no_database_costs_no_request(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "cache.db"
    path.write_bytes(b"not a database, whatever its name says" * 100)
    with http.Cache(http.SQLiteCacheStore(path)) as cache:
        transport = http.MockTransport(lambda request: http.Response(200, headers={"Cache-Control": "max-age=600"}))
        with http.Client(cache=cache, transport=transport) as client:
            assert client.get("http://h/").status_code == 200
    assert "not a database" in caplog.text
    with pytest.raises(RuntimeError, match="is closed"):
        cache.store.get("a")


def test_a_loop_uses_it_in_a_thread(tmp_path: Path) -> None:
    threads: set[int] = set()

    class Watched(http.SQLiteCacheStore):
        def get(self, key: str) -> list[http.CacheEntry]:
            threads.add(threading.get_ident())
            return super().get(key)

    async def main() -> list[str]:
        transport = http.MockTransport(lambda request: http.Response(200, headers={"Cache-Control": "max-age=600"}))
        with http.Cache(Watched(tmp_path / "cache.db")) as cache:
            async with http.AsyncClient(cache=cache, transport=transport) as client:
                async with client.stream("GET", "http://h/") as response:
                    await response.aread()
                return [(await client.get("http://h/")).extensions["cache"] for _ in range(2)]

    assert asyncio.run(main()) == ["hit", "hit"]
    assert threads and threading.get_ident() not in threads


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_a_forked_child_opens_its_own_connection(tmp_path: Path) -> None:
    program = f"""
import os, sys
from aioxide import http
from aioxide.http import CacheEntry
def entry(body):
    return CacheEntry(200, [], body, selector=body, vary=[], requested_at=1.0, received_at=1.0)
store = http.SQLiteCacheStore({str(tmp_path / "cache.db")!r})
store.put("a", entry(b"parent"))
child = os.fork()
if child == 0:
    store.put("a", entry(b"child"))
    store.close()
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
assert sorted(each.body for each in store.get("a")) == [b"child", b"parent"]
store.close()
"""
    subprocess.run([sys.executable, "-c", program], check=True)
