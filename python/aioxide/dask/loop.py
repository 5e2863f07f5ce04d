"""Dask's own processes on our loop.

Dask asks asyncio's policy for its loops, long before it loads a preload module. So the policy is set first: by the
commands ``aioxide dask-worker`` and ``aioxide dask-scheduler``, and in a nanny's worker by importing its class.
"""

from __future__ import annotations

import asyncio
import importlib
import sys
import warnings
from collections.abc import Sequence

__all__ = ["install", "run_command"]


def install() -> None:
    """Make ours the loop that asyncio gives in this process to whoever names no other."""
    from aioxide._policy import EventLoopPolicy

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # policies go, from Python 3.14 on
        asyncio.set_event_loop_policy(EventLoopPolicy())


def run_command(name: str, arguments: Sequence[str]) -> int:
    """Run Dask's own command, whose exit status it gives, on our loop."""
    try:
        module = importlib.import_module(f"distributed.cli.{name.replace('-', '_')}")
    except ImportError:
        print(f"aioxide {name}: this needs distributed: pip install 'aioxide[dask]'", file=sys.stderr)
        return 2
    install()
    given = list(arguments)
    if name == "dask-worker" and "--worker-class" not in given:
        given = ["--worker-class", "aioxide.dask.worker.Worker", *given]
    module.main(args=given, prog_name=f"aioxide {name}", standalone_mode=True)
    return 0
