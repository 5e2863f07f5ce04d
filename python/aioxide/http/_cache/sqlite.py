"""A store on disk, which outlives the process and which processes may share: an SQLite database."""

from __future__ import annotations

import os
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from threading import Lock

from .stores import VARIANTS_PER_KEY_MAX, CacheEntry, CacheStore

# A database of another version is emptied: it is only a cache.
_SCHEMA_VERSION = 1
_SCHEMA = """
CREATE TABLE entries (
    key TEXT NOT NULL, selector BLOB NOT NULL, vary TEXT NOT NULL, status INTEGER NOT NULL, reason BLOB NOT NULL,
    http_version BLOB NOT NULL, headers BLOB NOT NULL, body BLOB NOT NULL, requested_at REAL NOT NULL,
    received_at REAL NOT NULL, used_at REAL NOT NULL, size_bytes INTEGER NOT NULL,
    PRIMARY KEY (key, selector)
) WITHOUT ROWID;
CREATE INDEX entries_by_use ON entries (used_at, size_bytes);
"""
_COLUMNS = "status, headers, body, selector, vary, requested_at, received_at, reason, http_version"
_BUSY_SECONDS = 5.0
# So exactly is it noted when an entry was last used: a hit costs no write in between.
_USE_NOTED_SECONDS = 60.0
# What is above the limit is deleted together with a tenth more, so that not every response deletes another.
_KEPT_SHARE = 0.9


