"""What loading the module does to the interpreter, and where it refuses to be loaded."""

from __future__ import annotations

import subprocess
import sys

import pytest


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.skipif(not hasattr(sys, "_is_gil_enabled"), reason="came with Python 3.13")
def test_loading_leaves_the_gil_as_it_was() -> None:
    states = run(
        "import sys; before = sys._is_gil_enabled(); import aioxide, aioxide.http, aioxide.httpclient\n"
        "print(before, sys._is_gil_enabled())"
    )
    assert states in ("True True", "False False")


@pytest.mark.parametrize("config", ["legacy", "isolated"])
@pytest.mark.parametrize("loaded_before", [False, True])
def test_a_sub_interpreter_is_refused_with_a_clear_error(config: str, loaded_before: bool) -> None:
    said = run(
        f"""
{"import aioxide" if loaded_before else ""}
try:
    import _interpreters as interpreters
    interpreter = interpreters.create({config!r})
except ImportError:
    import _xxsubinterpreters as interpreters
    interpreter = interpreters.create(isolated={config == "isolated"})
failure = interpreters.run_string(interpreter, '''
try:
    import aioxide._native
except ImportError as error:
    print(f"refused: {{error}}")
''')
assert failure is None, failure
"""
    )
    assert said.startswith("refused: ") and "interpreter" in said
