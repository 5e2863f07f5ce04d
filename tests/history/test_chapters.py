"""The chapters as files: their order, their size, and that there is one copy of each."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from aioxide.history._chapters import all_chapters, select

ROOT = Path(__file__).resolve().parents[2]
CODE_LINES_MAX = 60


def test_the_order_is_the_documents() -> None:
    assert [chapter.slug for chapter in all_chapters()] == [
        "sequential",
        "threads",
        "async",
        "synchronous",
        "callbacks",
        "future",
        "gen",
        "yield_from",
        "async_await",
        "rust_futures",
        "blocking",
    ]
    assert [chapter.number for chapter in all_chapters()] == list(range(1, 12))


@pytest.mark.parametrize("chapter", all_chapters(), ids=lambda chapter: chapter.slug)
def test_a_chapter_is_small_titled_and_the_same_file_as_its_example(chapter) -> None:  # type: ignore[no-untyped-def]
    assert (ROOT / chapter.example).resolve() == chapter.path.resolve()
    tree = ast.parse(chapter.source())
    documented = tree.body[0].end_lineno or 0
    assert len(chapter.source().splitlines()) - documented <= CODE_LINES_MAX
    assert chapter.title and chapter.caption.endswith(".")


@pytest.mark.parametrize(
    ("text", "numbers"),
    [("1", [1]), ("3-5,1", [1, 3, 4, 5]), ("gen, yield-from", [7, 8]), ("11,blocking", [11])],
)
def test_chapters_are_named_by_number_range_or_name(text: str, numbers: list[int]) -> None:
    assert [chapter.number for chapter in select(text)] == numbers


@pytest.mark.parametrize("text", ["", "0", "12", "5-3", "twisted", "1,,2"])
def test_an_unknown_chapter_is_refused_with_the_list(text: str) -> None:
    with pytest.raises(ValueError, match="1 sequential, 2 threads"):
        select(text)
