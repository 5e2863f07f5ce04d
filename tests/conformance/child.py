"""Runs tests of one module of the interpreter's own ``test.test_asyncio``, on our loop or on stock asyncio.

``python child.py LOOP MODULE RESULTS`` with LOOP ``aioxide`` or ``asyncio``; on its input, a JSON list of the ids of
tests to leave out, or, as ``{"only": [...]}``, of those to run. Each test's begin and end are appended to the file
RESULTS as lines of JSON, so that what ran before a crash or a hang is known, and which test it was.
"""

from __future__ import annotations

import asyncio
import asyncio.events
import asyncio.unix_events
import faulthandler
import functools
import importlib
import json
import signal
import sys
import time
import unittest
from collections.abc import Callable, Iterator
from typing import Any, TextIO

# Loops that ran since the process began: of ours, and of asyncio's own.
runs = {"ours": 0, "stock": 0}


def counted(run_forever: Callable[[Any], None], ours: type) -> Callable[[Any], None]:
    """``run_forever``, with each call counted for the kind of loop that it runs."""

    @functools.wraps(run_forever)
    def run(self: Any) -> None:
        runs["ours" if isinstance(self, ours) else "stock"] += 1
        run_forever(self)

    return run


def put_our_loop_in_place() -> None:
    """Make everything that asks asyncio for a loop get ours, and count how often one runs."""
    import aioxide

    class EventLoop(aioxide.EventLoop):
        """Ours, which takes no selector: where a test brings one, it is the driver that waits all the same."""

        def __init__(self, selector: object = None) -> None:
            super().__init__()

    stock = asyncio.unix_events._UnixSelectorEventLoop
    stock.run_forever = counted(stock.run_forever, EventLoop)
    if "run_forever" in vars(EventLoop) or EventLoop.run_forever is not stock.run_forever:
        EventLoop.run_forever = counted(EventLoop.run_forever, EventLoop)

    # Its name since 3.14 has an underscore in front; on Unix before that, it is the Unix one's.
    policy = getattr(asyncio.unix_events, "_DefaultEventLoopPolicy", None) or asyncio.DefaultEventLoopPolicy
    policy._loop_factory = EventLoop
    for module in (asyncio, asyncio.unix_events):
        module.SelectorEventLoop = EventLoop
        if hasattr(module, "EventLoop"):
            module.EventLoop = EventLoop
    # From 3.14 on asyncio.new_event_loop may not ask the policy.
    with asyncio.Runner() as runner:
        if not isinstance(runner.get_loop(), EventLoop):
            raise RuntimeError(f"asyncio.Runner still makes {type(runner.get_loop())}")
    loop = asyncio.new_event_loop()
    loop.close()
    if not isinstance(loop, EventLoop):
        raise RuntimeError(f"asyncio.new_event_loop still makes {type(loop)}")
    runs.update(ours=0, stock=0)


class Recorder(unittest.TestResult):
    """A result that writes down each test as it begins and ends."""

    def __init__(self, out: TextIO) -> None:
        super().__init__()
        self.out = out
        self.outcome = "ok"
        self.details = ""
        self.began = 0.0
        self.runs_before = dict(runs)

    def write(self, record: dict[str, Any]) -> None:
        self.out.write(json.dumps(record) + "\n")
        self.out.flush()

    def startTest(self, test: unittest.TestCase) -> None:
        super().startTest(test)
        self.outcome, self.details, self.began, self.runs_before = "ok", "", time.monotonic(), dict(runs)
        self.write({"begin": test.id()})

    def stopTest(self, test: unittest.TestCase) -> None:
        super().stopTest(test)
        self.write(
            {
                "end": test.id(),
                "outcome": self.outcome,
                "details": self.details,
                "seconds": round(time.monotonic() - self.began, 3),
                "ours": runs["ours"] - self.runs_before["ours"],
                "stock": runs["stock"] - self.runs_before["stock"],
            }
        )

    def failed(self, outcome: str, test: unittest.TestCase, error: Any) -> None:
        self.outcome = outcome
        self.details += self._exc_info_to_string(error, test)
        if not isinstance(test, unittest.TestCase) and not hasattr(test, "params"):
            # A class's or module's set-up: it has no begin and no end of its own.
            self.write(
                {"end": test.id(), "outcome": outcome, "details": self.details, "seconds": 0, "ours": 0, "stock": 0}
            )

    def addError(self, test: unittest.TestCase, err: Any) -> None:
        self.failed("error", test, err)

    def addFailure(self, test: unittest.TestCase, err: Any) -> None:
        self.failed("fail", test, err)

    def addSubTest(self, test: unittest.TestCase, subtest: unittest.TestCase, err: Any) -> None:
        if err is not None:
            self.failed("fail", test, err)

    def addSkip(self, test: unittest.TestCase, reason: str) -> None:
        if self.outcome == "ok":
            self.outcome, self.details = "skip", reason

    def addExpectedFailure(self, test: unittest.TestCase, err: Any) -> None:
        self.outcome = "expected failure"

    def addUnexpectedSuccess(self, test: unittest.TestCase) -> None:
        self.outcome = "fail"
        self.details += "passed, and was expected to fail"


def flat(suite: unittest.TestSuite) -> Iterator[unittest.TestCase]:
    for each in suite:
        if isinstance(each, unittest.TestSuite):
            yield from flat(each)
        else:
            yield each


def main(loop: str, module: str, results: str) -> None:
    faulthandler.enable()
    # A shell that starts something in the background has it ignore Ctrl-C, and so what it starts in turn; tests do not.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    wanted = json.load(sys.stdin)
    if loop == "aioxide":
        put_our_loop_in_place()
    from test import support

    # Nothing beyond this machine is asked for anything.
    support.use_resources = dict.fromkeys(("cpu", "subprocess", "walltime"))
    with open(results, "a") as out:
        try:
            tests = importlib.import_module(f"test.test_asyncio.{module}")
        except unittest.SkipTest as skipped:
            out.write(json.dumps({"module": "skip", "details": str(skipped)}) + "\n")
            return
        suite = unittest.defaultTestLoader.loadTestsFromModule(tests)
        if isinstance(wanted, dict):
            chosen = [test for test in flat(suite) if test.id() in set(wanted["only"])]
        else:
            chosen = [test for test in flat(suite) if test.id() not in set(wanted)]
        unittest.TestSuite(chosen).run(Recorder(out))
        out.write(json.dumps({"module": "done"}) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
