"""pytest-asyncio with our loop as its loop factory: in this very run, and in a project of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

import aioxide


def pytest_asyncio_loop_factories() -> dict[str, object]:
    return {"aioxide": aioxide.new_event_loop}
