"""Rounds: every contender's turn comes in each, so that what the machine does meanwhile meets all of them."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.rows import Row

ROOT = Path(__file__).resolve().parents[1]
ANSWER_SECONDS_MAX = 30.0


class ContenderError(Exception):
    """A contender cannot do a row: what its process said last."""


@dataclass
class Sample:
    """What one round of one contender gave."""

    operations: int
    seconds: float
    cpu_seconds: float
    latency_p50: float | None = None
    latency_p99: float | None = None
    # What the connections of a memory row took together.
    memory_bytes: int | None = None

    @property
    def cost(self) -> float:
        """What contenders are compared by: seconds of CPU for an operation, or bytes for a connection."""
        if self.memory_bytes is not None:
            return self.memory_bytes / self.operations
        return self.cpu_per_operation

    @property
    def cpu_per_operation(self) -> float:
        """Seconds of CPU, user and system, over all threads."""
        return self.cpu_seconds / self.operations

    @property
    def operations_per_second(self) -> float:
        """By the wall clock."""
        return self.operations / self.seconds


@dataclass
class Result:
    """A contender's samples of one row, or why there are none."""

    contender: str
    samples: list[Sample] = field(default_factory=list)
    peak_memory_bytes: int = 0
    error: str | None = None

    def median(self, attribute: str) -> float | None:
        """The median over the rounds of one of a sample's numbers."""
        values = [getattr(sample, attribute) for sample in self.samples]
        return statistics.median(values) if values and None not in values else None

    def spread(self) -> float | None:
        """Half of the middle half of the rounds' costs, as a part of their median."""
        values = [sample.cost for sample in self.samples]
        if len(values) < 3:
            return None
        low, middle, high = statistics.quantiles(values, n=4)
        return (high - low) / 2 / middle


class Child:
    """A process of ours that answers lines of JSON."""

    def __init__(self, command: list[str], core: int | None) -> None:
        # A file and not a pipe: one that nobody reads would fill up, and stop the process.
        self.errors = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
            cwd=ROOT,
            # Where the scheduler shares the cores out by sessions, a contender is one of its own beside what else runs.
            start_new_session=True,
            # A process of one thread, that execs at once: nothing there that the fork could leave locked.
            preexec_fn=None if core is None else lambda: os.sched_setaffinity(0, {core}),
        )

    def tell(self, order: dict[str, Any] | None = None) -> None:
        """Send a line."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps(order or {}) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            raise self.failure() from None

    def line(self) -> str:
        """The next line of its output."""
        assert self.process.stdout is not None
        # An answer is one line, so nothing is ever left in the buffer that select does not see.
        ready, _, _ = select.select([self.process.stdout], [], [], ANSWER_SECONDS_MAX)
        if not ready:
            raise ContenderError(f"no answer for {ANSWER_SECONDS_MAX:.0f} seconds")
        if line := self.process.stdout.readline():
            return line
        raise self.failure()

    def answer(self) -> dict[str, Any]:
        """The next line of its output, which is JSON."""
        line = self.line()
        try:
            answer: dict[str, Any] = json.loads(line)
        except json.JSONDecodeError:
            raise ContenderError(f"no answer but {line.strip()!r}") from None
        return answer

    def failure(self) -> ContenderError:
        """What became of it, once it no longer answers."""
        try:
            self.process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            return ContenderError("its output ended, and it did not")
        if self.process.returncode < 0:
            return ContenderError(f"killed by {signal.Signals(-self.process.returncode).name}")
        self.errors.seek(0)
        last = self.errors.read().strip().splitlines()[-1:] or [f"exit status {self.process.returncode}"]
        return ContenderError(last[0])

    def cpu_seconds(self) -> float:
        """CPU that the process has used so far, user and system, over all of its threads."""
        # The kernel's clock of another process: the clock's number is made of the process's.
        try:
            return time.clock_gettime((~self.process.pid << 3) | 2)
        except OSError:
            raise self.failure() from None

    def peak_memory_bytes(self) -> int:
        """The most that it ever had in memory."""
        return self.size("status", "VmHWM")

    def memory_bytes(self) -> int:
        """What it has in memory, counted page by page: the figures of ``status`` lag behind."""
        return self.size("smaps_rollup", "Rss")

    def size(self, file: str, name: str) -> int:
        """A size that one of the process's files under ``/proc`` tells, in bytes."""
        try:
            for line in Path(f"/proc/{self.process.pid}/{file}").read_text().splitlines():
                if line.startswith(f"{name}:"):
                    return int(line.split()[1]) * 1024
        except OSError:
            pass
        raise self.failure()  # a process that has ended has no sizes

    def stop(self) -> None:
        """End it; a child that has ended by itself is all right too."""
        self.process.kill()
        self.process.communicate()
        self.errors.close()


def cores() -> tuple[int | None, int | None]:
    """The core for contenders and the one for the load: two of them where there are two."""
    usable = sorted(os.sched_getaffinity(0))
    return (usable[0], usable[1]) if len(usable) > 1 else (None, None)


