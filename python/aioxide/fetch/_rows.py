"""What is to be fetched: rows, from arguments, templates, and files of several kinds."""

from __future__ import annotations

import csv
import importlib
import itertools
import json
import math
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TextIO

# The columns of a table that say how a row is asked for; the URL's column has a name that the user may choose.
_METHOD, _HEADERS, _BODY = "method", "headers", "body"

_RANGE: Final = re.compile(r"\{(\d+)\.\.(\d+)\}")


@dataclass(frozen=True, slots=True)
class Row:
    """One request to be made: its number in its source, from 0, and what to ask for."""

    index: int
    url: str
    method: str = "GET"
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None

    @property
    def is_plain(self) -> bool:
        """Whether it is a GET without anything of its own."""
        return self.method == "GET" and not self.headers and self.body is None


def expand(template: str) -> Iterator[str]:
    """The URLs of a template: each ``{first..last}`` in it counts; one without any is itself.

    Leading zeros are kept. ValueError if a range counts down.

    >>> list(expand("http://host/{8..10}"))
    ['http://host/8', 'http://host/9', 'http://host/10']
    >>> list(expand("http://host/{01..02}/{1..2}"))
    ['http://host/01/1', 'http://host/01/2', 'http://host/02/1', 'http://host/02/2']
    """
    texts, counts = _RANGE.split(template)[::3], _counts(template)
    widths = [len(first) if first.startswith("0") else 0 for first, _ in _RANGE.findall(template)]
    # product() would make lists of its ranges; the first, which may be long, is walked.
    for first_number in counts[0] if counts else [None]:
        for others in itertools.product(*counts[1:]):
            numbers = [] if first_number is None else [first_number, *others]
            shown = [str(number).zfill(width) for number, width in zip(numbers, widths, strict=True)]
            yield texts[0] + "".join(number + text for number, text in zip(shown, texts[1:], strict=True))


def _counts(template: str) -> list[range]:
    ranges = _RANGE.findall(template)
    for first, last in ranges:
        if int(last) < int(first):
            raise ValueError(f"{{{first}..{last}}} counts down: write {{{last}..{first}}}")
    return [range(int(first), int(last) + 1) for first, last in ranges]


def count(template: str) -> int:
    """How many URLs `expand` makes of it; ValueError as there.

    >>> count("http://host/{1..1000000000}/{01..12}"), count("http://host/")
    (12000000000, 1)
    """
    # Not by len(), which has a limit.
    return math.prod(numbers.stop - numbers.start for numbers in _counts(template))


def is_template(url: str) -> bool:
    """Whether a URL stands for several."""
    return _RANGE.search(url) is not None


def from_urls(urls: Iterable[str]) -> Iterator[Row]:
    """The rows of URLs and templates."""
    for index, url in enumerate(url for given in urls for url in expand(given)):
        yield Row(index, url)


def from_file(path: str, column: str = "url") -> Iterator[Row]:
    """The rows of a file, by its ending: ``.csv``, ``.jsonl`` (``.ndjson``), ``.parquet``, else a URL on each line.

    ``-`` is the standard input. Tables have the URL in `column`, and may have `method`, `headers` (JSON) and `body`.

    ValueError for a row that cannot be read, with its number; OSError if the file cannot be.
    """
    ending = Path(path).suffix.lower()
    if ending == ".parquet":
        tables: Iterable[Mapping[str, Any]] = _parquet(path)
        return (_row(index, each, column, path) for index, each in enumerate(tables))
    return _from_text(path, ending, column)


def _from_text(path: str, ending: str, column: str) -> Iterator[Row]:
    with _opened(path) as file:
        if ending == ".csv":
            for index, each in enumerate(csv.DictReader(file)):
                yield _row(index, each, column, path)
        elif ending in (".jsonl", ".ndjson"):
            lines = (line for line in file if line.strip())
            for index, line in enumerate(lines):
                yield _row(index, _json(line, index, path), column, path)
        else:
            urls = (line.strip() for line in file)
            for index, url in enumerate(url for url in urls if url and not url.startswith("#")):
                yield Row(index, url)


@contextmanager
def _opened(path: str) -> Iterator[TextIO]:
    if path == "-":
        yield sys.stdin
    else:
        with open(path, encoding="utf-8", newline="") as file:
            yield file


def _json(line: str, index: int, path: str) -> Mapping[str, Any]:
    try:
        value = json.loads(line)
    except ValueError as error:
        raise ValueError(f"{path}, row {index + 1}: {error}") from None
    return value if isinstance(value, dict) else {"url": value}


def _parquet(path: str) -> Iterator[Mapping[str, Any]]:
    parquet = pyarrow("pyarrow.parquet")
    with parquet.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=10_000):
            yield from batch.to_pylist()


def pyarrow(module: str = "pyarrow") -> Any:
    """Import a module of pyarrow's; ValueError if it is not installed."""
    try:
        return importlib.import_module(module)
    except ImportError:
        raise ValueError("Parquet files need pyarrow: pip install 'aioxide[parquet]'") from None


def _row(index: int, values: Mapping[str, Any], column: str, path: str) -> Row:
    def refuse(what: str) -> ValueError:
        return ValueError(f"{path}, row {index + 1}: {what}")

    url = values.get(column)
    if not isinstance(url, str) or not url:
        raise refuse(f"there is no URL in column {column!r} (its columns: {', '.join(map(str, values))})")
    headers = values.get(_HEADERS) or {}
    if isinstance(headers, str):
        headers = _json(headers, index, path)
    if not isinstance(headers, Mapping):
        raise refuse("its headers are not a JSON object")
    body = values.get(_BODY)
    if body is not None and not isinstance(body, (str, bytes)):
        body = json.dumps(body)
    return Row(
        index,
        url,
        str(values.get(_METHOD) or "GET").upper(),
        {str(name): str(value) for name, value in headers.items()},
        body.encode() if isinstance(body, str) and body else body or None,
    )


def row_maker() -> Callable[[str | Row | Mapping[str, Any]], Row]:
    """What makes a `Row` of each of what a program gives, and numbers those that are not rows yet."""
    numbers = itertools.count()

    def make(given: str | Row | Mapping[str, Any]) -> Row:
        index = next(numbers)
        if isinstance(given, Row):
            return given
        if isinstance(given, str):
            return Row(index, given)
        return _row(index, given, "url", "rows")

    return make
