"""The TLS context that `verify` and `cert` stand for."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ssl import SSLContext

CertTypes = str | tuple[str, str] | tuple[str, str, str]


def create_ssl_context(
    verify: SSLContext | str | bool = True, cert: CertTypes | None = None, trust_env: bool = True
) -> SSLContext:
    """A context for the client side of TLS.

    `verify`: True checks certificates against the system's authorities, or those of the files that the environment
    names in SSL_CERT_FILE and SSL_CERT_DIR when `trust_env`; False checks nothing; a path names a file or a folder of
    authorities; a context is given back as it is. `cert`: the client's own certificate, as a file or as (certificate,
    key[, password]). SSLKEYLOGFILE is honoured as by the standard library.

    OSError when a file cannot be read, ssl.SSLError when it holds no certificate.

    >>> create_ssl_context().check_hostname
    True
    """
    import ssl

    if isinstance(verify, ssl.SSLContext):
        context = verify
    elif verify is False:
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif isinstance(verify, str):
        context = ssl.create_default_context(**_authorities(verify))
    elif trust_env and os.environ.get("SSL_CERT_FILE"):
        context = ssl.create_default_context(cafile=os.environ["SSL_CERT_FILE"])
    elif trust_env and os.environ.get("SSL_CERT_DIR"):
        context = ssl.create_default_context(capath=os.environ["SSL_CERT_DIR"])
    else:
        context = ssl.create_default_context()
    if cert is not None:
        context.load_cert_chain(*([cert] if isinstance(cert, str) else cert))
    return context


def _authorities(path: str) -> dict[str, Any]:
    return {"capath" if os.path.isdir(path) else "cafile": path}