@dataclass
class Harness:
    """What all rows share: the length of a round, and the load generator."""

    loadgen: Path
    rounds: int
    round_seconds: float

    def run(self, row: Row, contenders: list[str]) -> list[Result]:
        """Measure a row: one round to warm up, then the counted ones, the contenders' order turned in each."""
        results = {name: Result(name) for name in contenders}
        try:
            self.run_rounds(row, contenders, results)
        except ContenderError as error:
            return [Result(name, error=f"no HTTP server: {error}") for name in contenders]
        return list(results.values())

    def run_rounds(self, row: Row, contenders: list[str], results: dict[str, Result]) -> None:
        """Measure a row into ``results``.

        Raises:
            ContenderError: the HTTP server did not start; a contender's own failure is in its result.
        """
        with contextlib.ExitStack() as stack:
            url = stack.enter_context(self.http_server(row)) if row.kind == "client" else ""
            contests = {name: Contest(self, row, name, url) for name in contenders}
            for contest in contests.values():
                stack.callback(contest.stop)
            for number in range(-1, self.rounds):
                turned = contenders[number % len(contenders) :] + contenders[: number % len(contenders)]
                for name in turned:
                    if results[name].error is None:
                        self.take_turn(contests[name], results[name], counted=number >= 0)

    def take_turn(self, contest: Contest, result: Result, *, counted: bool) -> None:
        """Let a contender have one round; one that cannot do it has no further one."""
        try:
            sample = contest.round()
            result.peak_memory_bytes = contest.child.peak_memory_bytes()
        except ContenderError as error:
            result.error = str(error)
            result.samples.clear()
            return
        if counted:
            result.samples.append(sample)

    @contextlib.contextmanager
    def http_server(self, row: Row) -> Iterator[str]:
        """The server of a client row, on the load's core."""
        kind = "https-server" if row.protocol == "tls" else "http-server"
        command = [sys.executable, "-m", "bench.child", kind, "aioxide", str(row.bytes_each)]
        child = Child(command, cores()[1])
        try:
            yield child.answer()["url"]
        finally:
            child.stop()


class Contest:
    """One contender at one row."""

    def __init__(self, harness: Harness, row: Row, contender: str, url: str) -> None:
        self.harness = harness
        self.row = row
        self.url = url
        self.operations = row.operations
        self.address = ""
        kind = "server" if row.kind == "memory" else row.kind
        self.command = [sys.executable, "-m", "bench.child", kind, contender, row.job]
        self.child = self.start()
        self.is_ready = False

    def start(self) -> Child:
        """Start its process, which takes a while to be ready."""
        return Child(self.command, cores()[0])

    def round(self) -> Sample:
        """Run one round.

        Raises:
            ContenderError: the contender failed.
        """
        if self.is_ready and self.row.kind == "memory":
            # What the last round's connections left free is no measure: a new process.
            self.child.stop()
            self.child, self.is_ready = self.start(), False
        if not self.is_ready:
            self.address = self.child.answer().get("address", "")
            self.is_ready = True
        match self.row.kind:
            case "server":
                return self.loaded_round()
            case "memory":
                return self.idle_round()
            case _:
                return self.own_round()

    def load(self) -> Child:
        """Start the load generator on the contender's server. It is ready once each connection has had an answer."""
        options = {
            "--protocol": self.row.protocol,
            "--address": self.address,
            "--connections": str(self.row.connections),
            "--bytes": str(self.row.bytes_each),
            "--seconds": str(self.harness.round_seconds),
        }
        return Child([str(self.harness.loadgen), *[word for pair in options.items() for word in pair]], cores()[1])

    def loaded_round(self) -> Sample:
        """Put load on the contender's server."""
        load = self.load()
        try:
            load.line()
            begin = self.child.cpu_seconds()
            load.tell()
            report = load.answer()
            cpu_seconds = self.child.cpu_seconds() - begin
        finally:
            load.stop()
        return Sample(cpu_seconds=cpu_seconds, **report)

    def idle_round(self) -> Sample:
        """Open the connections, and let them be."""
        before, begin, begin_cpu = self.child.memory_bytes(), time.perf_counter(), self.child.cpu_seconds()
        load = self.load()
        try:
            load.line()
            return Sample(
                operations=self.row.connections,
                seconds=time.perf_counter() - begin,
                cpu_seconds=self.child.cpu_seconds() - begin_cpu,
                memory_bytes=self.child.memory_bytes() - before,
            )
        finally:
            load.stop()

    def own_round(self) -> Sample:
        """Let the contender do its job by itself, for about as long as a round is."""
        self.child.tell(
            {
                "operations": self.operations,
                "url": self.url,
                "connections": self.row.connections,
                "bytes_each": self.row.bytes_each,
            }
        )
        sample = Sample(**self.child.answer())
        # Whole hundreds, since some jobs come in hundreds.
        fitting = self.operations * self.harness.round_seconds / sample.seconds
        self.operations = max(min(1000, self.row.operations), round(fitting / 100) * 100)
        return sample

    def stop(self) -> None:
        """End the contender's process."""
        self.child.stop()
