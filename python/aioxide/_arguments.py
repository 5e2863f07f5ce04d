"""Argument parsing that all commands share."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn, TypeVar

__all__ = ["OneLineParser", "checked", "seconds", "split_program"]

T = TypeVar("T")


class OneLineParser(argparse.ArgumentParser):
    """An argument parser whose complaint is one line on standard error, with exit status 2."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong with the arguments and end with status 2."""
        print(f"{self.prog}: {message} (see {self.prog} --help)", file=sys.stderr)
        raise SystemExit(2)


def checked(read: Callable[[str], T]) -> Callable[[str], T]:
    """Make of a reader that raises `ValueError` one whose message argparse shows as it is."""

    def convert(text: str) -> T:
        try:
            return read(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return convert


def seconds(text: str) -> float:
    """A duration as it is given on the command line.

    Raises `ValueError` for anything else.

    >>> seconds("50ms"), seconds("0.2s"), seconds("1")
    (0.05, 0.2, 1.0)
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)(ms|s|)", text)
    if found is None or float(found[1]) == 0:
        raise ValueError(f"{text!r} is no duration such as 50ms or 0.2s")
    return float(found[1]) * (0.001 if found[2] == "ms" else 1)


def split_program(parser: argparse.ArgumentParser, words: Sequence[str]) -> tuple[list[str], list[str]]:
    """A command's own options, and the program that follows them: ``-m`` or the first word that is no option.

    What comes then belongs to the program, as with `python`; `argparse` would take some of it for its own.

    >>> parser = argparse.ArgumentParser()
    >>> _ = parser.add_argument("--level")
    >>> split_program(parser, ["--level", "2", "-m", "tool", "--", "-x"])
    (['--level', '2'], ['-m', 'tool', '--', '-x'])
    """
    place = 0
    while place < len(words) and words[place].startswith("-") and words[place] not in ("-m", "-"):
        action = parser._option_string_actions.get(words[place])
        place += 2 if action is not None and action.nargs is None else 1
    return list(words[:place]), list(words[place:])
