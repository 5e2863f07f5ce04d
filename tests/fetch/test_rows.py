"""Where the rows of `aioxide fetch` come from."""

from __future__ import annotations

import importlib.util
import itertools
import json
import time
from pathlib import Path

import pytest

from aioxide.fetch import Row
from aioxide.fetch._rows import count, expand, from_file, from_urls


def test_a_template_counts_without_a_list() -> None:
    begin = time.monotonic()
    urls = expand("http://host/{1..100000000000}")
    assert list(itertools.islice(urls, 2)) == ["http://host/1", "http://host/2"]
    assert count("http://host/{1..100000000000}") == 100_000_000_000
    assert time.monotonic() - begin < 1
    assert list(expand("http://host/")) == ["http://host/"]
    with pytest.raises(ValueError, match="counts down: write {1..3}"):
        list(expand("http://host/{3..1}"))


def test_rows_are_numbered_through() -> None:
    assert list(from_urls(["http://a/{1..2}", "http://b/"])) == [
        Row(0, "http://a/1"),
        Row(1, "http://a/2"),
        Row(2, "http://b/"),
    ]


def test_lines(tmp_path: Path) -> None:
    file = tmp_path / "urls.txt"
    file.write_text("# comment\nhttp://a/\n\n  http://b/  \n")
    assert list(from_file(str(file))) == [Row(0, "http://a/"), Row(1, "http://b/")]


def test_csv(tmp_path: Path) -> None:
    file = tmp_path / "urls.csv"
    file.write_text('name,link,method,headers,body\nx,http://a/,put,"{""a"": 1}",text\ny,http://b/,,,\n')
    rows = list(from_file(str(file), "link"))
    assert rows == [Row(0, "http://a/", "PUT", {"a": "1"}, b"text"), Row(1, "http://b/")]
    with pytest.raises(ValueError, match=r"urls.csv, row 1: there is no URL in column 'url' \(its columns: name, link"):
        list(from_file(str(file)))


def test_json_lines(tmp_path: Path) -> None:
    file = tmp_path / "urls.jsonl"
    file.write_text(json.dumps("http://a/") + "\n" + json.dumps({"url": "http://b/", "body": {"x": 1}}) + "\n{\n")
    rows = from_file(str(file))
    assert next(rows) == Row(0, "http://a/")
    assert next(rows) == Row(1, "http://b/", body=b'{"x": 1}')
    with pytest.raises(ValueError, match="row 3"):
        next(rows)


def test_parquet(tmp_path: Path) -> None:
    file = tmp_path / "urls.parquet"
    if importlib.util.find_spec("pyarrow") is None:
        with pytest.raises(ValueError, match="need pyarrow"):
            list(from_file(str(file)))
        return
    parquet, arrow = importlib.import_module("pyarrow.parquet"), importlib.import_module("pyarrow")
    parquet.write_table(arrow.table({"url": ["http://a/", "http://b/"], "n": [1, 2]}), file)
    assert list(from_file(str(file))) == [Row(0, "http://a/"), Row(1, "http://b/")]
