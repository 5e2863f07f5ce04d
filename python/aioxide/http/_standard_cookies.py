"""Cookies as `http.cookiejar` has them. Apart, since that module takes long to import and few programs ask for it."""

from __future__ import annotations

from collections.abc import Iterable
from http.cookiejar import Cookie, CookieJar
from typing import Any


def to_standard(cookies: Iterable[Any]) -> CookieJar:
    """A jar with these cookies."""
    jar = CookieJar()
    for cookie in cookies:
        given_domain = bool(cookie.domain) and not cookie.host_only
        jar.set_cookie(
            Cookie(
                version=0,
                name=cookie.name,
                value=cookie.value,
                port=None,
                port_specified=False,
                domain=f".{cookie.domain}" if given_domain else cookie.domain,
                domain_specified=given_domain,
                domain_initial_dot=given_domain,
                path=cookie.path,
                path_specified=True,
                secure=cookie.secure,
                expires=None if cookie.expires is None else int(cookie.expires),
                discard=cookie.expires is None,
                comment=None,
                comment_url=None,
                rest={},
            )
        )
    return jar
