"""The lane of the GIL, or of threads on a CPU: it shows who really ran, and says how exact it is."""

from __future__ import annotations

import sys
import threading
import time
from typing import Any

import pytest

from aioxide import _native, timeline
from aioxide.timeline import _page

HAS_GIL = getattr(sys, "_is_gil_enabled", lambda: True)()
PHASE_S = 0.3


def spin(times: dict[str, tuple[int, int]], name: str) -> None:
    began = time.monotonic_ns()
    while time.monotonic_ns() - began < PHASE_S * 1e9:
        sum(range(100))
    times[name] = (began, time.monotonic_ns())


def shares(data: dict[str, Any], begin: int, end: int) -> dict[str, float]:
    """The share of a stretch of time that the lane, or a thread's own, gives to each thread."""
    kinds = {lane["id"]: lane["kind"] for lane in data["lanes"]}
    found: dict[str, float] = {}
    for lane, start, stop, name, _ in data["slices"]:
        if kinds[lane] == ("lock" if HAS_GIL else "cpu"):
            overlap = min(stop + data["start_ns"], end) - max(start + data["start_ns"], begin)
            thread = data["names"][name]
            found[thread] = found.get(thread, 0) + max(0, overlap) / (end - begin)
    return found


def test_the_thread_that_runs_is_the_one_that_is_shown() -> None:
    times: dict[str, tuple[int, int]] = {}
    with timeline.record(gil=True) as recording:
        for name in ("first", "second"):
            thread = threading.Thread(target=spin, args=(times, name), name=name)
            thread.start()
            thread.join()
    data = recording.to_dict()
    sampled = data["sampled"]
    assert sampled["what"] == ("gil" if HAS_GIL else "cpu") and sampled["why_not"] is None
    assert sampled["samples"] > 5 and 0 < sampled["median_ns"] <= sampled["p95_ns"]
    for name, other in (("first", "second"), ("second", "first")):
        seen = shares(data, *times[name])
        # A busy machine may stop the sampler for a while, but not for most of the time.
        assert seen.get(name, 0) > 0.5, (name, seen, sampled)
        assert seen.get(other, 0) < 0.25, (name, seen, sampled)
    if HAS_GIL:
        assert [lane["name"] for lane in data["lanes"] if lane["kind"] == "lock"] == ["GIL"]
    else:
        assert "on a CPU: first" in [lane["name"] for lane in data["lanes"]]


@pytest.mark.skipif(not HAS_GIL, reason="there is no GIL")
def test_nobody_has_the_gil_while_all_sleep() -> None:
    with timeline.record(gil=True) as recording:
        time.sleep(0.1)
        began = time.monotonic_ns()
        time.sleep(0.3)
        ended = time.monotonic_ns()
    assert sum(shares(recording.to_dict(), began, ended).values()) < 0.2


def test_the_page_says_how_exact_the_lane_is() -> None:
    with timeline.record(gil=True) as recording:
        time.sleep(0.02)
    text = _page.render(recording.to_dict())
    assert ("Who had the GIL was looked at every" if HAS_GIL else "Which threads were on a CPU was") in text
    with timeline.record() as recording:
        pass
    assert "sampled" not in recording.to_dict() and "looked at every" not in _page.render(recording.to_dict())


def test_without_the_lane_it_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_native, "timeline_sample", lambda _threads: "it is not where it was")
    with timeline.record(gil=True) as recording:
        pass
    data = recording.to_dict()
    assert data["sampled"]["what"] is None
    assert "There is no lane of the GIL: it is not where it was." in _page.render(data)


def test_it_begins_and_ends_often_and_from_many_threads() -> None:
    stop = threading.Event()
    threads = [threading.Thread(target=lambda: [time.sleep(0.001) for _ in iter(stop.is_set, True)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(5):
        with timeline.record(gil=True) as recording:
            time.sleep(0.005)
        assert recording.to_dict()["sampled"]["why_not"] is None
    stop.set()
    for thread in threads:
        thread.join()
    assert "aioxide-thread-names" not in [thread.name for thread in threading.enumerate()]
