"""Runs the interpreter's own ``test.test_asyncio`` on aioxide's loop and on stock asyncio, and compares.

``make conformance`` runs it whole; ``CONFORMANCE_ARGS="test_events test_streams"`` names modules. Each module runs in a
child process of its own; a test that hangs or crashes costs its child, and the module goes on in another without it.
What stock asyncio passes and ours does not is run again by itself; what then still differs fails the run, unless
``exceptions/`` names it with a reason.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import fnmatch
import importlib.util
import json
import os
import pkgutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
CHILD = HERE / "child.py"
EXCEPTIONS = HERE / "exceptions"
TEST_SECONDS_MAX = 60.0
MODULE_SECONDS_MAX = 900.0
PASSED = {"ok", "expected failure"}


@dataclass
class Outcome:
    """How one test ended."""

    outcome: str
    details: str = ""
    seconds: float = 0.0
    ours: int = 0
    stock: int = 0

    @property
    def passed(self) -> bool:
        """Whether it ran and held."""
        return self.outcome in PASSED


@dataclass
class ModuleRun:
    """A test module on one loop."""

    module: str
    loop: str
    tests: dict[str, Outcome] = field(default_factory=dict)
    skipped: str | None = None


def modules() -> list[str]:
    """The test modules that this interpreter has."""
    package = importlib.util.find_spec("test.test_asyncio")
    if package is None or package.submodule_search_locations is None:
        sys.exit("conformance: this Python comes without its test package (Debian: libpython3.x-testsuite)")
    names = [each.name for each in pkgutil.iter_modules(package.submodule_search_locations)]
    return sorted(name for name in names if name.startswith("test_"))


def run_module(module: str, loop: str, only: Iterable[str] | None = None) -> ModuleRun:
    """Run a module's tests, in as many children as hangs and crashes make necessary."""
    run = ModuleRun(module, loop)
    with tempfile.TemporaryDirectory(prefix="conformance-") as folder:
        while not child_finishes(run, only, folder):
            pass
    return run


def child_finishes(run: ModuleRun, only: Iterable[str] | None, folder: str) -> bool:
    """Start a child with the tests that are left. True when it, and so the module, came to its end."""
    left: Any = list(run.tests) if only is None else {"only": [name for name in only if name not in run.tests]}
    results = Path(folder) / "results.jsonl"
    results.write_text("")
    errors = Path(folder) / "errors.txt"
    with errors.open("w") as stderr:
        child = subprocess.Popen(
            [sys.executable, str(CHILD), run.loop, run.module, str(results)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=stderr,
            text=True,
            cwd=folder,
            env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},
        )
        assert child.stdin is not None
        with child.stdin:
            json.dump(left, child.stdin)
        hung = not wait(child, results)
    current, finished = read(results, run)
    if finished:
        return True
    last_words = errors.read_text()[-4000:]
    if current is None and hung:
        # Between tests, or at the end: whatever is left of the module cannot be run.
        run.tests[f"{run.module}: outside of any test"] = Outcome("hang", last_words)
        return True
    if current is None:
        run.tests[f"{run.module}: outside of any test"] = Outcome(
            "crash", f"exit status {child.returncode}\n{last_words}"
        )
        return True
    ending = f"no end within {TEST_SECONDS_MAX:.0f} s" if hung else f"exit status {child.returncode}"
    run.tests[current] = Outcome(
        "hang" if hung else "crash", f"{ending}\n{last_words}", TEST_SECONDS_MAX if hung else 0.0
    )
    return False


def wait(child: subprocess.Popen[str], results: Path) -> bool:
    """Wait for the child's end; one that writes nothing down for too long is killed. Whether it ended by itself."""
    begin = changed = time.monotonic()
    size = 0
    while True:
        try:
            child.wait(timeout=0.5)
            return True
        except subprocess.TimeoutExpired:
            now = time.monotonic()
        if (current := results.stat().st_size) != size:
            size, changed = current, now
        if now - changed > TEST_SECONDS_MAX or now - begin > MODULE_SECONDS_MAX:
            # The child's faulthandler says on its error stream where each thread is.
            child.send_signal(6)
            try:
                child.wait(timeout=5)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
            return False


def read(results: Path, run: ModuleRun) -> tuple[str | None, bool]:
    """Take a child's results. Answers the test that began and did not end, and whether the child came to its end."""
    current, finished = None, False
    for line in results.read_text().splitlines():
        record = json.loads(line)
        if "begin" in record:
            current = record["begin"]
        elif "end" in record:
            name = record.pop("end")
            run.tests[name] = Outcome(**record)
            current = None
        else:
            finished = True
            if record["module"] == "skip":
                run.skipped = record["details"]
    return current, finished


@dataclass
class Comparison:
    """A module on both loops."""

    stock: ModuleRun
    ours: ModuleRun
    flaky: list[str] = field(default_factory=list)

    def differing(self) -> list[str]:
        """Tests that stock asyncio passes, and ours does not."""
        missing = Outcome("missing")
        passed = [name for name, outcome in self.stock.tests.items() if outcome.passed]
        return [name for name in passed if not self.ours.tests.get(name, missing).passed] + [
            name for name, outcome in self.ours.tests.items() if name not in self.stock.tests and not outcome.passed
        ]

    def run_again(self) -> None:
        """Run each differing test by itself, twice at most: what passes then differs only under load, and is noted."""
        for _ in range(2):
            again = [
                name for name in self.differing() if self.ours.tests.get(name, Outcome("")).outcome in ("fail", "error")
            ]
            if not again:
                return
            for name, outcome in run_module(self.ours.module, "aioxide", again).tests.items():
                if outcome.passed:
                    self.ours.tests[name] = outcome
                    self.flaky.append(name)


