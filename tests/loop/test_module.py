"""The native module itself."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import asyncio, importlib.util, sys
import aioxide
from aioxide import _native

spec = importlib.util.spec_from_file_location("elsewhere._native", _native.__file__)
again = importlib.util.module_from_spec(spec)
spec.loader.exec_module(again)

async def main():
    loop = asyncio.get_running_loop()
    for _ in range(100):
        loop.call_soon(int)
        loop.call_later(0.001, int).cancel()
    await asyncio.sleep(0.01)

aioxide.run(main())
print("done")
"""


def test_it_may_be_made_once_more_under_another_name() -> None:
    """As pytest does that imports a folder of files without a package."""
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=30)
    assert (done.stdout, done.stderr) == ("done\n", "")


def test_a_loop_imports_nothing_that_it_does_not_need() -> None:
    """What is asked for seldom is imported when it is asked for; `aioxide.timeline` is."""
    program = """
import asyncio, sys, aioxide
aioxide.run(asyncio.sleep(0.001))
print(sorted(name for name in sys.modules if name.startswith("aioxide.")))
assert aioxide.timeline.snapshot()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=True)
    for lazy in ("concurrent", "fetch", "gen", "http", "httpclient", "timeline"):
        assert f"'aioxide.{lazy}'" not in done.stdout
