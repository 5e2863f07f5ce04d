"""HTTP digest authentication (RFC 7616)."""

from __future__ import annotations

import hashlib
import os
import re
from typing import TYPE_CHECKING, NamedTuple

from ._auth import Auth, AuthFlow
from ._cookies import Cookies
from ._exceptions import ProtocolError

if TYPE_CHECKING:
    from ._request import Request

_HASHES = {"MD5": "md5", "SHA": "sha1", "SHA-256": "sha256", "SHA-512": "sha512", "SHA-512-256": "sha512_256"}
_PARAMETER = re.compile(r'([A-Za-z0-9_-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,]*))')
_UNQUOTED = ("algorithm", "qop", "nc")


class DigestAuth(Auth):
    """User and password, never sent themselves: the server's challenge is answered with a hash of them.

    The first request goes without credentials, unless an earlier challenge of the server can be answered again.
    ProtocolError for a challenge that cannot be understood, NotImplementedError for one that asks for ``auth-int``
    alone. One object may be used for several requests, of one server.
    """

    def __init__(self, username: str | bytes, password: str | bytes) -> None:
        self._username = username.encode() if isinstance(username, str) else username
        self._password = password.encode() if isinstance(password, str) else password
        self._last_challenge: Challenge | None = None
        self._nonce_count = 1

    def auth_flow(self, request: Request) -> AuthFlow:
        """Send the request, and again with an answer to the challenge."""
        if self._last_challenge is not None:
            request.headers["Authorization"] = self._build_auth_header(request, self._last_challenge)
        response = yield request
        if response.status_code != 401:
            return
        offered = response.headers.get_list("www-authenticate")
        header = next((each for each in offered if each.lower().startswith("digest ")), None)
        if header is None:
            return
        self._last_challenge = parse_challenge(header, request)
        self._nonce_count = 1
        request.headers["Authorization"] = self._build_auth_header(request, self._last_challenge)
        if response.headers._first(b"set-cookie") is not None:
            Cookies(response.cookies).set_cookie_header(request)
        yield request

    def _build_auth_header(self, request: Request, challenge: Challenge) -> str:
        algorithm = challenge.algorithm.upper()
        hash_name = _HASHES[algorithm.removesuffix("-SESS")]

        def digest(*parts: bytes) -> bytes:
            # MD5 and SHA-1 are what the server asks for here, not a choice.
            return hashlib.new(hash_name, b":".join(parts), usedforsecurity=False).hexdigest().encode()

        count = b"%08x" % self._nonce_count
        self._nonce_count += 1
        own_nonce = self._get_client_nonce(self._nonce_count - 1, challenge.nonce)
        secret = digest(self._username, challenge.realm, self._password)
        if algorithm.endswith("-SESS"):
            secret = digest(secret, challenge.nonce, own_nonce)
        path = request.url.raw_path
        asked = digest(request.method.encode(), path)
        qop = _choose_qop(challenge.qop, request)
        answer = digest(secret, challenge.nonce, *((count, own_nonce, qop) if qop else ()), asked)
        fields = {
            "username": self._username.replace(b"\\", b"\\\\").replace(b'"', b'\\"'),
            "realm": challenge.realm,
            "nonce": challenge.nonce,
            "uri": path,
            "response": answer,
            "algorithm": challenge.algorithm.encode(),
        }
        if challenge.opaque is not None:
            fields["opaque"] = challenge.opaque
        if qop:
            fields |= {"qop": qop, "nc": count, "cnonce": own_nonce}
        return "Digest " + ", ".join(
            f"{name}={value.decode()}" if name in _UNQUOTED else f'{name}="{value.decode()}"'
            for name, value in fields.items()
        )

    def _get_client_nonce(self, nonce_count: int, nonce: bytes) -> bytes:
        return os.urandom(8).hex().encode()


class Challenge(NamedTuple):
    """What a server's ``WWW-Authenticate: Digest`` says."""

    realm: bytes
    nonce: bytes
    algorithm: str
    opaque: bytes | None
    qop: bytes | None


def parse_challenge(header: str, request: Request) -> Challenge:
    """The challenge of a header's value, ``Digest`` included. ProtocolError when realm or nonce are missing."""
    found = {}
    for name, quoted, plain in _PARAMETER.findall(header[len("digest ") :]):
        found[name.lower()] = re.sub(r"\\(.)", r"\1", quoted) if quoted else plain
    algorithm = found.get("algorithm", "MD5")
    if "realm" not in found or "nonce" not in found:
        raise ProtocolError(
            f"{request.url.host}: the digest challenge lacks a realm or a nonce: {header!r}", request=request
        )
    if algorithm.upper().removesuffix("-SESS") not in _HASHES:
        raise ProtocolError(
            f"{request.url.host}: the digest challenge asks for an unknown algorithm: {algorithm!r}", request=request
        )
    opaque, qop = found.get("opaque"), found.get("qop")
    return Challenge(
        found["realm"].encode(),
        found["nonce"].encode(),
        algorithm,
        None if opaque is None else opaque.encode(),
        None if qop is None else qop.encode(),
    )


def _choose_qop(offered: bytes | None, request: Request) -> bytes | None:
    if offered is None:
        return None  # RFC 2069, which knew no qop
    kinds = [kind.strip() for kind in offered.split(b",")]
    if b"auth" in kinds:
        return b"auth"
    if kinds == [b"auth-int"]:
        raise NotImplementedError("digest authentication with auth-int alone is not supported")
    raise ProtocolError(
        f"{request.url.host}: the digest challenge offers no known quality of protection: {offered!r}", request=request
    )
