"""The chapters: small programs in `chapters/`, one file each, in the document's order."""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

__all__ = ["Chapter", "all_chapters", "select"]

_FOLDER = Path(__file__).with_name("chapters")
_FILE_NAME = re.compile(r"(?P<number>\d\d)_(?P<slug>[a-z_]+)\.py\Z")
# These send a request only after the one before was answered: with many requests they take minutes.
_ONE_AFTER_ANOTHER = frozenset({"sequential", "synchronous"})


@dataclass(frozen=True, slots=True)
class Chapter:
    """One way of writing asynchronous code, as a program of its own."""

    number: int
    slug: str
    title: str
    caption: str
    path: Path

    @property
    def one_after_another(self) -> bool:
        """Whether its requests never overlap, so that its time grows with their number."""
        return self.slug in _ONE_AFTER_ANOTHER

    @property
    def example(self) -> str:
        """The file's name in the project's tree."""
        return f"examples/history/{self.path.name}"

    def source(self) -> str:
        """The program's text."""
        return self.path.read_text(encoding="utf-8")

    def load(self) -> Callable[[list[str]], None]:
        """Import the program and return its `main`, which takes the URLs to fetch."""
        module = importlib.import_module(f"{__package__}.chapters.{self.path.stem}")
        return cast(Callable[[list[str]], None], module.main)


def all_chapters() -> list[Chapter]:
    """Every chapter, first to last.

    >>> [chapter.slug for chapter in all_chapters()][:3]
    ['sequential', 'threads', 'async']
    """
    return [_read(path) for path in sorted(_FOLDER.iterdir()) if _FILE_NAME.match(path.name)]


def select(text: str) -> list[Chapter]:
    """Chapters named by number, range or name, comma-separated, in the document's order.

    Raises `ValueError` when there is no such chapter.

    >>> [chapter.slug for chapter in select("1-2,gen")]
    ['sequential', 'threads', 'gen']
    """
    chapters = all_chapters()
    chosen = {chapter.number for part in text.split(",") for chapter in _named(part.strip(), chapters)}
    return [chapter for chapter in chapters if chapter.number in chosen]


def _named(part: str, chapters: Iterable[Chapter]) -> list[Chapter]:
    chapters = list(chapters)
    if span := re.fullmatch(r"(\d+)(?:-(\d+))?", part):
        first, last = int(span[1]), int(span[2] or span[1])
        found = [chapter for chapter in chapters if first <= chapter.number <= last]
    else:
        found = [chapter for chapter in chapters if chapter.slug == part.replace("-", "_").lower()]
    if not found:
        known = ", ".join(f"{chapter.number} {chapter.slug}" for chapter in chapters)
        raise ValueError(f"no chapter {part!r}; there are {known}")
    return found


def _read(path: Path) -> Chapter:
    match = _FILE_NAME.match(path.name)
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    if match is None or docstring is None:
        raise RuntimeError(f"{path.name} is no chapter: it needs a number, a name and a docstring")
    head, _, rest = docstring.partition("\n\n")
    title, _, subtitle = head.partition(": ")
    caption = subtitle[:1].upper() + subtitle[1:] + " " + rest
    return Chapter(int(match["number"]), match["slug"], title, " ".join(caption.split()), path)
