"""From recordings to panes: rows, crowds, the way of control, folds."""

from __future__ import annotations

import pytest
from tests.history import synthetic
from tests.history.synthetic import MS, US, Recorder

from aioxide.history._axis import Axis
from aioxide.history._panes import CROWD_BUCKETS, ROWS_BEFORE_CROWD, STATES, Crowd, Row, make_pane

RUN, READY, WAIT, PARK, HOST = (STATES.index(state) for state in ("run", "ready", "wait", "park", "host"))


def names(rows: list[Row | Crowd]) -> list[str]:
    return [row.name for row in rows]


def test_the_loop_comes_first_and_its_thread_is_not_drawn_twice() -> None:
    pane = make_pane(synthetic.on_a_loop())
    assert names(pane.rows) == ["event loop", "amain", "ajob-1", "ajob-2", "GET /1", "GET /2"]


def test_the_loop_hosts_what_its_tasks_run() -> None:
    loop = make_pane(synthetic.on_a_loop()).rows[0]
    assert isinstance(loop, Row)
    states = [state for _, _, state, name in loop.slices if name == "step"]
    assert states and set(states) == {HOST}
    assert {state for _, _, state, name in loop.slices if name == "Rust tasks"} == {RUN}


def test_control_goes_from_the_loop_to_each_task_and_back() -> None:
    pane = make_pane(synthetic.on_a_loop())
    (path,) = pane.switches
    assert [pane.rows[row].name for _, row in path] == [
        "event loop",  # its thread, before the loop runs
        "amain",
        "ajob-1",
        "ajob-2",
        "event loop",
        "ajob-1",
        "event loop",
        "ajob-2",
        "amain",
    ]
    assert [at for at, _ in path] == sorted(at for at, _ in path)


def test_wakes_name_rows_and_not_lanes() -> None:
    pane = make_pane(synthetic.on_a_loop())
    assert [(pane.rows[source].name, pane.rows[target].name) for _, source, target in pane.wakes][:3] == [
        ("amain", "ajob-1"),
        ("amain", "ajob-2"),
        ("ajob-1", "GET /1"),
    ]


def test_the_long_wait_is_folded_and_nothing_else() -> None:
    pane = make_pane(synthetic.on_a_loop(latency=400 * MS))
    ((start, end),) = pane.folds
    assert end - start > 399 * MS
    for row in pane.rows:
        assert isinstance(row, Row)
        edges = [edge for begin, stop, _, _ in row.slices for edge in (begin, stop)]
        assert not [edge for edge in edges if start < edge < end]


def test_a_blocking_call_is_folded_too() -> None:
    assert len(make_pane(synthetic.on_a_loop(block=400 * MS)).folds) == 2


def test_many_lanes_become_a_crowd_that_loses_nothing() -> None:
    requests = 1000
    recording = synthetic.on_a_loop(requests, 100 * MS)
    pane = make_pane(recording)
    tasks = [row for row in pane.rows if row.kind == "task"]
    assert len(tasks) == ROWS_BEFORE_CROWD + 1
    crowd = tasks[-1]
    assert isinstance(crowd, Crowd)
    assert crowd.size == requests + 1 - ROWS_BEFORE_CROWD
    assert crowd.name == f"… and {crowd.size} more"
    # The time that all of them spent in each state is the same as in the recording.
    shown = {row.lane for row in tasks if isinstance(row, Row)}
    task_lanes = {lane["id"] for lane in recording["lanes"] if lane["kind"] == "task"} - shown
    for state in (RUN, READY, WAIT):
        recorded = sum(
            end - start
            for lane, start, end, _, name in recording["slices"]
            if lane in task_lanes and name == STATES[state]
        )
        drawn = sum(crowd.counts[state]) * pane.span_ns / CROWD_BUCKETS
        assert drawn == pytest.approx(recorded, rel=0.01, abs=pane.span_ns / 100)


def test_a_lane_with_very_many_slices_is_drawn_as_shares_of_its_time() -> None:
    pane = make_pane(synthetic.on_a_loop(1000, 100 * MS))
    loop = pane.rows[0]
    assert isinstance(loop, Crowd) and loop.size == 1
    assert max(sum(parts) for parts in zip(*loop.counts, strict=True)) <= 1.05


def test_tasks_are_named_by_their_function_and_the_loops_clean_up_is_one_row() -> None:
    recorder = Recorder()
    loop = recorder.lane("event loop", "loop")
    for number, name in enumerate(
        ["Task-7 Client.fetch.<locals>.step", "Task-8 BaseEventLoop.shutdown_asyncgens"]
        + ["Task-9 BaseEventLoop.shutdown_default_executor"]
    ):
        lane = recorder.lane(name, "task")
        recorder.slice(loop, number * US, (number + 1) * US, "step", "run")
        recorder.slice(lane, number * US, (number + 1) * US, "step", "run")
    assert names(make_pane(recorder.to_dict()).rows) == ["event loop", "Task-7 step", "closing the loop"]


def test_only_the_measured_time_is_drawn() -> None:
    recorder = Recorder()
    lane = recorder.lane("MainThread", "thread")
    for begin, state in ((0, "run"), (10, "wait"), (30, "run")):
        recorder.slice(lane, begin * US, (begin + (20 if state == "wait" else 10)) * US, state, state)
    recorder.mark(5 * US, lane, "before")
    recorder.mark(20 * US, lane, "within")
    data = recorder.to_dict()
    pane = make_pane(data, data["start_ns"] + 12 * US, data["start_ns"] + 35 * US)
    (row,) = pane.rows
    assert isinstance(row, Row)
    assert pane.span_ns == 23 * US
    assert row.slices == [(0, 18 * US, WAIT, "wait"), (18 * US, 23 * US, RUN, "run")]
    assert row.marks == [(8 * US, "within")]


def test_an_empty_recording_gives_an_empty_pane() -> None:
    pane = make_pane(Recorder().to_dict())
    assert pane.rows == [] and pane.folds == [] and pane.span_ns == 1


def test_an_unknown_format_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown timeline format 2"):
        make_pane({**Recorder().to_dict(), "format": 2})


def test_the_folded_axis_never_runs_backwards() -> None:
    axis = Axis(1000, 10, 500, [(100, 400), (500, 900)])
    places = [axis.x(at) for at in range(1001)]
    assert places == sorted(places)
    assert places[0] == 10 and places[-1] == pytest.approx(510)
