"""A recording as one HTML page that needs nothing else: the page's modules, put together, and the recording's data."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping, Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

__all__ = ["pack", "packed_in", "render", "render_packed"]

# In the order in which they need each other.
_MODULES: Final = (
    *("model.js", "critical.js", "rows.js", "paint.js", "story.js", "table.js", "tree.js", "play.js", "main.js"),
)
_STATES: Final = ("run", "ready", "wait", "park")
_KINDS: Final = ("lock", "cpu", "loop", "callback", "request", "task", "thread")
_DATA: Final = re.compile(r'<script type="application/json" id="data">(.*?)</script>', re.DOTALL)
_IMPORT: Final = re.compile(r"^import .*;\n", re.MULTILINE)
_EXPORT: Final = re.compile(r"^export ", re.MULTILINE)


def render(data: Mapping[str, Any]) -> str:
    """The page of a recording, the same for the same recording."""
    program = Path(sys.argv[0]).name or "python"
    return render_packed(f"{program}: timeline", [pack(data, program)])


def render_packed(title: str, recordings: Sequence[Mapping[str, Any]]) -> str:
    """The page of packed recordings, which are drawn below each other on one axis."""
    # Inside a script element nothing but "<" can have a meaning of its own.
    data = json.dumps({"recordings": recordings}, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
    notes = [_exactness(recording["about"]) for recording in recordings]
    if len(recordings) > 1:
        notes = [f"{each['title']}: {note}" for each, note in zip(recordings, notes, strict=True)]
    parts = {
        "title": escape(title),
        "style": _asset("page.css"),
        "script": script(),
        "error": "<br>".join(map(escape, notes)),
        "data": data,
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], _asset("page.html"))


def packed_in(page: str) -> list[dict[str, Any]]:
    """The packed recordings of a page that `render` has made.

    Raises `ValueError` for any other page.
    """
    found = _DATA.search(page)
    recordings: list[dict[str, Any]] = json.loads(found[1]).get("recordings", []) if found else []
    if not recordings:
        raise ValueError("that page holds no recording of the timeline")
    return recordings


def _exactness(about: Mapping[str, Any]) -> str:
    """What is known of the errors of a recording, in words."""
    words = f"Times are right to about {about['error']} ns, which is what reading the clock costs."
    if about["dropped"]:
        words += f" {about['dropped']:,} records are missing: they did not fit, or were overwritten by newer ones."
    if about["grouped"]:
        words += (
            f" {about['grouped']:,} callbacks came too fast to be told apart, and are shown in groups of up to sixteen."
        )
    sampled = about.get("sampled") or {}
    if sampled.get("why_not"):
        words += f" There is no lane of the GIL: {sampled['why_not']}."
    elif sampled:
        what = {"gil": "Who had the GIL", "cpu": "Which threads were on a CPU"}[sampled["what"]]
        every, at_most = sampled["median_ns"] / 1e3, sampled["p95_ns"] / 1e3
        words += f" {what} was looked at every {every:,.0f} µs (95 % within {at_most:,.0f} µs): it is no more exact."
    return words


def script() -> str:
    """The page's modules as one script that runs from a file, where browsers load no modules.

    >>> "import" in script().split("(")[0]
    False
    """
    bodies = [_EXPORT.sub("", _IMPORT.sub("", _asset(name))) for name in _MODULES]
    return "(() => {\n" + "\n".join(bodies) + "})();"


def _asset(name: str) -> str:
    return files(__package__).joinpath("page", name).read_text(encoding="utf-8")


def pack(data: Mapping[str, Any], title: str) -> dict[str, Any]:
    """The recording in columns: starts as distances within their lane, lanes and names by number."""
    used = {lane for lane, *_ in data["slices"]} | {lane for _, lane, _ in data["marks"]}
    used |= {lane for _, source, target, _ in data["wakes"] for lane in (source, target)}
    used |= {lane for lane, *_ in data["freezes"]}
    lanes = [lane for lane in data["lanes"] if lane["id"] in used]
    # What belongs to the whole process comes first.
    lanes.sort(key=lambda lane: (lane["kind"] != "lock", lane["thread"], _KINDS.index(lane["kind"]), lane["id"]))
    number = {lane["id"]: place for place, lane in enumerate(lanes)}
    names: dict[str, int] = {}
    by_lane: list[list[tuple[int, int, int, int]]] = [[] for _ in lanes]
    for lane, start, end, name, state in data["slices"]:
        if lane in number:
            called = names.setdefault(data["names"][name], len(names))
            by_lane[number[lane]].append((start, end, called, _STATES.index(state)))
    starts, lasts, titles, states = [], [], [], []
    for slices in by_lane:
        before = 0
        for start, end, called, state in sorted(slices):
            starts.append(start - before)
            lasts.append(end - start)
            titles.append(called)
            states.append(state)
            before = start
    wakes, before = [], 0
    for at, source, target, ran in data["wakes"]:
        if source in number and target in number:
            wakes += [at - before, number[source], number[target], ran - at]
            before = at
    return {
        "title": title,
        "about": {
            "span": data["end_ns"] - data["start_ns"],
            "error": data["clock_error_ns"],
            "dropped": data["dropped"],
            "grouped": data["grouped_steps"],
            "sampled": data.get("sampled"),
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
