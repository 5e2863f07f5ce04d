"""The TLS contexts that `verify` and `cert` stand for."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ssl import SSLContext

CertTypes = str | tuple[str, str] | tuple[str, str, str]
ContextSource = Callable[[], "SSLContext"]
"""What the core asks for the context of each connection."""


def create_ssl_context(
    verify: SSLContext | str | bool = True, cert: CertTypes | None = None, trust_env: bool = True
) -> SSLContext:
    """A context for the client side of TLS.

    `verify`: True checks certificates against the authorities in the files that the environment names in SSL_CERT_FILE
    or SSL_CERT_DIR when `trust_env`, else against certifi's, or the system's where certifi is not installed; False
    checks nothing; a path names a file or a folder of authorities; a context is given back as it is. `cert`: the
    client's own certificate, as a file or as (certificate, key[, password]). SSLKEYLOGFILE is honoured as by the
    standard library.

    OSError when a file cannot be read, ssl.SSLError when it holds no certificate.

    >>> create_ssl_context().check_hostname
    True
    """
    import ssl

    if isinstance(verify, str):
        context = ssl.create_default_context(**_authorities(verify))
    elif isinstance(verify, bool):
        context = _new_context(verify, _trust_store(trust_env) if verify else (None, None))
    else:
        context = verify
    if cert is not None:
        context.load_cert_chain(*([cert] if isinstance(cert, str) else cert))
    return context


def context_source(
    verify: SSLContext | str | bool, cert: CertTypes | None, trust_env: bool, protocols: tuple[str, ...]
) -> ContextSource:
    """Where a core gets the context of its connections; `protocols` are what it offers to speak (ALPN).

    Reading the authorities takes some 20 milliseconds, so that it is put off until there is a connection to secure,
    and contexts that nobody has a hand in are shared. What a caller names is read at once. Raised is what
    `create_ssl_context` raises.
    """
    if isinstance(verify, bool) and cert is None:
        store = _trust_store(trust_env) if verify else (None, None)
        return lambda: _shared_context(verify, store, _stamp(store), protocols)
    context = create_ssl_context(verify, cert, trust_env)
    context.set_alpn_protocols(list(protocols))
    return lambda: context


@lru_cache(maxsize=16)
def _shared_context(
    verify: bool, store: tuple[str | None, str | None], stamp: float, protocols: tuple[str, ...]
) -> SSLContext:
    context = _new_context(verify, store)
    context.set_alpn_protocols(list(protocols))
    return context


def _new_context(verify: bool, store: tuple[str | None, str | None]) -> SSLContext:
    import ssl

    if verify:
        cafile, capath = store
        return ssl.create_default_context(cafile=cafile, capath=capath)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if keylog := os.environ.get("SSLKEYLOGFILE"):
        context.keylog_filename = keylog
    return context


def _trust_store(trust_env: bool) -> tuple[str | None, str | None]:
    """The file and the folder of authorities; neither stands for the system's."""
    if trust_env and (file := os.environ.get("SSL_CERT_FILE")):
        return file, None
    if trust_env and (folder := os.environ.get("SSL_CERT_DIR")):
        return None, folder
    file = _certifi_file()
    return (file, None) if file or trust_env else _system_store()


def _system_store() -> tuple[str | None, str | None]:
    """The file and the folder that OpenSSL was built to look into; by itself it asks the environment first."""
    import ssl

    paths = ssl.get_default_verify_paths()
    file, folder = paths.openssl_cafile, paths.openssl_capath
    return file if os.path.isfile(file) else None, folder if os.path.isdir(folder) else None


@cache
def _certifi_file() -> str | None:
    from importlib import import_module

    try:
        certifi: Any = import_module("certifi")
    except ImportError:
        return None
    file: str = certifi.where()
    return file


def _stamp(store: tuple[str | None, str | None]) -> float:
    """When the authorities changed last; a context that was made before is not shared any longer."""
    path = store[0] or store[1]
    try:
        return os.stat(path).st_mtime if path else 0.0
    except OSError:
        return 0.0  # making the context says what is wrong


def _authorities(path: str) -> dict[str, Any]:
    return {"capath" if os.path.isdir(path) else "cafile": path}
