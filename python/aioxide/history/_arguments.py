"""The arguments that the command and every single chapter share: where the requests go, how many, how slow."""

from __future__ import annotations

import argparse

from aioxide._arguments import checked

from ._target import DEFAULT_LATENCY, DEFAULT_REQUESTS, duration, request_count, url_template

__all__ = ["add_load", "port_number", "url_argument"]


url_argument = checked(url_template)


def port_number(text: str) -> int:
    """Read a TCP port; raises `ValueError` when it is none.

    >>> port_number("8080")
    8080
    """
    if not text.isdecimal() or not int(text) <= 65_535:
        raise ValueError(f"not a port: {text!r} (from 0 to 65535)")
    return int(text)


def add_load(parser: argparse.ArgumentParser) -> None:
    """Add `--requests`, `--latency` and `--port`."""
    parser.add_argument(
        "--requests",
        type=checked(request_count),
        default=DEFAULT_REQUESTS,
        metavar="N",
        help=f"how many requests each chapter sends (default: {DEFAULT_REQUESTS})",
    )
    parser.add_argument(
        "--latency",
        type=checked(duration),
        default=duration(DEFAULT_LATENCY),
        metavar="TIME",
        help=f"how long the embedded server takes for an answer (default: {DEFAULT_LATENCY})",
    )
    parser.add_argument(
        "--port",
        type=checked(port_number),
        default=0,
        metavar="PORT",
        help="the embedded server's port on 127.0.0.1 (default: any free one)",
    )
