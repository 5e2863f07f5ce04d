"""The picture is what happened: slices, their order, waits and wakes of programs that know what they did."""

from __future__ import annotations

import asyncio
import concurrent.futures
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest
from tests.timeline.picture import Picture

import aioxide
from aioxide import timeline

WAIT_S = 0.005


@pytest.fixture(autouse=True)
def flight() -> Iterator[None]:
    """Each test begins and ends at the default level, with nothing recorded."""
    timeline.set_level("flight")
    yield
    timeline.set_level("flight")


def recorded(main: object) -> Picture:
    with timeline.record() as recording:
        aioxide.run(main)  # type: ignore[arg-type]
    return Picture.of(recording)


def waits(picture: Picture, lane: str) -> list[str]:
    return [name for state, name in picture.slices(lane) if state == "wait"]


def test_tasks_that_hand_over_to_each_other() -> None:
    order = []

    async def ping(mine: asyncio.Event, other: asyncio.Event) -> None:
        for _ in range(3):
            await mine.wait()
            mine.clear()
            order.append("ping")
            other.set()

    async def pong(mine: asyncio.Event, other: asyncio.Event) -> None:
        for _ in range(3):
            await mine.wait()
            mine.clear()
            order.append("pong")
            other.set()

    async def main() -> None:
        first, second = asyncio.Event(), asyncio.Event()
        async with asyncio.TaskGroup() as group:
            group.create_task(ping(first, second), name="A")
            group.create_task(pong(second, first), name="B")
            await asyncio.sleep(WAIT_S)
            first.set()

    picture = recorded(main())
    assert order == ["ping", "pong"] * 3
    one, two = (
        "A test_tasks_that_hand_over_to_each_other.<locals>.ping",
        "B test_tasks_that_hand_over_to_each_other.<locals>.pong",
    )
    between = [wake for wake in picture.wakes() if set(wake) <= {one, two}]
    assert between == [(one, two), (two, one)] * 2 + [(one, two)]
    assert waits(picture, one) == ["lock: Event.wait"] * 3
    assert [state for state, _ in picture.slices(one)] == ["ready"] + ["run", "wait", "ready"] * 3 + ["run"]
    # Who created a task is who scheduled it first.
    main_lane = next(lane["name"] for lane in picture.data["lanes"] if lane["name"].endswith(".main"))
    assert (main_lane, one) in picture.wakes() and (main_lane, two) in picture.wakes()


def test_no_two_lanes_of_a_loop_run_at_once_and_nothing_is_lost() -> None:
    async def main() -> None:
        await asyncio.gather(*(asyncio.sleep(0.0001 * number) for number in range(200)))

    picture = recorded(main())
    loop = next(lane for lane in picture.data["lanes"] if lane["kind"] == "loop")
    runs = sorted((start, end) for lane, start, end, _, state in picture.data["slices"] if lane == loop["id"])
    assert all(before[1] <= after[0] for before, after in zip(runs, runs[1:], strict=False))
    tasks = [lane for lane in picture.data["lanes"] if lane["group"] == "sleep"]
    assert len(tasks) == 200 and len({lane["name"] for lane in tasks}) == 200
    assert all(lane["source"].partition(":")[0].endswith("tasks.py") for lane in tasks)
    assert picture.data["dropped"] == 0 and picture.data["grouped_steps"] == 0


