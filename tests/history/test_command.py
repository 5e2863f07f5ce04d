"""`aioxide history` from end to end, on real sockets."""

from __future__ import annotations

import argparse
import json
import os
import pty
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from tests.http.secure import SecureServer
from tests.tls.certificates import make_certificates

from aioxide import _native
from aioxide.__main__ import main
from aioxide.history._chapters import all_chapters, select
from aioxide.history.command import add_arguments, requests_to_run

NAMES = [chapter.slug for chapter in all_chapters()]
COMMAND = [sys.executable, "-m", "aioxide", "history"]


def run(
    *arguments: str, timeout: float = 60, environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments], capture_output=True, text=True, timeout=timeout, check=False, env=environment
    )


def only_line(text: str) -> str:
    (line,) = text.splitlines()
    return line


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, object], Path]:
    """One run of everything, with all files: the report, the figures, the folder."""
    folder = tmp_path_factory.mktemp("history")
    files = ["--out", str(folder / "h.html"), "--svg", str(folder / "h.svg"), "--json", str(folder / "h.json")]
    result = run("--latency", "150ms", "--requests", "3", *files)
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    return result.stdout, json.loads((folder / "h.json").read_text()), folder


def test_every_chapter_prints_the_documents_lines(whole: tuple[str, dict[str, object], Path]) -> None:
    report = whole[0]
    for n in (1, 2, 3):
        assert len(re.findall(rf"^ +--- request {n} sent$", report, re.MULTILINE)) == len(NAMES)
        assert len(re.findall(rf"^ +--- response {n} received$", report, re.MULTILINE)) == len(NAMES)
    assert report.count("CPU times: user ") == report.count("Wall time: ") == len(NAMES)
    assert "sys.getswitchinterval() = 0.005" in report


def test_concurrent_chapters_take_one_latency_and_the_others_all(
    whole: tuple[str, dict[str, object], Path],
) -> None:
    chapters = whole[1]["chapters"]
    assert isinstance(chapters, list)
    walls = {chapter["name"]: chapter["wall_s"] for chapter in chapters}
    assert list(walls) == NAMES
    for name, wall in walls.items():
        if name in ("sequential", "synchronous"):
            assert wall >= 0.45
        elif name == "blocking":
            assert wall >= 0.55
        else:
            assert 0.15 <= wall < 0.4, name
    assert all(chapter["responses"] == 3 for chapter in chapters)


def test_the_figures_name_their_threads(whole: tuple[str, dict[str, object], Path]) -> None:
    chapters = whole[1]["chapters"]
    assert isinstance(chapters, list)
    threads = {chapter["name"]: chapter["threads"] for chapter in chapters}
    assert threads.pop("threads") == 4
    assert set(threads.values()) == {1}
    blocking = chapters[-1]
    assert blocking["others_held_s"] >= 0.4
    assert chapters[0]["speed_up_over_sequential"] == 1.0


def test_the_pictures_show_the_loop(whole: tuple[str, dict[str, object], Path]) -> None:
    page = (whole[2] / "h.html").read_text(encoding="utf-8")
    match = re.search(r'id="data">(.*?)</script>', page, re.DOTALL)
    assert match is not None
    panes = {pane["number"]: pane for pane in json.loads(match[1])["panes"]}
    assert len(panes) == len(NAMES)
    for number, name in enumerate(NAMES, start=1):
        kinds = {row["kind"] for row in panes[number]["rows"]}
        expected = {"thread"} if name in ("sequential", "threads", "synchronous") else {"loop"}
        assert expected <= kinds, name
        marks = [text for row in panes[number]["rows"] for _, text in row.get("marks", [])]
        assert len(marks) == 6, name
    assert panes[3]["switches"] and panes[3]["wakes"] and panes[3]["folds"]
    assert (whole[2] / "h.svg").read_text(encoding="utf-8").startswith("<svg ")


def test_figures_as_json_go_to_standard_output_alone(tmp_path: Path) -> None:
    result = run("--json", "--latency", "10ms", "--chapters", "async", "--out", str(tmp_path / "h.html"))
    assert result.returncode == 0 and result.stderr == ""
    document = json.loads(result.stdout)
    assert document["format"] == 1 and document["latency_s"] == 0.01 and document["requests"] == 2
    assert [chapter["name"] for chapter in document["chapters"]] == ["async"]
    assert document["chapters"][0]["speed_up_over_sequential"] is None


def test_many_requests_are_abbreviated_and_none_is_lost(tmp_path: Path) -> None:
    result = run("--requests", "300", "--latency", "50ms", "--no-picture", "--json", str(tmp_path / "h.json"))
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("more lines …") == len(NAMES)
    assert result.stdout.count("--- request") < 8 * len(NAMES)
    chapters = json.loads((tmp_path / "h.json").read_text())["chapters"]
    for chapter in chapters:
        assert chapter["responses"] == chapter["requests_run"]
        if chapter["name"] in ("sequential", "synchronous"):
            assert chapter["requests_run"] < 300
            assert chapter["extrapolated_wall_s"] == pytest.approx(chapter["wall_s"] * 300 / chapter["requests_run"])
        else:
            assert chapter["requests_run"] == 300
    assert "(extrapolated; --full runs them)" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "chapter", "expected"),
    [
        (["--requests", "1000"], "sequential", 12),
        (["--requests", "1000", "--full"], "sequential", 1000),
        (["--requests", "1000"], "async", 1000),
        (["--requests", "1000", "--latency", "4s"], "synchronous", 2),
        (["--requests", "1000", "--url", "http://localhost/"], "synchronous", 20),
        (["--requests", "3", "--url", "http://localhost/"], "synchronous", 3),
    ],
)
def test_only_chapters_that_would_take_minutes_are_cut_short(arguments: list[str], chapter: str, expected: int) -> None:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    (chosen,) = select(chapter)
    assert requests_to_run(chosen, parser.parse_args(arguments)) == expected


