"""Dumps in every format say what the recording says."""

from __future__ import annotations

import asyncio
import inspect
import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

import aioxide
from aioxide import timeline


@pytest.fixture(scope="module")
def recorded() -> timeline.Recording:
    """Two tasks that wake each other, a mark and a freeze."""

    async def other(event: asyncio.Event) -> None:
        await event.wait()
        timeline.mark("woken")

    async def main() -> None:
        event = asyncio.Event()
        task = asyncio.create_task(other(event), name="other")
        await asyncio.sleep(0.002)
        event.set()
        await task
        time.sleep(0.5)  # long enough for a busy machine, which takes its part from the freeze

    with timeline.record() as recording:
        aioxide.run(main(), debug=False)
    return recording


def test_perfetto_reads_the_same(recorded: timeline.Recording, tmp_path: Path) -> None:
    pytest.importorskip("google.protobuf")
    proto: Any = pytest.importorskip("perfetto.protos.perfetto.trace.perfetto_trace_pb2")
    recorded.save(tmp_path / "it.pftrace")
    trace = proto.Trace.FromString((tmp_path / "it.pftrace").read_bytes())
    data = recorded.to_dict()
    tracks = {
        packet.track_descriptor.uuid: packet.track_descriptor
        for packet in trace.packet
        if packet.HasField("track_descriptor")
    }
    for lane in data["lanes"]:
        track = tracks[lane["id"]]
        assert track.name == lane["name"]
        assert tracks[track.parent_uuid].thread.tid == lane["thread"]
        assert tracks[track.parent_uuid].thread.pid == os.getpid()
    slices, flows, open_at = [], {}, {}
    for packet in trace.packet:
        event = packet.track_event
        if event.type == proto.TrackEvent.TYPE_SLICE_BEGIN and event.track_uuid in {
            lane["id"] for lane in data["lanes"]
        }:
            open_at[event.track_uuid] = (packet.timestamp, event.name, event.categories[0])
            flows |= {flow: [event.track_uuid] for flow in event.flow_ids}
        elif event.type == proto.TrackEvent.TYPE_SLICE_END and event.track_uuid in open_at:
            start, name, state = open_at.pop(event.track_uuid)
            begin, end = start - data["start_ns"], packet.timestamp - data["start_ns"]
            slices.append((event.track_uuid, begin, end, name, state))
    expected = [(lane, start, end, data["names"][name], state) for lane, start, end, name, state in data["slices"]]
    assert slices == expected
    for packet in trace.packet:
        for flow in packet.track_event.terminating_flow_ids:
            flows[flow].append(packet.track_event.track_uuid)
    drawn = {tuple(lanes) for lanes in flows.values()}
    assert drawn and drawn <= {(source, target) for _, source, target, _ in data["wakes"]}
    counted = [packet.track_event.counter_value for packet in trace.packet if packet.track_event.type == 4]
    assert max(counted) >= 1 and min(counted) == 0 and all(count < 10 for count in counted)
    names = {packet.track_event.name for packet in trace.packet}
    assert "woken" in names and any("system call" in name for name in names)


def test_chrome(recorded: timeline.Recording, tmp_path: Path) -> None:
    recorded.save(tmp_path / "it.trace.json")
    events = json.loads((tmp_path / "it.trace.json").read_text())["traceEvents"]
    data = recorded.to_dict()
    slices = [event for event in events if event["ph"] == "X"]
    assert [(each["tid"], round(each["ts"] * 1e3), each["cat"]) for each in slices] == [
        (lane, start, state) for lane, start, _, _, state in data["slices"]
    ]
    assert (
        sum(event["ph"] == "s" for event in events) == sum(event["ph"] == "f" for event in events) == len(data["wakes"])
    )
    assert {event["name"] for event in events if event["ph"] == "i"} == {
        "woken",
        "freeze: a blocking system call (sleep)",
    }


def test_firefox(recorded: timeline.Recording, tmp_path: Path) -> None:
    recorded.save(tmp_path / "it.profile.json")
    profile = json.loads((tmp_path / "it.profile.json").read_text())
    data = recorded.to_dict()
    threads = {thread["tid"]: thread for thread in profile["threads"]}
    assert sum(thread["markers"]["length"] for thread in threads.values()) == len(data["slices"]) + len(data["freezes"])
    other = next(lane for lane in data["lanes"] if lane["name"].startswith("other"))
    markers = threads[other["id"]]["markers"]
    assert [threads[other["id"]]["stringArray"][name] for name in markers["name"]].count("lock: Event.wait") == 1
    assert all(len(column) == markers["length"] for key, column in markers.items() if key != "length")


