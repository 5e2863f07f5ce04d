"""Standing in for httpx and httpx2 in programs that import them."""

from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

HTTPX_VERSION = "0.28.1"
"""The version of httpx whose surface this package has."""

NAMES = ("httpx", "httpx2")
"""What it can stand in for: the second is the first's successor, with the same surface."""

# Private modules that programs and libraries import all the same, and where their names are found here.
_SUBMODULES = {
    "__version__": (),
    "_api": ("_api",),
    "_auth": ("_auth", "_digest"),
    "_client": ("_config", "_client", "_sync", "_async", "_redirects"),
    "_config": ("_config", "_proxies", "_tls"),
    "_content": ("_content",),
    "_decoders": ("_decoders",),
    "_exceptions": ("_exceptions",),
    "_models": ("_headers", "_request", "_response", "_cookies"),
    "_multipart": ("_multipart",),
    "_sse": ("_sse",),
    "_status_codes": ("_status_codes",),
    "_transports": (),
    "_transports.asgi": ("_transports.asgi",),
    "_transports.base": ("_transports.base",),
    "_transports.default": ("_transports.default", "_transports.default_async"),
    "_transports.mock": ("_transports.mock",),
    "_transports.wsgi": ("_transports.wsgi",),
    "_types": (
        "_auth",
        "_config",
        "_content",
        "_cookies",
        "_headers",
        "_multipart",
        "_proxies",
        "_query",
        "_tls",
        "_urls",
    ),
    "_urls": ("_urls", "_query"),
    "_utils": ("_proxies", "_quoting", "_query"),
}


class _Alias(ModuleType):
    """A module of httpx's name, whose attributes are looked up here when they are asked for."""

    def __init__(self, name: str, sources: tuple[str, ...]) -> None:
        super().__init__(name, f"aioxide.http, under httpx's name {name!r}.")
        self.__spec__ = ModuleSpec(name, None, is_package=True)
        self.__path__: list[str] = []
        self._sources = sources

    def __getattr__(self, name: str) -> Any:
        from importlib import import_module

        if not name.startswith("__"):
            for source in (*self._sources, ""):
                module = import_module(f"aioxide.http.{source}".rstrip("."))
                try:
                    return getattr(module, name)
                except AttributeError:
                    continue
        raise AttributeError(f"module {self.__name__!r}, which is aioxide.http, has no attribute {name!r}")


def alias_httpx(*names: str) -> None:
    """Have every later ``import httpx``, and ``import httpx2``, give `aioxide.http`; or only those of the `names`.

    To be called before anything imports them: RuntimeError when a real one is imported already, and then nothing has
    changed. Calling it again changes nothing. The private modules that libraries reach into (``httpx._types``,
    ``httpx._client``, …) are there too, as far as their names exist here; ``httpx.__version__`` is that of the surface,
    "0.28.1".

    >>> alias_httpx()  # doctest: +SKIP
    >>> import httpx  # doctest: +SKIP
    >>> httpx.Client.__module__  # doctest: +SKIP
    'aioxide.http._sync'
    """
    wanted = [name for name in names or NAMES if not isinstance(sys.modules.get(name), _Alias)]
    for name in wanted:
        if name not in NAMES:
            raise ValueError(f"aioxide.http has the surface of {' and '.join(NAMES)}, not of {name}")
        if name in sys.modules:
            raise RuntimeError(f"{name} is imported already: call alias_httpx() before everything that imports it")
    for name in wanted:
        sys.modules.update(_modules(name))


def _modules(package: str) -> dict[str, Any]:
    from aioxide import http

    root: Any = _Alias(package, ())
    root.__all__ = [name for name in http.__all__ if name != "alias_httpx"]
    root.__version__ = HTTPX_VERSION
    modules = {package: root}
    for name, sources in _SUBMODULES.items():
        module = modules[f"{package}.{name}"] = _Alias(f"{package}.{name}", sources)
        parent, _, last = f"{package}.{name}".rpartition(".")
        if last != "__version__":
            setattr(modules[parent], last, module)
    modules[f"{package}.__version__"].__dict__.update(
        __version__=HTTPX_VERSION, __title__=package, __description__=f"aioxide.http, with the surface of {package}"
    )
    return modules
