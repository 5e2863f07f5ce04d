"""Where results go: records in batches, each on disk before the journal says so."""

from __future__ import annotations

import base64
import json
import os
import sys
import time
from pathlib import Path
from typing import Any, BinaryIO, Final, Protocol

from ._journal import Journal, JournalError
from ._many import FetchResult
from ._records import Bodies, Record, keeper_of, record_of, sync

_BATCH_RESULTS_MAX: Final = 2000
_BATCH_BYTES_MAX: Final = 8 * 1024 * 1024
_BATCH_SECONDS_MAX: Final = 1.0
# In a folder of results the records are here, the bodies beside it.
_INDEX: Final = "index.jsonl"
_to_json: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


class Sink(Protocol):
    """A format of records. What it has written has a length, in a unit of its own, that a journal can note."""

    def add(self, record: Record) -> int:
        """Take a record; gives about how many bytes it holds until `write`."""

    def write(self) -> int:
        """Write what was added, safely if there is a journal; gives the length with it. OSError if it cannot."""

    def close(self) -> None:
        """End. What was added and not written is lost."""


class Output:
    """Takes results, and commits them in batches: a batch is on disk before the journal says so."""

    def __init__(self, name: str | None, journal: Journal | None, bodies: Bodies | None) -> None:
        """To what `name` says: a Parquet file, a folder (``NAME/``), else JSON lines; None is standard output.

        `bodies` None is what is usual for the format. JournalError if what the journal tells of is not there.
        """
        self._journal = journal
        path = folder = None if name is None else Path(name)
        is_folder = format_of(name) == "folder"
        if path is not None and is_folder:
            path.mkdir(parents=True, exist_ok=True)
            path /= _INDEX
        elif path is not None:
            folder = path.with_name(path.name + ".bodies")
        self._keeper = keeper_of(bodies or ("rows" if is_folder else "inline"), folder)
        self._sink = self._open(path, format_of(name))
        self._rows: list[int] = []
        self._batch_bytes = 0
        self._committed = time.monotonic()

    def _open(self, path: Path | None, kind: str) -> Sink:
        length = 0 if self._journal is None else self._journal.output_length
        if path is not None and kind == "parquet":
            from ._parquet import Parquet

            return Parquet(path, length)
        return JsonLines(path, None if self._journal is None else length)

    def add(self, result: FetchResult) -> None:
        """Add a result, and commit the batch when it is full or has waited for long enough. As `commit`."""
        self._batch_bytes += self._sink.add(record_of(result, self._keeper))
        self._rows.append(result.row.index)
        is_full = len(self._rows) >= _BATCH_RESULTS_MAX or self._batch_bytes >= _BATCH_BYTES_MAX
        if is_full or time.monotonic() - self._committed >= _BATCH_SECONDS_MAX:
            self.commit()

    def commit(self) -> None:
        """Write what was added, and note it in the journal.

        OSError when the disk is full or a body cannot be written: then nothing of the batch is committed.
        """
        # A batch that failed is not tried again: some of it may be on disk.
        rows, self._rows = self._rows, []
        if not rows:
            return
        if self._journal is not None:
            self._keeper.sync()
        length = self._sink.write()
        if self._journal is not None:
            self._journal.commit(rows, length)
        self._batch_bytes = 0
        self._committed = time.monotonic()

    def close(self) -> None:
        """Close what was opened. What was not committed is lost."""
        self._sink.close()


def format_of(name: str | None) -> str:
    """The format that a name stands for: ``parquet``, ``folder`` or ``json``.

    >>> [format_of(name) for name in ("pages/", "pages.parquet", "pages.jsonl", None)]
    ['folder', 'parquet', 'json', 'json']
    """
    if name is None:
        return "json"
    if name.endswith("/") or Path(name).is_dir():
        return "folder"
    return "parquet" if name.endswith(".parquet") else "json"


class JsonLines:
    """A file with a JSON object on each line, in the order in which results came. Its length is in bytes."""

    def __init__(self, path: Path | None, length: int | None) -> None:
        """`length` is what a journal says is the file's; None if there is no journal."""
        self._file: BinaryIO = sys.stdout.buffer if path is None else open(path, "ab")
        self._is_durable = length is not None
        self._lines: list[bytes] = []
        if path is not None and length is not None:
            if os.fstat(self._file.fileno()).st_size < length:
                self._file.close()
                raise JournalError(f"{path} has lost results that its journal tells of: remove both to begin anew")
            # What a killed run wrote without committing it.
            self._file.truncate(length)
            self._file.seek(0, os.SEEK_END)
            sync(path.parent)

    def add(self, record: Record) -> int:
        """Take a record."""
        line = _to_json(_as_json(record)).encode() + b"\n"
        self._lines.append(line)
        return len(line)

    def write(self) -> int:
        """Append the lines."""
        self._file.write(b"".join(self._lines))
        self._file.flush()
        self._lines.clear()
        if not self._is_durable:
            return 0
        os.fsync(self._file.fileno())
        return self._file.tell()

    def close(self) -> None:
        """Close the file, unless it is standard output."""
        if self._file is not sys.stdout.buffer:
            self._file.close()


def _as_json(record: Record) -> dict[str, Any]:
    content = record.get("body")
    if content is None:
        return record
    try:
        return record | {"body": content.decode()}
    except UnicodeDecodeError:
        del record["body"]
        return record | {"body_base64": base64.b64encode(content).decode()}