def test_plain_json_and_wrong_endings(recorded: timeline.Recording, tmp_path: Path) -> None:
    recorded.save(tmp_path / "it.json")
    assert json.loads((tmp_path / "it.json").read_text()) == json.loads(json.dumps(recorded.to_dict()))
    with pytest.raises(ValueError, match="ends with none of"):
        recorded.save(tmp_path / "it.png")


def test_a_recording_decorates(tmp_path: Path) -> None:
    @timeline.record(to=tmp_path / "calls.json")
    def call(number: int) -> int:
        return aioxide.run(asyncio.sleep(0.001, number))

    @timeline.record(to=tmp_path / "coroutine.json")
    async def coroutine(*, number: int) -> int:
        await asyncio.create_task(asyncio.sleep(0.001), name="inner")
        return number

    assert call(3) == 3 and call(4) == 4
    assert aioxide.run(coroutine(number=5)) == 5
    assert inspect.iscoroutinefunction(coroutine) and call.__name__ == "call"
    assert any(lane["name"] == "inner sleep" for lane in json.loads((tmp_path / "coroutine.json").read_text())["lanes"])
    assert json.loads((tmp_path / "calls.json").read_text())["slices"]


def test_a_signal_dumps(tmp_path: Path) -> None:
    async def main() -> None:
        await asyncio.sleep(0.002)
        signal.raise_signal(signal.SIGUSR2)
        signal.raise_signal(signal.SIGUSR2)

    before = signal.getsignal(signal.SIGUSR2)
    remove = timeline.dump_on_signal(tmp_path, ending=".json")
    aioxide.run(main())
    remove()
    assert signal.getsignal(signal.SIGUSR2) == before
    assert len(list(tmp_path.glob("timeline-signal-*.json"))) == 2


def test_freezes_dump(tmp_path: Path) -> None:
    async def main() -> None:
        for _ in range(3):
            time.sleep(0.5)  # long enough for a busy machine, which takes its part from the freeze
            await asyncio.sleep(0)

    remove = timeline.dump_on_freeze(tmp_path, at_most=2)
    aioxide.run(main(), debug=False)
    remove()
    pages = list(tmp_path.glob("timeline-freeze-*.html"))
    assert len(pages) == 2 and all("a blocking system call" in page.read_text() for page in pages)


def test_timeouts_and_cancellations_dump(tmp_path: Path) -> None:
    watch = timeline.dump_on_error(tmp_path, ending=".json", at_most=2)

    @watch
    async def too_slow() -> None:
        async with asyncio.timeout(0.01):
            await asyncio.Event().wait()

    async def main() -> None:
        with pytest.raises(TimeoutError):
            await too_slow()
        hanging = asyncio.create_task(watch(asyncio.sleep)(30), name="hanging")
        await asyncio.sleep(0.01)
        hanging.cancel()
        with pytest.raises(asyncio.CancelledError):
            await hanging
        with pytest.raises(ValueError), watch:
            raise ValueError("not one of those")
        with pytest.raises(TimeoutError), watch:
            raise TimeoutError("one too many")

    aioxide.run(main())
    names = sorted(path.name.split("-")[1] for path in tmp_path.iterdir())
    assert names == ["CancelledError", "TimeoutError"]
    (dumped,) = tmp_path.glob("timeline-CancelledError-*")
    data = json.loads(dumped.read_text())
    # What it had waited for so far is there, though the wait was not over for the recorder.
    lane = next(lane["id"] for lane in data["lanes"] if lane["name"].startswith("hanging"))
    assert (lane, "timer: sleep", "wait") in [
        (which, data["names"][name], state) for which, _, _, name, state in data["slices"]
    ]


def test_an_error_that_cannot_be_dumped_says_so(tmp_path: Path) -> None:
    with pytest.raises(TimeoutError) as caught, timeline.dump_on_error(tmp_path / "missing", kinds=TimeoutError):
        raise TimeoutError
    assert caught.value.__notes__[0].startswith("its timeline could not be written: ")
    with pytest.raises(ValueError, match="ends with none of"):
        timeline.dump_on_error(ending=".png")


def test_what_still_waits_when_the_recording_ends_is_drawn(tmp_path: Path) -> None:
    async def main() -> None:
        waiting = asyncio.create_task(asyncio.Event().wait(), name="patient")
        over = asyncio.create_task(asyncio.sleep(0), name="over")
        await asyncio.sleep(0.005)
        timeline.dump(tmp_path / "now.json")
        waiting.cancel()
        await over

    with timeline.record():
        aioxide.run(main())
    data = json.loads((tmp_path / "now.json").read_text())
    lanes = {lane["name"].split()[0]: lane["id"] for lane in data["lanes"]}
    last = {which: (end, state) for which, _, end, _, state in data["slices"]}
    assert last[lanes["patient"]] == (data["end_ns"] - data["start_ns"], "wait")
    assert last[lanes["over"]][1] == "run"
