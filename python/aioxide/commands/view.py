"""`aioxide view`: opens what the timeline wrote; recordings that are data become a page first."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import webbrowser
from pathlib import Path
from typing import Any, Final

__all__ = ["add_arguments", "execute"]

# Formats of other tools, and where they are opened.
_OTHERS: Final = {
    ".pftrace": "drop it on https://ui.perfetto.dev, which reads it in the browser",
    ".trace.json": "drop it on https://ui.perfetto.dev, or load it in chrome://tracing",
    ".profile.json": "load it at https://profiler.firefox.com, which reads it in the browser",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to a parser."""
    parser.add_argument("file", type=Path, help="an .html or .json file of the timeline")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the page there, and open nothing")


def execute(arguments: argparse.Namespace) -> int:
    """Open the file; returns the exit status."""
    path: Path = arguments.file
    try:
        page = _page_of(path, arguments.out)
    except OSError as error:
        print(f"aioxide view: {path}: {error.strerror or error}", file=sys.stderr)
        return 1
    except ValueError as error:
        print(f"aioxide view: {path}: {error}", file=sys.stderr)
        return 1
    if arguments.out is None and not webbrowser.open(page.absolute().as_uri()):
        print(f"aioxide view: there is no browser here; the page is {page}", file=sys.stderr)
        return 1
    return 0


def _page_of(path: Path, out: Path | None) -> Path:
    """The page to open. Raises `ValueError` for a file that is none of ours, or for another tool."""
    for ending, advice in _OTHERS.items():
        if path.name.endswith(ending):
            raise ValueError(f"that is for another viewer: {advice}")
    if path.suffix == ".html":
        if out is not None:
            out.write_bytes(path.read_bytes())
        elif not path.is_file():
            raise FileNotFoundError(2, "No such file")
        return path if out is None else out
    from ..timeline._page import render

    try:
        page = render(_recording(path))
    except (KeyError, TypeError):
        raise ValueError("that is no recording of the timeline") from None
    if out is None:
        # It stays: the browser reads it after we are gone.
        with tempfile.NamedTemporaryFile(prefix=f"{path.stem}-", suffix=".html", delete=False) as file:
            out = Path(file.name)
    out.write_text(page, encoding="utf-8")
    return out


def _recording(path: Path) -> Any:
    try:
        data = json.loads(path.read_bytes())
    except (json.JSONDecodeError, UnicodeDecodeError):
        raise ValueError("that is neither a page nor JSON") from None
    if not isinstance(data, dict) or data.get("format") != 1:
        raise ValueError("that is no recording of the timeline")
    return data