def test_times_are_those_that_the_program_measures() -> None:
    async def main() -> tuple[int, int]:
        before = time.monotonic_ns()
        while time.monotonic_ns() - before < 20_000_000:
            pass
        return before, time.monotonic_ns()

    def early_and_late() -> int:
        """By how many ns, at most, the recorded slice begins before or ends after what the program measured."""
        with timeline.record() as recording:
            began, ended = aioxide.run(main())
        picture = Picture.of(recording)
        lane = next(lane["name"] for lane in picture.data["lanes"] if lane["name"].endswith(".main"))
        start, end = (moment + picture.data["start_ns"] for moment in picture.spans(lane, "run")[0])
        assert start <= began + 1000 and ended - 1000 <= end
        return max(began - start, end - ended)

    # The kernel may take the processor away just between the two clocks, but hardly each time.
    assert any(early_and_late() < 5_000_000 for _ in range(20))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("timer", "timer: sleep"),
        ("lock", "lock: Lock.acquire"),
        ("queue", "queue: Queue.get"),
        ("task", "task: test_what_is_waited_for.<locals>.main"),
        ("tasks", "tasks: test_what_is_waited_for.<locals>.main"),
        ("executor", "executor: to_thread"),
        ("future", "future: test_what_is_waited_for.<locals>.main"),
        ("dns", "DNS: BaseEventLoop.getaddrinfo"),
        ("recv", "socket: test_what_is_waited_for.<locals>.main"),
        ("stream", "socket read: "),
    ],
)
def test_what_is_waited_for(name: str, expected: str) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        if name == "timer":
            await asyncio.sleep(WAIT_S)
        elif name == "lock":
            lock = asyncio.Lock()
            await lock.acquire()
            loop.call_later(WAIT_S, lock.release)
            await lock.acquire()
        elif name == "queue":
            queue: asyncio.Queue[int] = asyncio.Queue()
            loop.call_later(WAIT_S, queue.put_nowait, 1)
            await queue.get()
        elif name == "task":
            await asyncio.create_task(asyncio.sleep(WAIT_S))
        elif name == "tasks":
            await asyncio.gather(asyncio.sleep(WAIT_S), asyncio.sleep(WAIT_S))
        elif name == "executor":
            await asyncio.to_thread(time.sleep, WAIT_S)
        elif name == "future":
            future = loop.create_future()
            loop.call_later(WAIT_S, future.set_result, None)
            await future
        elif name == "dns":
            await loop.getaddrinfo("localhost", 80)
        else:
            await sockets(name)

    async def sockets(name: str) -> None:
        loop = asyncio.get_running_loop()
        one, other = socket.socketpair()
        one.setblocking(False)
        with one, other:
            loop.call_later(WAIT_S, other.send, b"hello")
            if name == "recv":
                await loop.sock_recv(one, 10)
            else:
                reader, writer = await asyncio.open_connection(sock=one)
                await reader.read(10)
                writer.close()
                await writer.wait_closed()

    picture = recorded(main())
    lane = next(lane["name"] for lane in picture.data["lanes"] if lane["name"].endswith(".main"))
    expected = expected.replace("<locals>.main", "<locals>.sockets") if name == "recv" else expected
    assert any(wait.startswith(expected) for wait in waits(picture, lane)), waits(picture, lane)


def test_a_timer_is_ready_from_its_time_on() -> None:
    """Not from when it was set, nor from when the loop got to it."""

    async def main() -> None:
        sleeper = asyncio.create_task(asyncio.sleep(0.02), name="sleeper")
        await asyncio.sleep(0.01)
        time.sleep(0.05)
        await sleeper

    picture = recorded(main())
    (waited,) = picture.spans("sleeper sleep", "wait")
    callbacks = picture.spans("callbacks", "run")
    assert callbacks
    # The timer's callback could have run after 20 ms; it ran after the blocking call.
    assert any(55_000_000 < end for _, end in callbacks)
    due = [at for at, _, target, _ in picture.data["wakes"] if target == picture.lane("callbacks")["id"]]
    assert any(15_000_000 < at - waited[0] < 45_000_000 for at in due), (due, waited)


def test_executor_threads_show_what_they_do_and_for_whom() -> None:
    def work() -> None:
        time.sleep(WAIT_S)

    async def main() -> None:
        with concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="mine") as pool:
            await asyncio.get_running_loop().run_in_executor(pool, work)

    picture = recorded(main())
    worker = picture.lane("mine_0")
    assert worker["kind"] == "thread"
    assert picture.slices("mine_0") == [("run", "test_executor_threads_show_what_they_do_and_for_whom.<locals>.work")]
    main_lane = next(lane["name"] for lane in picture.data["lanes"] if lane["name"].endswith(".main"))
    assert (main_lane, "mine_0") in picture.wakes()


def test_executors_get_the_function_itself_where_they_may_look_at_it() -> None:
    class Own(concurrent.futures.ThreadPoolExecutor):
        def submit(self, fn, /, *args, **kwargs):  # type: ignore[no-untyped-def]
            seen.append(fn)
            return super().submit(fn, *args, **kwargs)

    seen: list[object] = []

    async def main() -> None:
        with Own(1) as pool:
            await asyncio.get_running_loop().run_in_executor(pool, time.monotonic)

    aioxide.run(main())
    assert seen == [time.monotonic]


