"""`aioxide view`: opens what the timeline wrote, or puts several recordings on one axis."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import webbrowser
from pathlib import Path
from typing import Any, Final

from ..timeline._page import pack, packed_in, render_packed

__all__ = ["add_arguments", "execute"]

# Formats of other tools, and where they are opened.
_OTHERS: Final = {
    ".pftrace": "drop it on https://ui.perfetto.dev, which reads it in the browser",
    ".trace.json": "drop it on https://ui.perfetto.dev, or load it in chrome://tracing",
    ".profile.json": "load it at https://profiler.firefox.com, which reads it in the browser",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to a parser."""
    parser.add_argument(
        "files",
        nargs="+",
        type=Path,
        metavar="FILE",
        help="an .html or .json file of the timeline; several are drawn below each other on one axis",
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the page there, and open nothing")


def execute(arguments: argparse.Namespace) -> int:
    """Open the files; returns the exit status."""
    files: list[Path] = arguments.files
    try:
        recordings = [recording for path in files for recording in _packed(path)]
        page = _page(files, recordings, arguments.out)
    except (OSError, ValueError) as error:
        print(f"aioxide view: {error}", file=sys.stderr)
        return 1
    if arguments.out is None and not webbrowser.open(page.absolute().as_uri()):
        print(f"aioxide view: there is no browser here; the page is {page}", file=sys.stderr)
        return 1
    return 0


def _page(files: list[Path], recordings: list[dict[str, Any]], out: Path | None) -> Path:
    """The page of the recordings: it stays, since the browser reads it after we are gone."""
    if out is None and len(files) == 1 and files[0].suffix == ".html":
        return files[0]
    if len(recordings) > 1:
        title = "timelines of " + ", ".join(str(recording["title"]) for recording in recordings)
    else:
        title = f"{recordings[0]['title']}: timeline"
    page = render_packed(title, recordings)
    if out is None:
        with tempfile.NamedTemporaryFile(prefix=f"{files[0].stem}-", suffix=".html", delete=False) as file:
            out = Path(file.name)
    out.write_text(page, encoding="utf-8")
    return out


def _packed(path: Path) -> list[dict[str, Any]]:
    """What a file has recorded. Raises `ValueError` for one that is none of ours, or for another tool."""
    for ending, advice in _OTHERS.items():
        if path.name.endswith(ending):
            raise ValueError(f"{path} is for another viewer: {advice}")
    content = path.read_bytes()
    is_page = path.suffix == ".html"
    try:
        data = packed_in(content.decode()) if is_page else json.loads(content)
    except ValueError as error:
        raise ValueError(f"{path} cannot be read: {error}") from None
    if is_page:
        recordings: list[dict[str, Any]] = data
        return recordings
    if not isinstance(data, dict) or data.get("format") != 1:
        raise ValueError(f"{path} is no recording of the timeline")
    try:
        return [pack(data, path.stem)]
    except (KeyError, TypeError):
        raise ValueError(f"{path} is no recording of the timeline") from None
