"""Results as a Parquet file, which can only be written whole: the batches are files of their own until the end."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from ._journal import JournalError
from ._records import Record, sync
from ._rows import pyarrow

# The file tells how many batches it has: a kill between its renaming and the removal of the batches loses nothing.
_PARTS: Final = b"aioxide.parts"
_GROUP_ROWS_MAX: Final = 100_000
_GROUP_BYTES_MAX: Final = 64 * 1024 * 1024


class Parquet:
    """A Parquet file, and beside it a folder of the batches that are not in it yet. Its length is in batches.

    ValueError without pyarrow, JournalError if batches are missing that the journal tells of.
    """

    def __init__(self, path: Path, length: int) -> None:
        self._arrow, self._parquet = pyarrow(), pyarrow("pyarrow.parquet")
        self._path = path
        self._folder = path.with_name(path.name + ".parts")
        self._length = length
        self._records: list[Record] = []
        self._schema = _schema(self._arrow)
        self._folder.mkdir(parents=True, exist_ok=True)
        if length == 0:
            path.unlink(missing_ok=True)
        committed = {self._part(number) for number in range(self._merged(), length)}
        for leftover in set(self._folder.iterdir()) - committed:
            leftover.unlink()
        if not all(part.exists() for part in committed):
            raise JournalError(f"{path} has lost results that its journal tells of: remove both to begin anew")

    def _part(self, number: int) -> Path:
        return self._folder / f"{number:09}.parquet"

    def _merged(self) -> int:
        """How many batches the file has."""
        if not self._path.exists():
            return 0
        return int((self._parquet.read_schema(self._path).metadata or {}).get(_PARTS, b"0"))

    def add(self, record: Record) -> int:
        """Take a record."""
        self._records.append(record)
        return len(record.get("body") or b"") + sum(map(len, record.get("headers") or ())) + 200

    def write(self) -> int:
        """Write a batch."""
        table = self._arrow.Table.from_pylist([_flat(record) for record in self._records], schema=self._schema)
        with _whole(self._part(self._length)) as aside:
            self._parquet.write_table(table, aside)
        self._records.clear()
        self._length += 1
        return self._length

    def close(self) -> None:
        """Put the batches into the file. OSError if it cannot be written: then they stay, for the next run."""
        merged = self._merged()
        if merged < self._length or not self._path.exists():
            schema = self._schema.with_metadata({_PARTS: str(self._length)})
            with _whole(self._path) as aside, self._parquet.ParquetWriter(aside, schema) as writer:
                for table in self._groups(merged):
                    writer.write_table(table.cast(schema))
        for number in range(merged, self._length):
            self._part(number).unlink()
        self._folder.rmdir()

    def _groups(self, merged: int) -> Iterator[Any]:
        """What the file has already, and then the batches, several to a group of rows."""
        if merged:
            with self._parquet.ParquetFile(self._path) as file:
                for group in range(file.num_row_groups):
                    yield file.read_row_group(group)
        tables: list[Any] = []
        for number in range(merged, self._length):
            tables.append(self._parquet.read_table(self._part(number), schema=self._schema))
            rows, size = sum(each.num_rows for each in tables), sum(each.nbytes for each in tables)
            if rows >= _GROUP_ROWS_MAX or size >= _GROUP_BYTES_MAX or number == self._length - 1:
                yield self._arrow.concat_tables(tables).combine_chunks()
                tables = []


def _schema(arrow: Any) -> Any:
    return arrow.schema(
        [
            ("row", arrow.int64()),
            ("url", arrow.string()),
            ("method", arrow.string()),
            ("seconds", arrow.float64()),
            ("status", arrow.int16()),
            ("http_version", arrow.string()),
            ("final_url", arrow.string()),
            ("headers", arrow.map_(arrow.string(), arrow.string())),
            ("bytes", arrow.int64()),
            ("body", arrow.binary()),
            ("sha256", arrow.string()),
            ("file", arrow.string()),
            ("error_type", arrow.string()),
            ("error_message", arrow.string()),
        ]
    )


def _flat(record: Record) -> Record:
    row: Record = {"method": "GET", **record}
    if headers := row.get("headers"):
        row["headers"] = list(headers.items())
    if error := row.pop("error", None):
        row |= {"error_type": error["type"], "error_message": error["message"]}
    return row


@contextlib.contextmanager
def _whole(path: Path) -> Iterator[Path]:
    """A name to write under: the file gets its own when it is whole and on disk."""
    aside = path.with_name(path.name + ".partial")
    yield aside
    sync(aside)
    aside.rename(path)
    sync(path.parent)