class SQLiteCacheStore(CacheStore):
    """Keeps responses in an SQLite database at `path`, which is made where there is none, readable by its user alone.

    `max_bytes`: of bodies and headers together; the least recently used go first. ValueError for a limit below 1.

    Several processes may use one database, and a forked child opens its own connection. An AsyncClient uses the store
    in a thread. Secrets that a request carried are not stored, but what the response says is, cookies too.

    >>> import tempfile
    >>> from aioxide import http
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with http.Cache(http.SQLiteCacheStore(f"{folder}/cache.db")) as cache:
    ...         with http.Client(cache=cache, transport=http.MockTransport(
    ...             lambda request: http.Response(200, headers={"Cache-Control": "max-age=60"}, text="hello")
    ...         )) as client:
    ...             [client.get("http://example.com/").extensions["cache"] for _ in range(2)]
    ['miss', 'hit']
    """

    blocks = True

    def __init__(self, path: str | os.PathLike[str], *, max_bytes: int = 268_435_456) -> None:
        if max_bytes < 1:
            raise ValueError("SQLiteCacheStore needs max_bytes of at least 1")
        self.path = Path(path)
        self.max_bytes = max_bytes
        self._lock = Lock()
        self._connection: sqlite3.Connection | None = None
        self._process = 0
        self._closed = False
        # More than there is, at most: other processes may have deleted some.
        self._bytes = 0

    def get(self, key: str) -> list[CacheEntry]:
        """All entries of the key."""
        with self._lock, self._open() as connection:
            rows = connection.execute(f"SELECT {_COLUMNS}, used_at FROM entries WHERE key = ?", [key]).fetchall()
            now = time.time()
            if any(abs(now - row[-1]) > _USE_NOTED_SECONDS for row in rows):
                connection.execute("UPDATE entries SET used_at = ? WHERE key = ?", [now, key])
        return [_entry(row) for row in rows]

    def put(self, key: str, entry: CacheEntry) -> None:
        """Store an entry, in the place of one with the same selector."""
        size = entry.size_bytes
        if size > self.max_bytes:
            self.delete(key)  # what is there is older
            return
        values = [
            *[key, entry.selector, ",".join(entry.vary), entry.status, entry.reason, entry.http_version],
            *[_head(entry), entry.body, entry.requested_at, entry.received_at, time.time(), size],
        ]
        with self._lock, self._open() as connection:
            connection.execute(f"INSERT OR REPLACE INTO entries VALUES ({', '.join('?' * len(values))})", values)
            connection.execute(
                "DELETE FROM entries WHERE key = ?1 AND selector IN "
                "(SELECT selector FROM entries WHERE key = ?1 ORDER BY received_at DESC LIMIT -1 OFFSET ?2)",
                [key, VARIANTS_PER_KEY_MAX],
            )
            self._bytes += size
            if self._bytes > self.max_bytes:
                self._make_room(connection)

    def _make_room(self, connection: sqlite3.Connection) -> None:
        self._bytes = _sum_of_sizes(connection)
        if self._bytes <= self.max_bytes:
            return
        kept = 0
        limit = self.max_bytes * _KEPT_SHARE
        for used_at, size in connection.execute("SELECT used_at, size_bytes FROM entries ORDER BY used_at DESC"):
            kept += size
            if kept > limit:
                # What is exactly as old as the first that is too much goes too, but never the newest.
                connection.execute(
                    "DELETE FROM entries WHERE used_at <= ? AND used_at < (SELECT max(used_at) FROM entries)", [used_at]
                )
                break
        self._bytes = _sum_of_sizes(connection)

    def delete(self, key: str) -> None:
        """Forget all entries of the key."""
        with self._lock, self._open() as connection:
            connection.execute("DELETE FROM entries WHERE key = ?", [key])

    def clear(self) -> None:
        """Forget everything."""
        with self._lock, self._open() as connection:
            connection.execute("DELETE FROM entries")
            self._bytes = 0

    def close(self) -> None:
        """Close the database. May be called again."""
        with self._lock:
            self._closed = True
            connection, self._connection = self._connection, None
            # A parent's connection is the parent's to close.
            if connection is not None and self._process == os.getpid():
                connection.close()

    def __len__(self) -> int:
        """How many entries there are."""
        with self._lock, self._open() as connection:
            (count,) = connection.execute("SELECT count(*) FROM entries").fetchone()
            return int(count)

    def _open(self) -> sqlite3.Connection:
        """The connection, as a context manager that commits. RuntimeError once the store is closed."""
        if self._closed:
            raise RuntimeError(f"the cache's store {self.path} is closed")
        if self._connection is None or self._process != os.getpid():
            self._process = os.getpid()
            self._connection = self._connect()
        return self._connection

    def _connect(self) -> sqlite3.Connection:
        # Made here if it is missing: SQLite would let others read it, and its journals take after it.
        os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        connection = sqlite3.connect(self.path, timeout=_BUSY_SECONDS, check_same_thread=False)
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
            with connection, closing(connection.cursor()) as cursor:
                cursor.execute("BEGIN IMMEDIATE")
                (version,) = cursor.execute("PRAGMA user_version").fetchone()
                if version != _SCHEMA_VERSION:
                    cursor.execute("DROP TABLE IF EXISTS entries")
                    for statement in filter(str.strip, _SCHEMA.split(";")):
                        cursor.execute(statement)
                    cursor.execute(f"PRAGMA user_version = {_SCHEMA_VERSION}")
            self._bytes = _sum_of_sizes(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def __repr__(self) -> str:
        return f"<SQLiteCacheStore {str(self.path)!r}>"


def _sum_of_sizes(connection: sqlite3.Connection) -> int:
    (total,) = connection.execute("SELECT coalesce(sum(size_bytes), 0) FROM entries").fetchone()
    return int(total)


def _head(entry: CacheEntry) -> bytes:
    """The fields, a line each: neither names nor values have line ends."""
    return b"\n".join(name + b":" + value for name, value in entry.headers)


def _entry(row: tuple[object, ...]) -> CacheEntry:
    status, head, body, selector, vary, requested_at, received_at, reason, http_version = row[:9]
    assert isinstance(head, bytes) and isinstance(vary, str)
    fields = [line.partition(b":") for line in head.split(b"\n")] if head else []
    return CacheEntry(
        status,  # type: ignore[arg-type]
        [(name, value) for name, _, value in fields],
        body,  # type: ignore[arg-type]
        selector=selector,  # type: ignore[arg-type]
        vary=vary.split(",") if vary else [],
        requested_at=requested_at,  # type: ignore[arg-type]
        received_at=received_at,  # type: ignore[arg-type]
        reason=reason,  # type: ignore[arg-type]
        http_version=http_version,  # type: ignore[arg-type]
    )
