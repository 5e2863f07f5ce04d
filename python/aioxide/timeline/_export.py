"""Dumps: a recording as a page, for Perfetto, for Chrome's viewer, for the Firefox Profiler."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from .. import _native

__all__ = ["checked_name", "write"]

Data = Mapping[str, Any]
# A name's number, start and end, a category's number, and what else is known.
_Marker = tuple[int, float, float, int, dict[str, Any]]


def write(path: str | os.PathLike[str], data: Data) -> None:
    """Write a recording to a file, in the format that its name ends with.

    ``.html`` is a page of its own, ``.pftrace`` is for ui.perfetto.dev, ``.trace.json`` for Chrome's viewer (and
    Perfetto), ``.profile.json`` for profiler.firefox.com, ``.json`` the recording's dictionary itself.

    Raises `ValueError` for another ending, and `OSError`.
    """
    name = checked_name(os.fspath(path))
    render = next(render for ending, render in _FORMATS.items() if name.endswith(ending))
    Path(name).write_bytes(render(data))


def checked_name(name: str) -> str:
    """The name of a file that a recording can be written to, as it is.

    Raises `ValueError` if its ending tells no format.
    """
    if not name.endswith(tuple(_FORMATS)):
        raise ValueError(f"{name!r} ends with none of {', '.join(_FORMATS)}")
    return name


def _page(data: Data) -> bytes:
    from ._page import render

    return render(data).encode()


def _perfetto(data: Data) -> bytes:
    return _native.timeline_perfetto(dict(data), os.getpid(), _program())


def _program() -> str:
    return Path(sys.argv[0]).name or "python"


def _json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def chrome(data: Data) -> dict[str, Any]:
    """The recording in Chrome's trace event format: complete events, flows for wakes, times in microseconds."""
    pid = os.getpid()
    names = data["names"]
    events: list[dict[str, Any]] = [
        {"ph": "M", "name": "process_name", "pid": pid, "tid": 0, "args": {"name": _program()}}
    ]
    for lane in data["lanes"]:
        # Here a lane is a thread: viewers of this format know no other lines.
        events.append({"ph": "M", "name": "thread_name", "pid": pid, "tid": lane["id"], "args": {"name": lane["name"]}})
    for lane, start, end, name, state in data["slices"]:
        event = {"ph": "X", "pid": pid, "tid": lane, "ts": start / 1e3, "dur": (end - start) / 1e3}
        events.append(event | {"name": names[name], "cat": state})
    for number, (at, source, target, _) in enumerate(data["wakes"]):
        flow = {"name": "wake", "cat": "wake", "pid": pid, "id": number, "ts": at / 1e3}
        events.append(flow | {"ph": "s", "tid": source})
        events.append(flow | {"ph": "f", "bp": "e", "tid": target})
    for at, lane, text in data["marks"]:
        events.append({"ph": "i", "s": "t", "pid": pid, "tid": lane, "ts": at / 1e3, "name": text})
    for lane, start, end, text in data["freezes"]:
        verdict = json.loads(text)["verdict"]
        freeze = {"ph": "i", "s": "p", "pid": pid, "tid": lane, "ts": start / 1e3, "name": f"freeze: {verdict}"}
        events.append(freeze | {"args": json.loads(text) | {"lasted_ms": (end - start) / 1e6}})
    return {"traceEvents": events, "displayTimeUnit": "ms", "otherData": {"clock_error_ns": data["clock_error_ns"]}}


_SCHEMA: Final = {"name": 0, "startTime": 1, "endTime": 2, "phase": 3, "category": 4, "data": 5}
_COLORS: Final = {"run": "blue", "ready": "yellow", "wait": "grey", "park": "transparent"}


