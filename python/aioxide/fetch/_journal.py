"""The journal of a run: which rows are done, and how much of the output belongs to them."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from pathlib import Path
from typing import Final

_FORMAT: Final = "2"
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS done (first INTEGER PRIMARY KEY, rows BLOB NOT NULL);
"""
# Rows are noted as one bit each, so many to a record of the table.
_ROWS_EACH: Final = 8 * 1024


class JournalError(Exception):
    """The journal is of another run, is no journal, or cannot be written."""


class Journal:
    """What is done, in an SQLite database that survives a kill at any moment.

    A batch of rows and the output's length with them are committed at once. What the output has beyond that length
    was not committed, is cut off by the next run, and its rows are fetched again; what was committed never is.

    `run` says what is being fetched, in words: a journal that was begun with others belongs to another run.
    """

    def __init__(self, path: Path, run: str) -> None:
        self._path = path
        self._bits: dict[int, bytearray] = {}
        self.done = 0
        self.output_length = 0
        try:
            self._database = sqlite3.connect(path, isolation_level=None)
        except sqlite3.OperationalError as error:
            raise JournalError(f"{path}: {error}") from None
        try:
            self._begin(run)
        except BaseException:
            self._database.close()
            raise

    def _begin(self, run: str) -> None:
        """Read what was done before by the same run."""
        path = self._path
        try:
            self._database.execute("PRAGMA journal_mode = WAL")
            self._database.execute("PRAGMA synchronous = FULL")
            self._database.executescript(_SCHEMA)
        except sqlite3.OperationalError as error:
            raise JournalError(f"{path}: {error}") from None
        except sqlite3.DatabaseError as error:
            raise JournalError(f"{path} is no journal of aioxide fetch: {error}") from None
        facts = dict(self._database.execute("SELECT name, value FROM facts"))
        if facts.setdefault("format", _FORMAT) != _FORMAT:
            raise JournalError(f"{path} has format {facts['format']}, and this aioxide knows {_FORMAT}")
        if facts.setdefault("run", run) != run:
            raise JournalError(
                f"{path} is of another run ({facts['run']}, now {run}): remove it to begin anew, or name another output"
            )
        self.output_length = int(facts.get("output_length", "0"))
        for first, rows in self._database.execute("SELECT first, rows FROM done"):
            self._bits[first] = bytearray(rows)
            self.done += int.from_bytes(rows, "little").bit_count()
        with self._database:
            kept = [("format", _FORMAT), ("run", run)]
            self._database.executemany("INSERT OR REPLACE INTO facts VALUES (?, ?)", kept)

    def is_done(self, row: int) -> bool:
        """Whether the row was committed."""
        bits = self._bits.get(row // _ROWS_EACH)
        place = row % _ROWS_EACH
        return bits is not None and bool(bits[place // 8] >> (place % 8) & 1)

    def commit(self, rows: Iterable[int], output_length: int) -> None:
        """Note that the rows are done, and that the output, safely on disk, has that length with them.

        JournalError if that cannot be written.
        """
        changed = set()
        for row in rows:
            if self.is_done(row):
                continue
            block, place = divmod(row, _ROWS_EACH)
            self._bits.setdefault(block, bytearray(_ROWS_EACH // 8))[place // 8] |= 1 << (place % 8)
            changed.add(block)
            self.done += 1
        self.output_length = output_length
        blocks = [(block, bytes(self._bits[block])) for block in changed]
        try:
            self._database.execute("BEGIN IMMEDIATE")
            with self._database:
                self._database.executemany("INSERT OR REPLACE INTO done VALUES (?, ?)", blocks)
                length = ("output_length", str(output_length))
                self._database.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", length)
        except sqlite3.Error as error:
            raise JournalError(f"{self._path}: {error}") from None

    def close(self) -> None:
        """Close the database; the journal stays, for a run that goes on."""
        self._database.close()
