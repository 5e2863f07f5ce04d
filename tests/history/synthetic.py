"""Recordings made up in the timeline's format, for tests of what draws them; no loop runs here."""

from __future__ import annotations

from typing import Any

MS = 1_000_000
US = 1_000


class Recorder:
    """Builds a recording's dictionary, lane by lane."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.lanes: list[dict[str, Any]] = []
        self.slices: list[list[Any]] = []
        self.wakes: list[list[int]] = []
        self.marks: list[list[Any]] = []
        self.end = 0

    def lane(self, name: str, kind: str, thread: int = 1) -> int:
        self.lanes.append({"id": len(self.lanes), "name": name, "kind": kind, "thread": thread})
        return len(self.lanes) - 1

    def slice(self, lane: int, start: int, end: int, name: str, state: str) -> int:
        if name not in self.names:
            self.names.append(name)
        if end > start:
            self.slices.append([lane, start, end, self.names.index(name), state])
        self.end = max(self.end, end)
        return end

    def mark(self, at: int, lane: int, text: str) -> None:
        self.marks.append([at, lane, text])

    def wake(self, at: int, source: int, target: int) -> None:
        self.wakes.append([at, source, target, at])

    def to_dict(self) -> dict[str, Any]:
        start = 1_000_000_000_000
        return {
            "format": 1,
            "start_ns": start,
            "end_ns": start + self.end,
            "clock_error_ns": 43,
            "dropped": 0,
            "names": self.names,
            "lanes": self.lanes,
            "slices": sorted(self.slices, key=lambda item: (item[1], item[0])),
            "wakes": self.wakes,
            "marks": self.marks,
        }


def sequential(requests: int = 2, latency: int = 400 * MS) -> dict[str, Any]:
    recorder = Recorder()
    lane, now = recorder.lane("MainThread", "thread"), 0
    for n in range(1, requests + 1):
        recorder.mark(now + 20 * US, lane, f"--- request {n} sent")
        now = recorder.slice(lane, now, now + 300 * US, "running", "run")
        now = recorder.slice(lane, now, now + 120 * US, "connect", "wait")
        now = recorder.slice(lane, now, now + 40 * US, "running", "run")
        now = recorder.slice(lane, now, now + latency, "first byte", "wait")
        recorder.mark(now + 90 * US, lane, f"--- response {n} received")
        now = recorder.slice(lane, now, now + 100 * US, "running", "run")
    return recorder.to_dict()


def threads(requests: int = 2, latency: int = 400 * MS) -> dict[str, Any]:
    recorder = Recorder()
    main, end = recorder.lane("MainThread", "thread"), 0
    for n in range(1, requests + 1):
        lane, now = recorder.lane(f"Thread-{n} (job)", "thread", 1 + n), n * 150 * US
        recorder.mark(now + 20 * US, lane, f"--- request {n} sent")
        now = recorder.slice(lane, now, now + 400 * US, "running", "run")
        now = recorder.slice(lane, now, now + latency, "first byte", "wait")
        recorder.mark(now + 90 * US, lane, f"--- response {n} received")
        end = max(end, recorder.slice(lane, now, now + 200 * US, "running", "run"))
    recorder.slice(main, 0, end, "running", "run")
    return recorder.to_dict()


def on_a_loop(requests: int = 2, latency: int = 400 * MS, block: int = 0, step: int = 60 * US) -> dict[str, Any]:
    """Tasks over an asynchronous client; with `block`, the first one sleeps that long in its first step."""
    recorder = Recorder()
    thread = recorder.lane("MainThread", "thread")
    loop, main = recorder.lane("event loop", "loop"), recorder.lane("amain", "task")
    tasks = [recorder.lane(f"ajob-{n}", "task") for n in range(1, requests + 1)]
    wires = [recorder.lane(f"GET /{n}", "request") for n in range(1, requests + 1)]

    def run(lane: int, start: int, length: int, name: str = "step") -> int:
        recorder.slice(loop, start, start + length, name, "run")
        return start + length if lane == loop else recorder.slice(lane, start, start + length, name, "run")

    now = run(main, 20 * US, 150 * US)
    started = now
    answered = []
    for task in tasks:
        recorder.wake(now - 10 * US, main, task)
    for n, (task, wire) in enumerate(zip(tasks, wires, strict=True), start=1):
        recorder.slice(task, started, now, "ready, but something else ran", "ready")
        recorder.mark(now + 5 * US, task, f"--- request {n} sent")
        recorder.wake(now + step - 5 * US, task, wire)
        began = now
        now = run(task, now, step + (block if n == 1 else 0))
        recorder.slice(wire, now, now + 80 * US, "connect", "wait")
        recorder.slice(wire, now + 80 * US, now + 90 * US + latency, "first byte", "wait")
        answered.append(now + 90 * US + latency)
        assert began < now
    now = run(loop, now, 100 * US, "Rust tasks")
    recorder.slice(main, started, 0, "waiting", "wait")
    for n, (task, wire, answer) in enumerate(zip(tasks, wires, answered, strict=True), start=1):
        if answer > now:
            now = recorder.slice(loop, now, answer, "waiting for events", "park")
        now = run(loop, now, 15 * US, "Rust tasks")
        recorder.wake(now - 2 * US, wire, task)
        recorder.slice(task, started + n * step + block, now - 2 * US, "waiting", "wait")
        recorder.slice(task, now - 2 * US, now, "ready, but something else ran", "ready")
        recorder.mark(now + 20 * US, task, f"--- response {n} received")
        now = run(task, now, step // 2)
    recorder.wake(now - 5 * US, tasks[-1], main)
    recorder.slice(main, started, now - 5 * US, "waiting", "wait")
    now = run(main, now, 80 * US)
    recorder.slice(thread, 0, now, "running", "run")
    return recorder.to_dict()