def test_a_url_template_names_each_request() -> None:
    with _native.HttpServer() as server:
        result = run("--url", f"{server.url}/bytes/{{n}}", "--chapters", "3,9", "--no-picture")
        assert result.returncode == 0, result.stderr
        assert server.requests_served() == 4
    assert f"2 requests to {server.url}/bytes/{{n}}" in result.stdout


def test_an_answer_that_is_no_success_is_an_answer() -> None:
    with _native.HttpServer() as server:
        result = run("--url", f"{server.url}/status/404?{{n}}", "--no-picture")
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--url", "ftp://localhost/"], "bad URL 'ftp://localhost/'"),
        (["--url", "http://"], "bad URL"),
        (["--url", "http://localhost:99999/"], "bad URL"),
        (["--url", "http://local host/"], "white space"),
        (["--requests", "0"], "out of range"),
        (["--requests", "many"], "not a number"),
        (["--latency", "soon"], "not a duration"),
        (["--latency", "6s"], "too long"),
        (["--port", "70000"], "not a port"),
        (["--chapters", "12"], "no chapter '12'"),
        (["--frobnicate"], "--frobnicate"),
    ],
)
def test_a_wrong_argument_is_one_line_and_status_2(
    arguments: list[str], word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["history", *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    line = only_line(captured.err)
    assert line.startswith("aioxide") and word in line


def test_no_command_is_one_line_and_status_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "COMMAND" in only_line(capsys.readouterr().err)


@pytest.mark.parametrize("chapter", NAMES)
def test_an_unreachable_host_is_one_line_and_status_1(chapter: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    result = run("--url", f"http://127.0.0.1:{port}/", "--chapters", chapter, "--no-picture")
    assert result.returncode == 1
    assert f"127.0.0.1:{port}" in only_line(result.stderr)


@pytest.mark.parametrize("chapter", NAMES)
def test_a_server_that_answers_nothing_is_one_line_and_status_1(chapter: str) -> None:
    with _native.HttpServer() as server:
        result = run("--url", f"{server.url}/close?{{n}}", "--chapters", chapter, "--no-picture")
    assert result.returncode == 1
    assert only_line(result.stderr).startswith("aioxide history: ")


@pytest.mark.parametrize("chapter", NAMES)
def test_a_site_with_tls(chapter: str, tmp_path: Path) -> None:
    server = SecureServer(make_certificates(tmp_path))
    arguments = ["--url", f"{server.url}/{{n}}", "--chapters", chapter, "--no-picture", "--requests", "2"]
    try:
        trusting = {**os.environ, "SSL_CERT_FILE": str(tmp_path / "ca.pem")}
        assert run(*arguments, environment=trusting).returncode == 0
        assert {message.path for message in server.requests} == {"/1", "/2"}
        refused = run(*arguments)
        assert refused.returncode == 1
        assert "certificate" in refused.stderr.splitlines()[-1]
    finally:
        server.close()


def test_a_port_in_use_is_one_line_and_status_1() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        result = run("--port", str(taken.getsockname()[1]), "--no-picture")
    assert result.returncode == 1
    assert "in use" in only_line(result.stderr)


def test_a_picture_that_cannot_be_written_is_one_line_and_status_1(tmp_path: Path) -> None:
    missing = tmp_path / "missing" / "h.html"
    result = run("--latency", "1ms", "--chapters", "3", "--out", str(missing))
    assert result.returncode == 1
    assert str(missing) in only_line(result.stderr)


@pytest.mark.parametrize("chapter", NAMES)
def test_ctrl_c_ends_each_chapter_at_once(chapter: str) -> None:
    arguments = ["--latency", "4s", "--chapters", chapter, "--no-picture", "--requests", "3"]
    with subprocess.Popen(
        [*COMMAND, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        for line in process.stdout:
            if "--- request 1 sent" in line:
                break
        time.sleep(0.6)  # past the blocking chapter's sleep, into the wait
        begun = time.monotonic()
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert err == "aioxide: interrupted\n"
    assert time.monotonic() - begun < 3


def test_progress_is_shown_on_a_terminal_only() -> None:
    controller, terminal = pty.openpty()
    seen = bytearray()

    def read() -> None:
        while True:
            try:
                data = os.read(controller, 4096)
            except OSError:  # the other end is closed
                return
            if not data:
                return
            seen.extend(data)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        arguments = ["--latency", "300ms", "--chapters", "3", "--no-picture", "--json"]
        result = subprocess.run(
            [*COMMAND, *arguments], stdout=subprocess.PIPE, stderr=terminal, timeout=30, check=False
        )
    finally:
        os.close(terminal)
        reader.join()
        os.close(controller)
    assert result.returncode == 0
    json.loads(result.stdout)
    assert b"[1/1] Async: 0 of 2 responses" in seen
    assert seen.endswith(b"\r\x1b[K")


def test_a_reader_that_goes_away_is_no_traceback() -> None:
    process = subprocess.Popen(
        [*COMMAND, "--latency", "50ms", "--no-picture"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr is not None
    err = process.stderr.read()
    process.stderr.close()
    assert process.wait(30) == 1
    assert err == b""
