"""How the history writes numbers for people."""

from __future__ import annotations

__all__ = ["count", "plural", "ratio", "seconds"]


def seconds(value: float) -> str:
    """A duration given in seconds, with three digits and the unit that suits it.

    >>> seconds(2.4312), seconds(0.8681), seconds(0.0000123), seconds(101.2), seconds(0.9999)
    ('2.43 s', '868 ms', '12.3 µs', '101 s', '1 s')
    """
    if value <= 0:
        return "0 s"
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if value >= scale * 0.9995:
            return f"{_three_digits(value / scale)} {unit}"
    return f"{_three_digits(value / 1e-9)} ns"


def ratio(value: float) -> str:
    """How many times faster.

    >>> ratio(1.0), ratio(1.987), ratio(912.4)
    ('1.0×', '2.0×', '912×')
    """
    return f"{value:.0f}×" if value >= 99.95 else f"{value:.1f}×"


def count(value: int) -> str:
    """A whole number, its thousands set apart.

    >>> count(12345)
    '12,345'
    """
    return f"{value:,}"


def plural(value: int, noun: str) -> str:
    """A number with its noun.

    >>> plural(1, "request"), plural(2, "request")
    ('1 request', '2 requests')
    """
    return f"{count(value)} {noun}" if value == 1 else f"{count(value)} {noun}s"


def _three_digits(value: float) -> str:
    if value >= 99.95:
        return f"{value:.0f}"
    text = f"{value:.1f}" if value >= 9.995 else f"{value:.2f}"
    return text.rstrip("0").rstrip(".")
