"""`aioxide run`: any asyncio program on aioxide's loop, recorded and watched if that is asked for."""

from __future__ import annotations

import argparse
import atexit
import os
import sys
from pathlib import Path

from .._arguments import checked, seconds
from ..timeline._export import checked_name
from ._program import run_module, run_script, use_our_loops

__all__ = ["add_arguments", "execute", "is_program", "takes_program"]

# Its exceptions and its exit status are the program's own, as the interpreter shows them.
is_program = True
takes_program = True


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to a parser."""
    parser.usage = "aioxide run [options] (SCRIPT | -m MODULE) [ARGUMENT ...]"
    parser.add_argument(
        "--timeline",
        metavar="FILE",
        type=checked(_timeline_file),
        help="record everything, and write it when the program ends; the name's ending chooses the format: "
        ".html, .pftrace, .trace.json, .profile.json or .json",
    )
    parser.add_argument(
        "--freeze",
        metavar="DURATION",
        type=checked(seconds),
        help="report callbacks that block the loop for so long, such as 50ms (default: 100ms)",
    )
    parser.add_argument(
        "--dumps",
        metavar="FOLDER",
        type=Path,
        help="write the last records there on SIGUSR2, and after each of the first ten freezes",
    )
    parser.add_argument("--top", action="store_true", help="let `aioxide top` look at the program")


def _timeline_file(name: str) -> str:
    # The program may go elsewhere.
    return os.path.abspath(checked_name(name))


def execute(arguments: argparse.Namespace) -> int:
    """Run the program. What it raises is raised here, `SystemExit` too; returns 0 if it just ends."""
    is_module, words = arguments.program[:1] == ["-m"], list(arguments.program)
    if is_module:
        del words[0]
    if not words:
        print("aioxide run: a script or -m MODULE is missing (see aioxide run --help)", file=sys.stderr)
        return 2
    if not is_module:
        try:
            os.stat(words[0])
        except OSError as error:
            print(f"aioxide run: can't open {words[0]!r}: {error.strerror}", file=sys.stderr)
            return 2
    _prepare(arguments)
    (run_module if is_module else run_script)(words[0], words[1:])
    return 0


def _prepare(arguments: argparse.Namespace) -> None:
    from .. import timeline

    use_our_loops()
    if arguments.freeze is not None:
        timeline.set_freeze_threshold(arguments.freeze)
    if arguments.dumps is not None:
        arguments.dumps.mkdir(parents=True, exist_ok=True)
        timeline.dump_on_signal(arguments.dumps)
        timeline.dump_on_freeze(arguments.dumps)
    if arguments.top:
        timeline.serve()
    if arguments.timeline is not None:
        _record_to(arguments.timeline)


def _record_to(path: str) -> None:
    from .. import timeline

    recording = timeline.record()
    recording.__enter__()
    process = os.getpid()

    def finish() -> None:
        # A fork's child that ends in Python's way has its own memory, but not its own file.
        if os.getpid() != process:
            return
        recording.__exit__(None, None, None)
        data = recording.to_dict()
        recording.save(path)
        slices = len(data["slices"])
        note = f"{slices:,} slices" if slices else "nothing was recorded: the program ran no loop of aioxide's"
        print(f"aioxide run: wrote {path} ({note})", file=sys.stderr)

    # The first that is registered is called last: what the program does at its end is recorded too.
    atexit.register(finish)
