"""Each chapter by itself, as its reader would run it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from aioxide import _native
from aioxide.history._chapters import all_chapters

ROOT = Path(__file__).resolve().parents[2]

each_chapter = pytest.mark.parametrize("chapter", all_chapters(), ids=lambda chapter: chapter.slug)


def run(file: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-X", "dev", "-W", "error", str(file), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def complaints(result: subprocess.CompletedProcess[str]) -> list[str]:
    """Standard error, less what debug mode and the watchdog rightly say of the chapter that blocks the loop."""
    freezes = re.compile(r"^.* froze the loop for .*\n(  .*\n)+", re.MULTILINE)
    slow = re.compile(r"^Executing <Task .* took 0\.\d+ seconds\n", re.MULTILINE)
    return slow.sub("", freezes.sub("", result.stderr)).splitlines()


@each_chapter
def test_an_example_runs_by_itself(chapter) -> None:  # type: ignore[no-untyped-def]
    result = run(ROOT / chapter.example, "--latency", "50ms", "--requests", "2")
    assert result.returncode == 0, result.stderr
    assert complaints(result) == []
    lines = result.stdout.splitlines()
    assert sorted(lines[:4]) == [
        "--- request 1 sent",
        "--- request 2 sent",
        "--- response 1 received",
        "--- response 2 received",
    ]
    assert lines[4].startswith("CPU times: user ") and lines[5].startswith("Wall time: ")
    if chapter.one_after_another:
        assert lines[1] == "--- response 1 received"


@each_chapter
def test_an_example_takes_a_url(chapter) -> None:  # type: ignore[no-untyped-def]
    with _native.HttpServer() as server:
        result = run(ROOT / chapter.example, server.url)
        assert result.returncode == 0, result.stderr
        assert server.requests_served() == 2


@each_chapter
def test_an_example_says_in_one_line_what_failed(chapter) -> None:  # type: ignore[no-untyped-def]
    with _native.HttpServer() as server:
        result = run(ROOT / chapter.example, f"{server.url}/close?{{n}}")
    assert result.returncode == 1
    assert len(complaints(result)) == 1, result.stderr


def test_an_example_refuses_a_bad_url() -> None:
    result = run(ROOT / "examples/history/03_async.py", "nowhere")
    assert result.returncode == 2
    assert "bad URL 'nowhere'" in result.stderr
