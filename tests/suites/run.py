"""Runs another project's own tests against ours: httpx's against ``aioxide.http``, Tornado's against its client.

``make httpx-suite`` and ``make tornado-suite`` do it. httpx's tests come from its source distribution, which pip
fetches when it is first needed; Tornado's come with its package. A test that fails, and is not named with its reason in
``exceptions/``, fails the run; so does a pattern there of which every test passes.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import os
import subprocess
import sys
import tarfile
import tempfile
import xml.etree.ElementTree as ET
from collections import Counter
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
TEST_SECONDS_MAX = 30
SUITE_SECONDS_MAX = 600


HTTPX = "httpx==0.28.1"
# The tests marked `network` ask hosts of the internet.
HTTPX_TESTS = ["-m", "not network", "tests"]
TORNADO_TESTS = ["tornado.test.httpclient_test", "tornado.test.simple_httpclient_test"]


def source_of(requirement: str) -> Path:
    """The folder of the unpacked source distribution, fetched if it is not there yet."""
    cache = Path(sys.prefix) / "sources"
    folder = cache / requirement.replace("==", "-")
    if not folder.is_dir():
        cache.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as scratch:
            command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "download"]
            command += ["--no-deps", "--no-binary", ":all:", "--dest", scratch, requirement]
            subprocess.run(command, check=True)
            (archive,) = Path(scratch).glob("*.tar.gz")
            with tarfile.open(archive) as packed:
                packed.extractall(scratch, filter="data")
            (Path(scratch) / folder.name).rename(folder)
    return folder


def run_httpx(arguments: list[str], scratch: Path) -> dict[str, str | None]:
    """Each test by its id, with what it failed with; None when it passed. Skipped tests are left out."""
    report = scratch / "report.xml"
    command = [sys.executable, "-m", "pytest", "-p", "httpx_plugin", "-p", "no:cacheprovider", "--quiet"]
    command += [f"--timeout={TEST_SECONDS_MAX}", "--no-header", "--no-summary", f"--junit-xml={report}"]
    run_child([*command, *(arguments or HTTPX_TESTS)], source_of(HTTPX), report)
    return read_report(report)


def run_tornado(arguments: list[str], scratch: Path) -> dict[str, str | None]:
    """See run_httpx."""
    report = scratch / "report.json"
    run_child(
        [sys.executable, str(HERE / "tornado_child.py"), str(report), *(arguments or TORNADO_TESTS)], HERE, report
    )
    results: dict[str, str | None] = json.loads(report.read_text())
    return results


def run_child(command: list[str], folder: Path, report: Path) -> None:
    """Run what makes the report."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "python"), str(HERE)])}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=SUITE_SECONDS_MAX
    )
    if done.returncode not in (0, 1) or not report.exists():
        sys.exit(f"the tests could not be run:\n{done.stdout}\n{done.stderr}")


SUITES = {"httpx": run_httpx, "tornado": run_tornado}


def read_report(report: Path) -> dict[str, str | None]:
    """The outcomes that a report in JUnit's format tells. See run_httpx."""
    results: dict[str, str | None] = {}
    for case in ET.parse(report).iter("testcase"):
        name = f"{case.get('classname')}.{case.get('name')}"
        failure = next((child for child in case if child.tag in ("failure", "error")), None)
        if failure is not None:
            results[name] = (failure.get("message") or failure.text or "").partition("\n")[0]
        elif case.find("skipped") is None:
            results.setdefault(name, None)
    return results


def read_exceptions(path: Path) -> tuple[dict[str, str], set[str]]:
    """Patterns of test ids, each with its reason (the comment lines above it); and those that may pass as well."""
    exceptions: dict[str, str] = {}
    sometimes: set[str] = set()
    reason = ""
    previous_was_comment = False
    for line in path.read_text().splitlines():
        is_comment = line.startswith("#")
        if is_comment:
            text = line.lstrip("# ")
            reason = f"{reason} {text}" if previous_was_comment else text
        elif line.strip():
            if not reason:
                sys.exit(f"{path.name}: {line!r} has no reason above it")
            pattern = line.strip().removeprefix("sometimes ")
            exceptions[pattern] = reason
            if pattern != line.strip():
                sometimes.add(pattern)
        previous_was_comment = is_comment
    return exceptions, sometimes


def main() -> int:
    """Run a suite; 0 when every failure has its reason."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("suite", choices=sorted(SUITES))
    parser.add_argument("arguments", nargs="*", help="what is to be run instead of everything")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        results = SUITES[chosen.suite](chosen.arguments, Path(scratch))
    exceptions, sometimes = read_exceptions(HERE / "exceptions" / f"{chosen.suite}.txt")
    failed = {name: message for name, message in results.items() if message is not None}
    matched = {name: next((p for p in exceptions if fnmatch.fnmatchcase(name, p)), None) for name in results}
    unexpected = {name: message for name, message in failed.items() if matched[name] is None}
    needless = [
        pattern
        for pattern in exceptions
        if not chosen.arguments and pattern not in sometimes and not any(matched[name] == pattern for name in failed)
    ]
    for reason, count in Counter(exceptions[p] for name in failed if (p := matched[name]) is not None).items():
        print(f"{count:4} failed as expected: {reason}")
    for name, message in unexpected.items():
        print(f"FAILED {name}: {message}")
    for pattern in needless:
        print(f"PASSED, so it is no exception: {pattern}")
    passed = len(results) - len(failed)
    print(f"{passed} passed, {len(failed)} failed ({len(failed) - len(unexpected)} of them listed with their reason)")
    return 1 if unexpected or needless or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
