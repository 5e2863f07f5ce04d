"""Percent-encoding: which characters may stand as they are in which part of a URL, and the quoting of the others."""

from __future__ import annotations

import re

_PRINTABLE = "".join(map(chr, range(0x21, 0x7F)))

# What the WHATWG URL standard leaves unquoted in each component.
PATH_SAFE = "".join(c for c in _PRINTABLE if c not in '"#<>?`{}')
QUERY_SAFE = "".join(c for c in _PRINTABLE if c not in '"#<>')
FRAGMENT_SAFE = "".join(c for c in _PRINTABLE if c not in '"<>`')
USERINFO_SAFE = "".join(c for c in _PRINTABLE if c not in '"#<>?`{}/:;=@[\\]^|')
HOST_SAFE = "".join(c for c in _PRINTABLE if c not in "#/:<>?@[\\]^|")
# What application/x-www-form-urlencoded leaves unquoted (a space becomes "+").
FORM_SAFE = "".join(c for c in _PRINTABLE if c.isalnum() or c in "-._~")

_ESCAPE = re.compile("%[0-9A-Fa-f]{2}")
_needs_quoting: dict[str, re.Pattern[str]] = {}


def _unsafe(safe: str) -> re.Pattern[str]:
    """The pattern of what has to be quoted. A ``%`` is left alone, also where it begins no escape, as browsers do."""
    pattern = _needs_quoting.get(safe)
    if pattern is None:
        allowed = re.escape(safe.replace("%", ""))
        pattern = re.compile(f"[^%{allowed}]+")
        _needs_quoting[safe] = pattern
    return pattern


def _percent_encode(match: re.Match[str]) -> str:
    try:
        raw = match.group().encode()
    except UnicodeEncodeError:
        # Lone surrogates have no UTF-8 form; browsers send U+FFFD for them.
        raw = match.group().encode("utf-8", "replace")
    return "".join(f"%{byte:02X}" for byte in raw)


def quote(text: str, safe: str) -> str:
    """Quote what is not in `safe`; escapes that are there already stay as they are."""
    return _unsafe(safe).sub(_percent_encode, text)


def quote_form(text: str) -> str:
    """Quote one name or value of a form: every reserved character, a ``%`` as well, and a space as ``+``."""
    if text.isalnum() and text.isascii():
        return text
    # After this first replacement every "%" begins an escape, so a literal "%20" is "%2520" and only a space gives
    # "%20".
    return _unsafe(FORM_SAFE).sub(_percent_encode, text.replace("%", "%25")).replace("%20", "+")


def unquote(text: str) -> str:
    """Undo percent-encoding; what does not decode as UTF-8 becomes U+FFFD, and broken escapes stay as they are."""
    if "%" not in text:
        return text
    out = bytearray()
    at = 0
    for match in _ESCAPE.finditer(text):
        out += text[at : match.start()].encode("utf-8", "surrogatepass")
        out.append(int(match.group()[1:], 16))
        at = match.end()
    out += text[at:].encode("utf-8", "surrogatepass")
    return out.decode("utf-8", "replace")


def parse_form(text: str) -> list[tuple[str, str]]:
    """The pairs of ``a=1&b=2``, unquoted; a name without ``=`` has the value ``""``.

    >>> parse_form("a=1&b=x+y&c")
    [('a', '1'), ('b', 'x y'), ('c', '')]
    """
    pairs = []
    for part in text.split("&"):
        if part:
            name, _, value = part.partition("=")
            pairs.append((unquote(name.replace("+", " ")), unquote(value.replace("+", " "))))
    return pairs
