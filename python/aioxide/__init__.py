"""aioxide: the whole history of async on one event loop, in Rust.

* `run`, `new_event_loop`, `EventLoop`, `EventLoopPolicy`: a drop-in for asyncio's event loop.
* `http`: an HTTP client whose requests run as Rust futures on the loop's own thread, shaped like httpx.
* `httpclient`, `gen`, `concurrent`, `coroutine`: the same client in every style of the history, shaped like Tornado.
* `timeline`: what ran when.

>>> import aioxide
>>> async def main():
...     return "done"
>>> aioxide.run(main())
'done'
"""

from __future__ import annotations

import importlib
import sys
import warnings
from typing import TYPE_CHECKING, Any

from ._event_loop import EventLoop, new_event_loop
from ._native import __version__, build_facts
from ._run import loop_index, run

if TYPE_CHECKING:
    from . import concurrent, gen, http, httpclient, timeline
    from ._policy import EventLoopPolicy
    from .coroutines import coroutine

__all__ = [
    "EventLoop",
    "__version__",
    "build_info",
    "concurrent",
    "coroutine",
    "gen",
    "http",
    "httpclient",
    "loop_index",
    "new_event_loop",
    "run",
    "timeline",
]

if sys.version_info < (3, 14):
    # Deprecated since, so that whoever wants it has to name it; asyncio's own are no longer in `__all__` either.
    __all__ += ["EventLoopPolicy"]

# Imported when they are first asked for, so that `import aioxide` costs no more than the loop.
_LAZY_MODULES = frozenset({"concurrent", "gen", "http", "httpclient", "timeline"})


def build_info() -> dict[str, str]:
    """What this build is made of: versions, and which drivers and engines are in use.

    ``tls`` is ``libssl`` where TLS goes straight to the library that Python's `ssl` uses, and ``stdlib``, with the
    reason, where it goes through `ssl.SSLObject`; the environment variable ``AIOXIDE_TLS`` chooses.

    >>> build_info()["driver"]
    'epoll'
    """
    import ssl
    import sysconfig

    return {
        "aioxide": __version__,
        "python": sys.version.split()[0],
        "free_threaded": "yes" if sysconfig.get_config_var("Py_GIL_DISABLED") else "no",
        "driver": "epoll",
        "openssl": ssl.OPENSSL_VERSION,
        **build_facts(),
    }


def __getattr__(name: str) -> Any:
    if name in _LAZY_MODULES:
        return importlib.import_module(f".{name}", __name__)
    if name == "coroutine":
        from .coroutines import coroutine

        return coroutine
    if name == "EventLoopPolicy":
        return _event_loop_policy()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _event_loop_policy() -> type[EventLoopPolicy]:
    try:
        from ._policy import EventLoopPolicy
    except ImportError:
        raise AttributeError("aioxide.EventLoopPolicy: this Python has no event loop policies") from None
    if sys.version_info >= (3, 14):
        warnings.warn(
            "aioxide.EventLoopPolicy is deprecated like asyncio's policies, which Python 3.16 is to remove; "
            "use asyncio.Runner(loop_factory=aioxide.new_event_loop) or aioxide.run()",
            DeprecationWarning,
            stacklevel=3,
        )
    return EventLoopPolicy


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
