"""`aioxide.EventLoopPolicy`, which Python deprecates from 3.14 on."""

from __future__ import annotations

import subprocess
import sys

import pytest

DEPRECATED = sys.version_info >= (3, 14)


def run(program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", program],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_nothing_warns_where_nobody_asks_for_the_policy() -> None:
    done = run("import asyncio, aioxide; from aioxide import *; aioxide.run(asyncio.sleep(0)); dir(aioxide)")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(DEPRECATED, reason="policies are deprecated there")
def test_a_policy_makes_our_loops() -> None:
    done = run(
        "import asyncio, aioxide\n"
        "asyncio.set_event_loop_policy(aioxide.EventLoopPolicy())\n"
        "async def main(): return type(asyncio.get_running_loop())\n"
        "print(asyncio.run(main()) is aioxide.EventLoop)"
    )
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "True\n")


@pytest.mark.skipif(not DEPRECATED, reason="policies are not deprecated here")
def test_who_asks_for_the_policy_is_warned_in_their_own_line_and_gets_it() -> None:
    import aioxide

    with pytest.warns(DeprecationWarning, match="3.16") as warned:
        policy = aioxide.EventLoopPolicy()
    assert warned[0].filename == __file__
    loop = policy.new_event_loop()
    assert isinstance(loop, aioxide.EventLoop)
    loop.close()
