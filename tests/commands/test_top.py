"""`aioxide top`: what a process serves is right and private, and the picture says it."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import re
import select
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import aioxide
from aioxide import timeline
from aioxide.__main__ import main
from aioxide.commands._screen import fitted, screen
from aioxide.timeline._live import runtime_folder, socket_path

TOP = [sys.executable, "-m", "aioxide", "top"]
BUSY = """\
import asyncio, time
async def pinger():
    while True:
        await asyncio.sleep(0.005)
async def sleeper(): await asyncio.Event().wait()
async def main():
    print("the program's own words", flush=True)
    tasks = [asyncio.create_task(pinger()) for _ in range(3)] + [asyncio.create_task(sleeper()) for _ in range(7)]
    await asyncio.sleep(0.2)
    time.sleep(0.15)
    await asyncio.sleep(60)
asyncio.run(main())
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A runtime folder of the test's own; a socket's path must be short."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    (tmp_path / "busy.py").write_text(BUSY)
    return tmp_path


@pytest.fixture
def served() -> Iterator[None]:
    stop = timeline.serve()
    yield
    stop()


def ask(times: int = 1, pause: float = 0.0) -> list[dict[str, Any]]:
    answers = []
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(20)
        connection.connect(str(socket_path(os.getpid())))
        with connection.makefile("rwb") as stream:
            for _ in range(times):
                stream.write(b"\n")
                stream.flush()
                answers.append(json.loads(stream.readline()))
                time.sleep(pause)
    return answers


@pytest.mark.usefixtures("served")
def test_a_loop_answers_what_it_does() -> None:
    async def waits(event: asyncio.Event) -> None:
        await event.wait()

    async def main() -> list[dict[str, Any]]:
        event = asyncio.Event()
        tasks = [asyncio.create_task(waits(event)) for _ in range(5)]
        answers = await asyncio.to_thread(ask, 2, 0.05)
        event.set()
        await asyncio.gather(*tasks)
        return answers

    first, second = aioxide.run(main())
    assert first["pid"] == os.getpid() and second["at_ns"] > first["at_ns"]
    (loop,) = second["loops"]
    assert loop["thread"] == "MainThread" and loop["task_count"] == 6
    groups = {group["name"].rsplit(".", 1)[-1]: group for group in loop["groups"]}
    assert groups["waits"]["count"] == 5 and groups["waits"]["waits"] == [["lock: Event.wait", 5]]
    assert loop["numbers"]["callbacks"] > first["loops"][0]["numbers"]["callbacks"]
    text = "\n".join(screen(first, second))
    assert re.search(r"^ +5  .*waits +lock: Event.wait$", text, re.MULTILINE) and "tasks 6" in text


@pytest.mark.usefixtures("served")
def test_a_frozen_loop_is_shown_with_its_stack() -> None:
    seen: list[dict[str, Any]] = []

    async def main() -> None:
        await asyncio.sleep(0)
        looking = threading.Thread(target=lambda: seen.extend(ask()))
        looking.start()
        time.sleep(0.6)
        looking.join(0.1)

    aioxide.run(main(), debug=False)
    (loop,) = seen[0]["loops"]
    assert loop["silent_s"] > 0.2 and loop["stack"][-1][2].endswith("main")
    assert "has not answered" in "\n".join(screen(seen[0], seen[0]))
    (freeze,) = ask()[0]["freezes"]
    assert freeze["lasted_s"] > 0.5 and "sleep" in freeze["verdict"] and "main" in freeze["who"]


@pytest.mark.usefixtures("served")
def test_only_its_user_reaches_the_socket() -> None:
    path = socket_path(os.getpid())
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_a_folder_that_others_may_enter_is_refused(folder: Path) -> None:
    (folder / "aioxide").mkdir(mode=0o755)
    with pytest.raises(PermissionError, match="not be private"):
        timeline.serve()
    assert os.listdir(folder / "aioxide") == []


def test_it_ends_and_begins_again() -> None:
    for _ in range(2):
        stop = timeline.serve()
        assert timeline.serve() is not None
        assert ask()[0]["loops"] == []
        stop()
        stop()
        assert not socket_path(os.getpid()).exists()


@pytest.mark.usefixtures("served")
def test_a_forks_child_leaves_the_parents_socket_alone() -> None:
    if (child := os.fork()) == 0:
        # What the child would do at its end, and then a service of its own.
        from aioxide.timeline import _live

        _live._end_with_process()
        timeline.serve()
        os._exit(0 if ask()[0]["pid"] == os.getpid() else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert ask()[0]["pid"] == os.getpid()


def test_it_looks_at_a_process_of_its_own(folder: Path) -> None:
    environment = os.environ | {"AIOXIDE_TOP": "1"}
    command = [sys.executable, "-m", "aioxide", "run", "busy.py"]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, env=environment) as process:
        try:
            assert process.stdout is not None and process.stdout.readline()
            time.sleep(0.6)  # the freeze
            result = subprocess.run(
                [*TOP, "--once", "--interval", "300ms", str(process.pid)], capture_output=True, text=True, check=False
            )
            assert result.returncode == 0, result.stderr
            assert re.search(r"^ +7  sleeper +lock: Event.wait$", result.stdout, re.MULTILINE)
            assert re.search(r"^ +3  pinger +timer: sleep$", result.stdout, re.MULTILINE)
            assert re.search(r"froze the loop\n.*main.*sleep.*busy.py", result.stdout)
            listed = subprocess.run(TOP, capture_output=True, text=True, check=True).stdout
            assert re.search(rf"^ *{process.pid}  .*busy\.py$", listed, re.MULTILINE)
        finally:
            process.send_signal(signal.SIGINT)
            process.wait()
    assert list(runtime_folder().iterdir()) == []
    assert main(["top"]) == 0


def test_it_runs_a_script_and_shows_its_output_afterwards(folder: Path) -> None:
    result = subprocess.run(
        [*TOP, "--once", "--interval", "100ms", "busy.py"], cwd=folder, capture_output=True, text=True, check=False
    )
    assert "7  sleeper" in result.stdout
    assert result.stdout.index("7  sleeper") < result.stdout.index("the program's own words")
    assert "KeyboardInterrupt" in result.stdout


def test_in_a_terminal_it_draws_until_a_key_is_pressed(folder: Path) -> None:
    ours, theirs = pty.openpty()
    with subprocess.Popen([*TOP, "--interval", "100ms", "busy.py"], cwd=folder, stdin=theirs, stdout=theirs) as process:
        os.close(theirs)
        text = b""
        deadline = time.monotonic() + 30
        while text.count(b"\x1b[H") < 3 and time.monotonic() < deadline:
            if select.select([ours], [], [], 1)[0]:
                text += os.read(ours, 65536)
        os.write(ours, b"q")
        while process.poll() is None or select.select([ours], [], [], 0)[0]:
            try:
                text += os.read(ours, 65536)
            except OSError:
                break
    os.close(ours)
    assert text.count(b"\x1b[H") >= 3 and b"sleeper" in text
    assert text.startswith(b"\x1b[?1049h") and b"\x1b[?1049l" in text and b"the program's own words" in text


@pytest.mark.parametrize(
    ("pid", "message"), [("999999999", "there is no process"), (str(os.getppid()), "serves no numbers")]
)
def test_what_cannot_be_looked_at_is_told(pid: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["top", pid]) == 1
    assert message in capsys.readouterr().err


def test_what_does_not_fit_is_cut() -> None:
    lines = fitted(["a heading that is long", "  short", "  long enough"], 10, 2)
    assert lines == ["\x1b[1ma heading…\x1b[0m", "  short"]
