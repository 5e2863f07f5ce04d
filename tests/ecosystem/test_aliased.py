"""Real programs whose httpx is aioxide.http, by `alias_httpx`: their tests run in a process in which it comes first."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ALIASED = Path(__file__).with_name("aliased")


@pytest.mark.parametrize("program", ["openai", "mocks", "fastapi", "huggingface"])
def test_programs_run_on_ours(program: str) -> None:
    command = [sys.executable, "-m", "pytest", "-p", "tests.ecosystem.aliased.plugin", "-p", "no:cacheprovider", "-q"]
    environment = {**os.environ, "AIOXIDE_ALIASED": "1"}
    done = subprocess.run(
        [*command, str(ALIASED / f"test_{program}.py")],
        cwd=ALIASED.parents[2],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