def firefox(data: Data) -> dict[str, Any]:
    """The recording in the Firefox Profiler's processed format: each lane a thread with interval markers."""
    categories = [{"name": name, "color": color, "subcategories": ["Other"]} for name, color in _COLORS.items()]
    markers: dict[int, list[_Marker]] = {}
    strings: dict[int, dict[str, int]] = {}

    def add(lane: int, name: str, start: int, end: int, state: str, **extra: Any) -> None:
        number = strings.setdefault(lane, {}).setdefault(name, len(strings[lane]))
        marker = (number, start / 1e6, end / 1e6, list(_COLORS).index(state), {"type": "Slice", "state": state} | extra)
        markers.setdefault(lane, []).append(marker)

    for lane, start, end, name, state in data["slices"]:
        add(lane, data["names"][name], start, end, state)
    for lane, start, end, text in data["freezes"]:
        add(lane, "freeze", start, end, "run", verdict=json.loads(text)["verdict"])
    threads = [
        _firefox_thread(lane, number, markers.get(lane["id"], []), list(strings.get(lane["id"], {})))
        for number, lane in enumerate(data["lanes"])
        if lane["id"] in markers
    ]
    return {"meta": _firefox_meta(data, categories), "libs": [], "pages": [], "threads": threads}


def _firefox_meta(data: Data, categories: list[dict[str, Any]]) -> dict[str, Any]:
    fields = [{"key": "state", "label": "State", "format": "string"}]
    fields.append({"key": "verdict", "label": "Verdict", "format": "string"})
    schema = {"name": "Slice", "display": ["marker-chart", "marker-table"], "tooltipLabel": "{marker.name}"}
    return {
        "interval": 1,
        "startTime": 0,
        "processType": 0,
        "product": _program(),
        "stackwalk": 0,
        "version": 27,
        "preprocessedProfileVersion": 48,
        "categories": categories,
        "markerSchema": [schema | {"data": fields, "fields": fields}],
        "symbolicated": True,
        "profilingEndTime": (data["end_ns"] - data["start_ns"]) / 1e6,
    }


def _firefox_thread(
    lane: Mapping[str, Any],
    number: int,
    markers: list[tuple[int, float, float, int, dict[str, Any]]],
    strings: list[str],
) -> dict[str, Any]:
    columns = list(zip(*sorted(markers, key=lambda marker: marker[1]), strict=True))
    empty: dict[str, Any] = {"length": 0}
    return {
        "name": lane["name"],
        "processType": "default",
        "processName": _program(),
        "processStartupTime": 0,
        "processShutdownTime": None,
        "registerTime": 0,
        "unregisterTime": None,
        "isMainThread": number == 0,
        "pausedRanges": [],
        "pid": str(os.getpid()),
        "tid": lane["id"],
        "markers": {
            "name": columns[0],
            "startTime": columns[1],
            "endTime": columns[2],
            "phase": [1] * len(markers),
            "category": columns[3],
            "data": columns[4],
            "length": len(markers),
        },
        "samples": empty | {"stack": [], "time": [], "weight": None, "weightType": "samples"},
        "stackTable": empty | {"frame": [], "prefix": [], "category": [], "subcategory": []},
        "frameTable": empty
        | {key: [] for key in ("address", "inlineDepth", "category", "subcategory", "func", "nativeSymbol")}
        | {key: [] for key in ("innerWindowID", "line", "column")},
        "funcTable": empty
        | {key: [] for key in ("isJS", "relevantForJS", "name", "resource", "fileName", "lineNumber", "columnNumber")},
        "resourceTable": empty | {"lib": [], "name": [], "host": [], "type": []},
        "nativeSymbols": empty | {"libIndex": [], "address": [], "name": [], "functionSize": []},
        "stringArray": strings,
    }


_FORMATS: Final[dict[str, Callable[[Data], bytes]]] = {
    ".html": _page,
    ".pftrace": _perfetto,
    ".trace.json": lambda data: _json(chrome(data)),
    ".profile.json": lambda data: _json(firefox(data)),
    ".json": lambda data: _json(dict(data)),
}
