"""The native core behind both clients: made here, with the package's own settings."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aioxide._native import HttpClient

    from ._config import Limits


def open_core(limits: Limits) -> HttpClient:
    """New connection pools with these limits, for any thread and any loop."""
    from aioxide._native import HttpClient

    return HttpClient(
        max_connections=limits.max_connections,
        max_keepalive_connections=limits.max_keepalive_connections,
        keepalive_expiry=limits.keepalive_expiry,
    )


@cache
def user_agent() -> str:
    """What the client calls itself."""
    from aioxide import __version__

    return f"aioxide/{__version__}"
