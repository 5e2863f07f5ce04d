"""Argument parsing that all commands share."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import NoReturn, TypeVar

__all__ = ["OneLineParser", "checked"]

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
