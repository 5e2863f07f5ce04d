"""A recording as one HTML page that needs nothing else: the page's modules, put together, and the recording's data."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

__all__ = ["render"]

# In the order in which they need each other.
_MODULES: Final = ("model.js", "critical.js", "rows.js", "paint.js", "story.js", "table.js", "main.js")
_STATES: Final = ("run", "ready", "wait", "park")
_KINDS: Final = ("loop", "callback", "request", "task", "thread")
_IMPORT: Final = re.compile(r"^import .*;\n", re.MULTILINE)
_EXPORT: Final = re.compile(r"^export ", re.MULTILINE)


def render(data: Mapping[str, Any]) -> str:
    """The page's text, the same for the same recording."""
    dropped, grouped = data["dropped"], data["grouped_steps"]
    error = f"Times are right to about {data['clock_error_ns']} ns, which is what reading the clock costs."
    if dropped:
        error += f" {dropped:,} records are missing: they did not fit, or were overwritten by newer ones."
    if grouped:
        error += f" {grouped:,} callbacks came too fast to be told apart, and are shown in groups of up to sixteen."
    parts = {
        "title": escape(f"{Path(sys.argv[0]).name or 'python'}: timeline"),
        "style": _asset("page.css"),
        "script": script(),
        "error": escape(error),
        # Inside a script element nothing but "<" can have a meaning of its own.
        "data": json.dumps(pack(data), ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c"),
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], _asset("page.html"))


def script() -> str:
    """The page's modules as one script that runs from a file, where browsers load no modules.

    >>> "import" in script().split("(")[0]
    False
    """
    bodies = [_EXPORT.sub("", _IMPORT.sub("", _asset(name))) for name in _MODULES]
    return "(() => {\n" + "\n".join(bodies) + "})();"


def _asset(name: str) -> str:
    return files(__package__).joinpath("page", name).read_text(encoding="utf-8")


def pack(data: Mapping[str, Any]) -> dict[str, Any]:
    """The recording in columns: starts as distances within their lane, lanes and names by number."""
    used = {lane for lane, *_ in data["slices"]} | {lane for _, lane, _ in data["marks"]}
    used |= {lane for _, source, target in data["wakes"] for lane in (source, target)}
    used |= {lane for lane, *_ in data["freezes"]}
    lanes = [lane for lane in data["lanes"] if lane["id"] in used]
    lanes.sort(key=lambda lane: (lane["thread"], _KINDS.index(lane["kind"]), lane["id"]))
    number = {lane["id"]: place for place, lane in enumerate(lanes)}
    names: dict[str, int] = {}
    by_lane: list[list[tuple[int, int, int, int]]] = [[] for _ in lanes]
    for lane, start, end, name, state in data["slices"]:
        if lane in number:
            title = names.setdefault(data["names"][name], len(names))
            by_lane[number[lane]].append((start, end, title, _STATES.index(state)))
    starts, lasts, titles, states = [], [], [], []
    for slices in by_lane:
        before = 0
        for start, end, title, state in sorted(slices):
            starts.append(start - before)
            lasts.append(end - start)
            titles.append(title)
            states.append(state)
            before = start
    wakes, before = [], 0
    for at, source, target in data["wakes"]:
        if source in number and target in number:
            wakes += [at - before, number[source], number[target]]
            before = at
    return {
        "about": {
            "span": data["end_ns"] - data["start_ns"],
            "error": data["clock_error_ns"],
            "dropped": data["dropped"],
        },
        "lanes": [[lane["name"], lane["kind"], lane["thread"], lane["group"], lane["source"]] for lane in lanes],
        "counts": [len(slices) for slices in by_lane],
        "starts": starts,
        "lasts": lasts,
        "slice_names": titles,
        "states": states,
        "names": list(names),
        "wakes": wakes,
        "marks": [[at, number[lane], text] for at, lane, text in data["marks"] if lane in number],
        "freezes": [[number[lane], start, end, text] for lane, start, end, text in data["freezes"] if lane in number],
    }