def test_the_flight_recorder_is_always_on_and_bounded() -> None:
    async def main() -> None:
        for _ in range(100_000):
            await asyncio.sleep(0)
        await asyncio.create_task(asyncio.sleep(WAIT_S), name="the last")
        await asyncio.sleep(WAIT_S)

    async def slow_steps() -> None:
        # Each slower than the recorder's limit, so that each gets a record.
        for _ in range(400):
            until = time.perf_counter_ns() + 60_000
            while time.perf_counter_ns() < until:
                pass
            await asyncio.sleep(0)

    aioxide.run(main(), debug=False)
    data = timeline.snapshot()
    assert data["grouped_steps"] > 50_000
    assert any(lane["name"] == "the last sleep" for lane in data["lanes"])
    aioxide.run(slow_steps(), debug=False)
    picture = Picture(timeline.snapshot())
    lane = next(lane["name"] for lane in picture.data["lanes"] if lane["name"].endswith(".slow_steps"))
    assert len(picture.spans(lane, "run")) > 300


def test_what_does_not_fit_is_counted() -> None:
    async def main() -> None:
        for _ in range(20_000):
            await asyncio.sleep(0)

    with timeline.record(4096) as recording:
        aioxide.run(main())
    data = recording.to_dict()
    assert data["dropped"] >= 20_000 - 4096
    assert 2000 < sum(1 for slice_ in data["slices"] if slice_[4] == "run") <= 2 * 4097


def test_levels() -> None:
    assert timeline.level() == "flight"
    with timeline.record():
        assert timeline.level() == "full"
        with pytest.raises(RuntimeError, match="while a recording is under way"):
            timeline.set_level("counters")
    assert timeline.level() == "flight"
    timeline.set_level("counters")
    aioxide.run(asyncio.sleep(WAIT_S))
    data = timeline.snapshot()
    assert data["slices"] == [] and data["lanes"] == []
    with pytest.raises(ValueError, match="not .everything."):
        timeline.set_level("everything")  # type: ignore[arg-type]


def test_recording_does_not_keep_tasks_alive() -> None:
    import gc
    import weakref

    async def main() -> None:
        task = asyncio.create_task(asyncio.sleep(0))
        await task
        known = weakref.ref(task)
        del task
        await asyncio.sleep(0)
        gc.collect()
        assert known() is None

    recorded(main())


def test_a_recording_that_begins_amid_a_run_misses_nothing_after_it() -> None:
    async def main() -> Picture:
        for _ in range(1000):  # until the loop records in groups
            await asyncio.sleep(0)
        with timeline.record() as recording:
            await asyncio.create_task(asyncio.sleep(0), name="one")
            await asyncio.create_task(asyncio.sleep(WAIT_S), name="two")
        return Picture.of(recording)

    picture = aioxide.run(main())
    assert [state for state, _ in picture.slices("two sleep")] == ["ready", "run", "wait", "ready", "run"]


def test_loops_in_threads_have_lanes_of_their_own() -> None:
    def run(number: int) -> None:
        aioxide.run(asyncio.wait_for(asyncio.sleep(WAIT_S), 10))

    threads = [threading.Thread(target=run, args=(number,)) for number in range(4)]
    with timeline.record() as recording:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    lanes = [lane for lane in recording.to_dict()["lanes"] if lane["kind"] == "loop"]
    assert len({lane["thread"] for lane in lanes}) == 4


def test_many_threads_do_not_grow_the_flight_recorder() -> None:
    """Rings of threads that have ended are used again: sixteen at most."""
    program = """
import asyncio, resource, threading, aioxide
async def work():
    for _ in range(2000):
        await asyncio.sleep(0)
def turn():
    thread = threading.Thread(target=aioxide.run, args=(work(),))
    thread.start()
    thread.join()
for _ in range(40):
    turn()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for _ in range(100):
    turn()
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, aioxide.timeline.snapshot()["dropped"] > 0)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=100)
    grown_kib, dropped = done.stdout.split()
    assert int(grown_kib) < 16 * 1024 and dropped == "True"
