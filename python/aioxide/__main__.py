"""The command line: `aioxide COMMAND …`, or `python -m aioxide COMMAND …`."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Protocol, cast

from aioxide import __version__

from ._arguments import OneLineParser, split_program

__all__ = ["main"]

# Each command is a module with these two functions, imported only when it is used.
_COMMANDS = {
    "run": "aioxide.commands.run",
    "top": "aioxide.commands.top",
    "view": "aioxide.commands.view",
    "fetch": "aioxide.fetch.command",
    "history": "aioxide.history.command",
}
_HELP = {
    "run": "run an asyncio program on aioxide's loop, and record it",
    "top": "show live what the loops of a running program do",
    "view": "open what was recorded in a browser",
    "history": "run every way of writing asynchronous code, time it, and draw it",
    "fetch": "fetch many URLs, politely, and go on where an interrupted run ended",
}
# Dask's own commands, on our loop: their arguments are Dask's.
_DASK_HELP = {
    "dask-scheduler": "run Dask's scheduler on our loop, as dask scheduler does",
    "dask-worker": "run Dask's workers on our loop, as dask worker does",
}


class _Command(Protocol):
    def add_arguments(self, parser: OneLineParser) -> None:
        """Add the command's own arguments."""

    def execute(self, arguments: object) -> int:
        """Run it; returns the exit status.

        A command whose module says `is_program` ends the process with what it raises. One that says `takes_program`
        finds the words after its own options in `arguments.program`.
        """


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; `argv` defaults to the process's arguments. Returns the exit status.

    0 is success, 1 a failure and 2 a wrong argument, each told in one line on standard error; 130 means Ctrl-C.

    >>> main(["--version"])  # doctest: +ELLIPSIS
    aioxide ...
    0
    """
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        if words and words[0] in _DASK_HELP:
            from .dask.loop import run_command

            return run_command(words[0], words[1:])
        command, arguments = _parse(words)
        if not getattr(command, "is_program", False):
            return command.execute(arguments)
    except SystemExit as end:  # argparse ends so, after --help too
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except KeyboardInterrupt:
        print("aioxide: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # Whoever read our output went away. Point the stream elsewhere, or the interpreter complains at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    # The program's own errors, Ctrl-C and exit status are the interpreter's business.
    return command.execute(arguments)


def _parse(argv: list[str]) -> tuple[_Command, object]:
    parser = OneLineParser(prog="aioxide", description="The whole history of async on one event loop.")
    parser.add_argument("--version", action="version", version=f"aioxide {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    # Only the command that is asked for is loaded; the others show their line of help.
    asked = next((argument for argument in argv if not argument.startswith("-")), None)
    loaded: dict[str, _Command] = {}
    for name, module in _COMMANDS.items():
        command = commands.add_parser(
            name, help=_HELP[name], description=_HELP[name][:1].upper() + _HELP[name][1:] + "."
        )
        if name == asked:
            loaded[name] = cast(_Command, import_module(module))
            loaded[name].add_arguments(command)
            if getattr(loaded[name], "takes_program", False):
                first = argv.index(name) + 1
                own, program = split_program(command, argv[first:])
                argv = argv[:first] + own
                command.set_defaults(program=program)
    for name, text in _DASK_HELP.items():
        commands.add_parser(name, help=text)
    arguments = parser.parse_args(argv)
    return loaded[arguments.command], arguments


if __name__ == "__main__":
    sys.exit(main())
