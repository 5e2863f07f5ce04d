"""`aioxide fetch` as a program: its output, its journal, and what a kill leaves."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from aioxide.__main__ import main
from aioxide._native import HttpServer

STYLES = ("sequential", "threads", "async", "native")


@pytest.fixture
def server() -> Iterator[HttpServer]:
    with HttpServer() as server:
        yield server


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize("style", STYLES)
def test_each_style_fetches_the_same(
    server: HttpServer, tmp_path: Path, style: str, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out.jsonl"
    assert main(["fetch", f"{server.url}/{{1..50}}", "--style", style, "-o", str(output), "--no-robots"]) == 0
    found = lines(output)
    assert sorted(line["row"] for line in found) == list(range(50))
    assert {line["status"] for line in found} == {200}
    assert all(line["bytes"] == len(line["body"]) for line in found)
    assert "50 rows in" in capsys.readouterr().err


def test_errors_and_the_exit_status(server: HttpServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "out.jsonl"
    assert main(["fetch", f"{server.url}/close", f"{server.url}/", "--retries", "0", "-o", str(output)]) == 1
    errors = [line["error"]["type"] for line in lines(output) if "error" in line]
    assert errors == ["RemoteProtocolError"]
    assert "RemoteProtocolError: 1" in capsys.readouterr().err


def test_bodies_by_hash(server: HttpServer, tmp_path: Path) -> None:
    output = tmp_path / "out.jsonl"
    assert main(["fetch", f"{server.url}/a", f"{server.url}/a", "-o", str(output), "--bodies", "hash"]) == 0
    digests = {line["sha256"] for line in lines(output)}
    assert len(digests) == 1
    digest = digests.pop()
    stored = tmp_path / "out.jsonl.bodies" / digest[:2] / digest
    assert len(stored.read_bytes()) == lines(output)[0]["bytes"]


def test_a_table_says_method_headers_and_body(server: HttpServer, tmp_path: Path) -> None:
    table = tmp_path / "rows.jsonl"
    table.write_text(json.dumps({"url": f"{server.url}/echo", "method": "post", "body": "hello"}) + "\n")
    output = tmp_path / "out.jsonl"
    assert main(["fetch", "--from", str(table), "-o", str(output)]) == 0
    assert [line["method"] for line in lines(output)] == ["POST"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give URLs, or --from FILE"),
        (["http://127.0.0.1/", "--bodies", "hash"], "need an --output"),
        (["--from", "missing.txt"], "No such file"),
        (["http://127.0.0.1/{2..1}"], "counts down"),
        (["http://127.0.0.1/", "--rate", "0"], "a number above 0"),
        (["http://127.0.0.1/", "--concurrency", "none"], "a whole number from 1"),
        (["http://127.0.0.1/", "-H", "nothing"], "NAME:VALUE"),
        (["http://127.0.0.1/", "--timeline", "out.png"], "ends with none of .html"),
    ],
)
def test_wrong_arguments_are_told_in_one_line(
    arguments: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["fetch", *arguments]) == 2
    errors = capsys.readouterr().err
    assert message in errors
    assert errors.count("\n") == 1


def test_another_run_does_not_go_on_with_the_journal(
    server: HttpServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = str(tmp_path / "out.jsonl")
    assert main(["fetch", f"{server.url}/a", "-o", output]) == 0
    assert main(["fetch", f"{server.url}/b", "-o", output]) == 2
    assert "is of another run" in capsys.readouterr().err
    # The same run finds that all is done.
    assert main(["fetch", f"{server.url}/a", "-o", output]) == 0
    assert len(lines(tmp_path / "out.jsonl")) == 1


@pytest.mark.parametrize("name", ["out.jsonl", "out.parquet"])
def test_results_that_are_gone_are_missed(
    server: HttpServer, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    if name.endswith("parquet"):
        pytest.importorskip("pyarrow")
    output = tmp_path / name
    command = ["fetch", f"{server.url}/a", "-o", str(output)]
    assert main(command) == 0
    output.unlink()
    assert main(command) == 2
    assert "has lost results that its journal tells of" in capsys.readouterr().err


@pytest.mark.parametrize("style", STYLES)
def test_a_rate_is_kept_in_every_style(server: HttpServer, tmp_path: Path, style: str) -> None:
    begin = time.monotonic()
    output = str(tmp_path / "out.jsonl")
    assert main(["fetch", f"{server.url}/{{1..11}}", "--rate", "50", "--style", style, "-o", output]) == 0
    assert time.monotonic() - begin >= 10 / 50


@pytest.mark.parametrize("style", STYLES)
def test_a_timeline_is_drawn(server: HttpServer, tmp_path: Path, style: str) -> None:
    drawn = tmp_path / "out.json"
    command = ["fetch", f"{server.url}/{{1..20}}", "--style", style, "--concurrency", "3"]
    assert main([*command, "-o", str(tmp_path / "out.jsonl"), "--timeline", str(drawn)]) == 0
    lanes = {lane["kind"] for lane in json.loads(drawn.read_text())["lanes"]}
    assert {"sequential": "thread", "threads": "thread", "async": "task", "native": "loop"}[style] in lanes


def test_standard_input_gives_rows(server: HttpServer, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "aioxide", "fetch", "--from", "-"]
    done = subprocess.run(
        command, input=f"{server.url}/a\n{server.url}/b\n", capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert sorted(json.loads(line)["url"] for line in done.stdout.splitlines()) == [
        f"{server.url}/a",
        f"{server.url}/b",
    ]


def test_a_foreign_file_is_no_journal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "journal").write_bytes(b"not a database, by any means" * 100)
    output = ["-o", str(tmp_path / "out.jsonl"), "--journal", str(tmp_path / "journal")]
    assert main(["fetch", "http://127.0.0.1/", *output]) == 2
    assert "is no journal" in capsys.readouterr().err


def run_and_stop(command: list[str], stop: signal.Signals | None, seconds: float) -> int:
    child = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    if stop is not None:
        time.sleep(seconds)
        child.send_signal(stop)
    return child.wait(timeout=100)


@pytest.mark.parametrize("style", ["async", "native"])
@pytest.mark.parametrize("stop", [signal.SIGKILL, signal.SIGINT])
def test_an_interrupted_run_goes_on(server: HttpServer, tmp_path: Path, style: str, stop: signal.Signals) -> None:
    """Every row is in the output once, however often the run was killed."""
    seed = random.randrange(1 << 32)
    print("seed", seed)
    random.seed(seed)
    rows = 10_000
    output = tmp_path / "out.jsonl"
    command = [sys.executable, "-m", "aioxide", "fetch", f"{server.url}/{{1..{rows}}}", "--style", style]
    command += ["-o", str(output), "--bodies", "none", "--no-robots"]
    for _ in range(3):
        run_and_stop(command, stop, random.uniform(0.2, 1.2))
    # As a power cut may leave it: more than was committed, and half a line.
    with open(output, "ab") as file:
        file.write(b'{"row": 7, "url"')
    assert run_and_stop(command, None, 0) == 0
    found = lines(output)
    assert Counter(line["row"] for line in found) == Counter(range(rows))
    assert all(line["url"] == f"{server.url}/{line['row'] + 1}" for line in found)


def test_ctrl_c_keeps_what_has_come(server: HttpServer, tmp_path: Path) -> None:
    output = tmp_path / "out.jsonl"
    command = [sys.executable, "-m", "aioxide", "fetch", f"{server.url}/{{1..3}}", f"{server.url}/delay/100000"]
    child = subprocess.Popen([*command, "-o", str(output), "--style", "async"], stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 30
    while not (output.exists() and os.path.getsize(tmp_path / "out.jsonl.journal")) and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.5)
    child.send_signal(signal.SIGINT)
    _, errors = child.communicate(timeout=30)
    assert child.returncode == 130, errors
    assert len(lines(output)) == 3