class Exceptions:
    """Tests that may differ, each with its reason.

    They are the lines ``pattern  # reason`` of ``any.txt`` and of the file of the Python version.
    """

    def __init__(self) -> None:
        self.reasons: dict[str, str] = {}
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        for path in (EXCEPTIONS / "any.txt", EXCEPTIONS / f"{version}.txt"):
            for number, line in enumerate(path.read_text().splitlines() if path.exists() else [], 1):
                pattern, _, reason = (part.strip() for part in line.partition("#"))
                if not pattern:
                    continue
                if not reason:
                    sys.exit(
                        f"conformance: {path.name}:{number}: an exception wants a reason: {pattern}  # because ..."
                    )
                self.reasons[pattern] = reason
        self.used: set[str] = set()

    def reason(self, name: str) -> str | None:
        """Why the test may differ; None where it may not."""
        for pattern, reason in self.reasons.items():
            if fnmatch.fnmatchcase(name, pattern):
                self.used.add(pattern)
                return reason
        return None

    def unused(self, names: Iterable[str]) -> list[str]:
        """Exceptions for tests among `names`, which ran, of which none differs any longer."""
        return [
            pattern
            for pattern in self.reasons
            if pattern not in self.used and any(fnmatch.fnmatchcase(name, pattern) for name in names)
        ]


def table(comparisons: list[Comparison], unexcused: dict[str, Outcome]) -> str:
    """A line for each module, and their sum."""
    titles = ["tests", "stock ok", "ours ok", "ran ours", "hang", "crash", "excepted", "to fix"]
    head = table_line("module", titles)
    lines, sums = [head, "-" * len(head)], [0] * 8
    for each in comparisons:
        if each.stock.skipped is not None:
            lines.append(f"{each.stock.module:<28}skipped: {each.stock.skipped}")
            continue
        differing = each.differing()
        ours = each.ours.tests.values()
        numbers = [
            len(each.stock.tests),
            sum(outcome.passed for outcome in each.stock.tests.values()),
            sum(outcome.passed for outcome in ours),
            sum(outcome.ours > 0 for outcome in ours),
            sum(outcome.outcome == "hang" for outcome in ours),
            sum(outcome.outcome == "crash" for outcome in ours),
            sum(name not in unexcused for name in differing),
            sum(name in unexcused for name in differing),
        ]
        sums = [total + number for total, number in zip(sums, numbers, strict=True)]
        lines.append(table_line(each.stock.module, numbers))
    lines += ["-" * len(head), table_line("all", sums)]
    return "\n".join(lines)


def table_line(name: str, numbers: Iterable[object]) -> str:
    """A line of the table."""
    widths = (7, 10, 9, 10, 6, 7, 10, 8)
    return f"{name:<28}" + "".join(f"{number!s:>{width}}" for number, width in zip(numbers, widths, strict=True))


def compare(module: str) -> Comparison:
    """Run a module on both loops."""
    comparison = Comparison(run_module(module, "asyncio"), run_module(module, "aioxide"))
    comparison.run_again()
    print(f"  {module}: {len(comparison.differing())} differ", file=sys.stderr, flush=True)
    return comparison


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="conformance", description=__doc__)
    parser.add_argument(
        "modules", nargs="*", help="test modules, for example test_events; all of them where none is named"
    )
    parser.add_argument(
        "--jobs", type=int, default=len(os.sched_getaffinity(0)), help="modules at a time (as many as cores)"
    )
    parser.add_argument("--report", type=Path, metavar="FILE", help="write what differs there, with tracebacks")
    options = parser.parse_args()
    unknown = set(options.modules) - set(modules())
    if unknown:
        parser.error(f"this Python has no {', '.join(sorted(unknown))}")
    return options


def main() -> int:
    options = arguments()
    chosen = options.modules or modules()
    print(f"Python {sys.version.split()[0]}: test.test_asyncio on stock asyncio and on aioxide", file=sys.stderr)
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        comparisons = list(pool.map(compare, chosen))
    exceptions = Exceptions()
    unexcused: dict[str, Outcome] = {}
    for each in comparisons:
        for name in each.differing():
            if exceptions.reason(name) is None:
                unexcused[name] = each.ours.tests.get(name, Outcome("missing"))
    summary = table(comparisons, unexcused)
    print(summary)
    listing = "\n".join(f"{outcome.outcome:<8}{name}" for name, outcome in unexcused.items())
    if options.report:
        details = "\n\n".join(f"=== {outcome.outcome} {name}\n{outcome.details}" for name, outcome in unexcused.items())
        options.report.write_text(f"{summary}\n\n{listing}\n\n{details}\n")
    for name in (name for each in comparisons for name in each.flaky):
        print(f"passed only by itself: {name}")
    for pattern in exceptions.unused([name for each in comparisons for name in each.stock.tests]):
        print(f"no longer an exception: {pattern}")
    if not any(outcome.ours for each in comparisons for outcome in each.ours.tests.values()):
        print("no test ran our loop: the comparison says nothing")
        return 1
    passed = sum(outcome.passed for each in comparisons for outcome in each.ours.tests.values())
    if unexcused:
        print(f"\nstock asyncio passes these, ours does not:\n{listing}\n")
    print(f"{passed} passed, {len(unexcused)} failed")
    return 1 if unexcused else 0


if __name__ == "__main__":
    sys.exit(main())
