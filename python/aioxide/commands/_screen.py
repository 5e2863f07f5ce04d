"""What `aioxide top` shows: two answers of a process, and the time between them, as lines of text."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from typing import Any, Final

__all__ = ["fitted", "screen"]

State = dict[str, Any]
_BOLD: Final = "\x1b[1m"
_PLAIN: Final = "\x1b[0m"
_USED_SHOWN: Final = 8
_FREEZES_SHOWN: Final = 5


def fitted(lines: list[str], width: int, height: int) -> list[str]:
    """At most `height` lines of at most `width` characters, those that begin at the margin in bold."""
    cut = [text if len(text) <= width else text[: width - 1] + "…" for text in lines[:height]]
    return [f"{_BOLD}{text}{_PLAIN}" if text and not text.startswith(" ") else text for text in cut]


def screen(before: State, now: State) -> list[str]:
    """The lines of the picture; `before` and `now` are answers of the same process."""
    span = max((now["at_ns"] - before["at_ns"]) / 1e9, 1e-9)
    program = " ".join([os.path.basename(now["program"][0]), *now["program"][1:]])
    lines = [f"aioxide top   {now['pid']}   {program}   Python {now['python']}"]
    if not now["loops"]:
        lines.append("  no loop of aioxide's runs in it now")
    earlier = {loop["id"]: loop for loop in before["loops"]}
    for loop in now["loops"]:
        lines += ["", *_loop(earlier.get(loop["id"], {}), loop, span)]
    lines += ["", *_used(now, span)]
    if now["freezes"]:
        lines += ["", "froze the loop"]
    for freeze in reversed(now["freezes"][-_FREEZES_SHOWN:]):
        at = time.strftime("%H:%M:%S", time.localtime(freeze["at_s"]))
        where = " at {}:{}".format(*freeze["place"][:2]) if freeze["place"] else ""
        lines.append(f"  {at}  {_time(freeze['lasted_s']):>8}  {freeze['who']}: {freeze['verdict']}{where}")
    return lines


def _loop(before: State, loop: State, span: float) -> Iterator[str]:
    if "silent_s" in loop:
        yield f"loop of {loop['thread']}: has not answered for {_time(loop['silent_s'])}. It is at"
        for file, line, function in reversed(loop["stack"]):
            yield f"  {function}  {file}:{line}"
        return
    numbers = loop["numbers"]
    known: State = before.get("numbers", {})

    def rate(key: str) -> float:
        """Since the picture before; of a loop that was not there, since it began."""
        seconds = span if known else max(numbers["running_s"], 1e-9)
        return float(numbers[key] - known.get(key, 0)) / seconds

    waited = numbers["waiting_s"] - known.get("waiting_s", 0)
    ran = max(numbers["running_s"] - known.get("running_s", 0), 1e-9)
    yield f"loop of {loop['thread']}"
    lag = [_time(_percentile(known.get("lag_buckets", []), numbers["lag_buckets"], share)) for share in (0.5, 0.99, 1)]
    yield (
        f"  busy {max(0.0, 1 - waited / ran):6.1%}   lag p50 {lag[0]}  p99 {lag[1]}  max {lag[2]}   "
        f"freezes {numbers['slow_callbacks']}"
    )
    yield (
        f"  tasks {loop['task_count']:,}   ready {numbers['ready']:,}   timers {numbers['timers']:,}   "
        f"descriptors {numbers['descriptors']:,}   Rust tasks {numbers['rust_tasks']:,}"
    )
    yield (
        f"  per second: callbacks {rate('callbacks'):,.0f}   events {rate('events'):,.0f}   "
        f"timers {rate('timers_fired'):,.0f}   polls {rate('polls'):,.0f}   "
        f"in {_bytes(rate('bytes_received'))}   out {_bytes(rate('bytes_sent'))}"
    )
    for group in loop["groups"]:
        total = sum(count for _, count in group["waits"]) or 1
        waits = ", ".join(what if count == total else f"{what} ×{count}" for what, count in group["waits"])
        yield f"  {group['count']:>7,}  {group['name']:<36}  {waits}"


def _used(now: State, span: float) -> Iterator[str]:
    yield "what ran                                          time   steps a second"
    if now["level"] == "counters":
        yield "  (the recorder is off: timeline.set_level('flight') turns it on)"
    for name, ran_ns, steps in now["usage"][:_USED_SHOWN]:
        shown = name or "(steps too short to be told apart)"
        yield f"  {shown[:42]:<42}  {ran_ns / 1e9 / span:>8.1%}   {steps / span:>14,.0f}"


def _percentile(before: list[tuple[float, int]], now: list[tuple[float, int]], share: float) -> float:
    """Of what was added to a histogram between two answers; buckets are (up to so many seconds, so many in all)."""
    old = dict(before)
    total = (now[-1][1] if now else 0) - (before[-1][1] if before else 0)
    seen_before = 0
    for end, count in now:
        # A bucket that was empty then has as many up to it as the one below.
        seen_before = old.get(end, seen_before)
        if total and count - seen_before >= share * total:
            return end
    return 0.0


def _time(seconds: float) -> str:
    for unit, factor in (("µs", 1e6), ("ms", 1e3)):
        if seconds * factor < 1000:
            return f"{seconds * factor:.3g} {unit}"
    return f"{seconds:.3g} s"


def _bytes(rate: float) -> str:
    for unit in ("B", "kB", "MB"):
        if rate < 1000:
            return f"{rate:.3g} {unit}"
        rate /= 1000
    return f"{rate:.3g} GB"
