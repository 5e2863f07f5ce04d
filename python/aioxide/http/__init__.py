"""HTTP for every style of concurrency: httpx's surface over the engine's own client."""

from __future__ import annotations

from ._exceptions import *  # noqa: F403
