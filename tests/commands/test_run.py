"""`aioxide run`: a program sees what it would see from `python`, but for its loop."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

OURS = [sys.executable, "-m", "aioxide", "run"]
PYTHON = [sys.executable]


def run(command: list[str], folder: Path, *words: str, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*command, *words],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        **options,  # type: ignore[call-overload]
    )


def same(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """What both say and how both end, which must be the same."""
    ours, python = run(OURS, folder, *words), run(PYTHON, folder, *words)
    assert (ours.returncode, ours.stdout, ours.stderr) == (python.returncode, python.stdout, python.stderr)
    return ours


LOOKS_AROUND = """\
import asyncio, sys
import helper
main = sys.modules["__main__"]
print(sys.argv, __name__, __file__, sys.path[0], __spec__ and __spec__.name, type(__loader__).__name__)
# Which of these two there are changes from version to version.
names = set(vars(main)) - {"__annotations__", "__cached__"}
print(sorted(names), main.__dict__ is globals(), helper.VALUE)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "helper.py").write_text("VALUE = 42\n")
    (tmp_path / "looks.py").write_text(LOOKS_AROUND)
    inner = tmp_path / "inner"
    inner.mkdir()
    (inner / "helper.py").write_text("VALUE = 43\n")
    (inner / "__main__.py").write_text(LOOKS_AROUND)
    with zipfile.ZipFile(tmp_path / "packed.pyz", "w") as archive:
        for name in ("__main__.py", "helper.py"):
            archive.write(inner / name, name)
    return tmp_path


@pytest.mark.parametrize(
    "words",
    [
        ("looks.py", "a", "--freeze", "--", "-x"),
        ("./looks.py",),
        ("-m", "looks", "--", "-m", "x"),
        ("inner", "one"),
        ("packed.pyz",),
        ("-m", "inner"),
        ("-m", "no_such_module"),
        ("-m", "helper.sub"),
    ],
    ids=" ".join,
)
def test_a_program_sees_what_python_shows_it(folder: Path, words: tuple[str, ...]) -> None:
    if words[:1] == ("-m",) and words[1].startswith(("inner", "helper")):
        (folder / "inner" / "__init__.py").write_text("")
    same(folder, *words)


def test_a_linked_script_finds_its_neighbours(folder: Path) -> None:
    elsewhere = folder / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "link.py").symlink_to(folder / "looks.py")
    assert "42" in same(elsewhere, "link.py").stdout


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("import sys; sys.exit(7)", 7),
        ("import sys; sys.exit('a word')", 1),
        ("import sys; sys.exit()", 0),
        ("def f():\n    1 / 0\nf()", 1),
        ("try:\n    1 / 0\nexcept ZeroDivisionError as e:\n    raise ValueError('two') from e", 1),
        ("x = (", 1),
        ("import sys\nsys.excepthook = lambda *a: print('mine', a[0].__name__, a[2].tb_lineno)\n1 / 0", 1),
        ("import atexit\natexit.register(print, 'the end')\nraise KeyError('k')", 1),
        ("import os, signal; os.kill(os.getpid(), signal.SIGINT)\nimport time; time.sleep(9)", -signal.SIGINT),
        ("raise BrokenPipeError('mine')", 1),
        ("import threading, time\nthreading.Thread(target=lambda: (time.sleep(0.1), print('later'))).start()", 0),
        (
            "import asyncio\nasync def f(): raise OSError\nasyncio.run(asyncio.sleep(0))\nasyncio.run(f())",
            1,
        ),
    ],
)
def test_it_ends_as_with_python(folder: Path, code: str, status: int) -> None:
    (folder / "program.py").write_text(code)
    assert same(folder, "program.py").returncode == status


def test_spawned_processes_find_the_program(folder: Path) -> None:
    (folder / "program.py").write_text(
        "import multiprocessing as m\ndef double(n): return 2 * n\n"
        "if __name__ == '__main__':\n"
        "    with m.get_context('spawn').Pool(1) as pool: print(pool.map(double, [21]))\n"
    )
    assert "[42]" in same(folder, "program.py").stdout


