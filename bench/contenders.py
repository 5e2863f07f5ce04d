"""Who takes part: the event loops, and the HTTP clients, each by the name that tables show."""

from __future__ import annotations

import asyncio
import importlib
import importlib.metadata
from collections.abc import Callable

from bench import floor

LoopFactory = Callable[[], asyncio.AbstractEventLoop]

# name: (distribution, module, attribute that makes a loop)
LOOPS: dict[str, tuple[str, str, str]] = {
    "aioxide": ("aioxide", "aioxide", "new_event_loop"),
    "asyncio": ("", "asyncio", "SelectorEventLoop"),
    "uvloop": ("uvloop", "uvloop", "new_event_loop"),
    "rloop": ("rloop", "rloop", "new_event_loop"),
    "blazio": ("blazio", "blazio", "new_event_loop"),
    "veloxloop": ("veloxloop", "veloxloop", "new_event_loop"),
    "zloop": ("zloop", "zloop", "new_event_loop"),
    "rsloop": ("rsloop", "rsloop", "new_event_loop"),
    "zuvloop": ("zuvloop", "zuvloop", "new_event_loop"),
}

# Those of the TLS rows: aiofastnet is no loop, but other transports for one.
TLS_LOOPS: dict[str, tuple[str, str, str]] = LOOPS | {
    "aiofastnet": ("aiofastnet", "bench.contenders", "aiofastnet_on_asyncio"),
    "aiofastnet-uvloop": ("aiofastnet", "bench.contenders", "aiofastnet_on_uvloop"),
}

# No contender, but what is left of a server row's work where there is neither a loop nor Python.
FLOOR = "floor"

# name: (distributions that it needs, loop that it runs on; none for a client that has no event loop)
CLIENTS: dict[str, tuple[tuple[str, ...], str | None]] = {
    "aioxide": (("aioxide",), "aioxide"),
    "aioxide-rust": (("aioxide",), "aioxide"),
    "httpx": (("httpx",), "asyncio"),
    "httpx2": (("httpx2",), "asyncio"),
    "aiohttp": (("aiohttp",), "asyncio"),
    "aiohttp-uvloop": (("aiohttp", "uvloop"), "uvloop"),
    "aiohttp-aioxide": (("aiohttp", "aioxide"), "aioxide"),
    "pyreqwest": (("pyreqwest",), "asyncio"),
    "wreq": (("wreq",), "asyncio"),
    "niquests": (("niquests",), "asyncio"),
    "tornado": (("tornado",), "asyncio"),
    "tornado-curl": (("tornado", "pycurl"), "asyncio"),
    "pycurl": (("pycurl",), None),
}

# The same of blocking code, which has no loop.
BLOCKING_CLIENTS: dict[str, tuple[str, ...]] = {
    "aioxide": ("aioxide",),
    "httpx": ("httpx",),
    "requests": ("requests",),
    "urllib3": ("urllib3",),
    "pyreqwest": ("pyreqwest",),
    "pycurl": ("pycurl",),
}


def aiofastnet_on_asyncio() -> asyncio.AbstractEventLoop:
    return aiofastnet_on("asyncio")


def aiofastnet_on_uvloop() -> asyncio.AbstractEventLoop:
    return aiofastnet_on("uvloop")


def aiofastnet_on(name: str) -> asyncio.AbstractEventLoop:
    """A loop with aiofastnet's transports."""
    loop = loop_factory(name)()
    importlib.import_module("aiofastnet").patch_loop(loop)
    return loop


def loop_factory(name: str) -> LoopFactory:
    """What makes a new event loop of the contender."""
    _, module, attribute = TLS_LOOPS[name]
    factory: LoopFactory = getattr(importlib.import_module(module), attribute)
    return factory


def distributions(name: str) -> tuple[str, ...]:
    """The installed packages that a contender, loop or client, is made of."""
    if name in CLIENTS:
        return CLIENTS[name][0]
    if name in BLOCKING_CLIENTS:
        return BLOCKING_CLIENTS[name]
    distribution = TLS_LOOPS[name][0]
    return (distribution,) if distribution else ()


def version(name: str) -> str | None:
    """The versions of a contender's packages, or None where one of them is not installed."""
    if name == FLOOR:
        return floor.version()
    try:
        return (
            ", ".join(f"{each} {importlib.metadata.version(each)}" for each in distributions(name))
            or "standard library"
        )
    except importlib.metadata.PackageNotFoundError:
        return None


def versions() -> dict[str, str]:
    """The versions of all that are installed, by name."""
    return {
        name: found for name in [*TLS_LOOPS, FLOOR, *CLIENTS, *BLOCKING_CLIENTS] if (found := version(name)) is not None
    }