EVERY_WAY = """\
import asyncio, threading
async def name(): return type(asyncio.get_running_loop()).__module__
print(asyncio.run(name()))
with asyncio.Runner() as runner: print(runner.run(name()))
loop = asyncio.new_event_loop()
print(loop.run_until_complete(name()))
asyncio.set_event_loop(loop)
print(asyncio.get_event_loop() is loop)
loop.close()
thread = threading.Thread(target=lambda: print(asyncio.run(name())))
thread.start()
thread.join()
async def child():
    process = await asyncio.create_subprocess_exec("true")
    return await process.wait()
print(asyncio.run(child()))
"""


def test_every_way_to_a_loop_is_ours_and_nothing_warns(folder: Path) -> None:
    (folder / "program.py").write_text(EVERY_WAY)
    result = run([sys.executable, "-W", "error", "-m", "aioxide", "run"], folder, "program.py")
    ours = "aioxide._event_loop"
    assert result.stderr == ""
    assert result.stdout.split() == [ours, ours, ours, "True", ours, "0"]


def test_what_is_recorded_is_written_however_the_program_ends(folder: Path) -> None:
    (folder / "program.py").write_text(
        "import asyncio, os, sys\nasync def the_work(): await asyncio.sleep(0.001)\n"
        "asyncio.run(the_work())\n"
        "if os.fork() == 0: sys.exit()\nos.wait()\nos.chdir('/')\n1 / 0\n"
    )
    result = run(OURS, folder, "--timeline", "out.json", "program.py")
    assert result.returncode == 1 and "ZeroDivisionError" in result.stderr
    assert re.search(r"wrote .*/out\.json \(\d+ slices\)", result.stderr)
    assert result.stderr.count("wrote") == 1
    data = json.loads((folder / "out.json").read_text())
    assert "Task-1 the_work" in [lane["name"] for lane in data["lanes"]]


def test_a_recording_without_a_loop_says_so(folder: Path) -> None:
    (folder / "program.py").write_text("print('no loop')\n")
    result = run(OURS, folder, "--timeline", "out.html", "program.py")
    assert "nothing was recorded" in result.stderr and (folder / "out.html").exists()


def test_freezes_are_reported_from_the_given_time_on(folder: Path) -> None:
    (folder / "program.py").write_text("import asyncio, time\nasync def f(): time.sleep(0.04)\nasyncio.run(f())\n")
    assert "froze the loop" in run(OURS, folder, "--freeze", "20ms", "program.py").stderr
    assert run(OURS, folder, "program.py").stderr == ""


def test_a_signal_dumps_into_the_given_folder(folder: Path) -> None:
    (folder / "program.py").write_text("import asyncio\nprint('up', flush=True)\nasyncio.run(asyncio.sleep(30))\n")
    process = subprocess.Popen([*OURS, "--dumps", "dumps", "program.py"], cwd=folder, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        process.send_signal(signal.SIGUSR2)
        deadline = time.monotonic() + 20
        while not list((folder / "dumps").glob("timeline-signal-*.html")) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert process.poll() is None
    finally:
        process.kill()
        process.communicate()
    assert list((folder / "dumps").glob("timeline-signal-*.html"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "a script or -m MODULE is missing"),
        (("-m",), "a script or -m MODULE is missing"),
        (("missing.py",), "can't open 'missing.py': No such file or directory"),
        (("--timeline", "out.txt", "looks.py"), "ends with none of"),
        (("--freeze", "soon", "looks.py"), "no duration"),
        (("--no-such-option", "looks.py"), "unrecognized arguments"),
    ],
)
def test_a_wrong_argument_is_told_in_one_line(folder: Path, words: tuple[str, ...], message: str) -> None:
    result = run(OURS, folder, *words)
    assert result.returncode == 2 and message in result.stderr and len(result.stderr.splitlines()) == 1


def test_the_installed_script_does_the_same(folder: Path) -> None:
    script = Path(sys.executable).parent / "aioxide"
    if not script.exists():
        pytest.skip("aioxide is not installed here as a script")
    expected = run(PYTHON, folder, "looks.py", "a")
    assert run([str(script), "run"], folder, "looks.py", "a", env=dict(os.environ)).stdout == expected.stdout
