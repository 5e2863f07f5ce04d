"""From nanoseconds to the picture's x, evenly or with long stretches folded away."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["FOLD_WIDTH", "Axis", "tick_step"]

# How wide a folded stretch is drawn, as a share of the whole width.
FOLD_WIDTH = 0.07


@dataclass(frozen=True, slots=True)
class Axis:
    """Maps times from 0 to `span_ns` to x from `left` on, `width` wide; each of `folds` takes `FOLD_WIDTH` of that."""

    span_ns: int
    left: float
    width: float
    folds: Sequence[tuple[int, int]] = ()

    def x(self, at_ns: float) -> float:
        """Where a moment is drawn; what is past the axis's end is drawn there.

        >>> Axis(1000, 10, 100).x(500)
        60.0
        """
        at_ns = min(at_ns, self.span_ns)
        fold_width = self.width * FOLD_WIDTH
        folded = sum(end - start for start, end in self.folds)
        scale = (self.width - fold_width * len(self.folds)) / max(1, self.span_ns - folded)
        x, shown_until = self.left, 0.0
        for start, end in self.folds:
            if at_ns <= start:
                break
            x += (start - shown_until) * scale
            inside = min(1.0, (at_ns - start) / (end - start))
            x += inside * fold_width
            shown_until = end
            if at_ns <= end:
                return x
        return x + (at_ns - shown_until) * scale


def tick_step(span_ns: float, at_most: int) -> int:
    """A round step in nanoseconds – 1, 2 or 5 times a power of ten – that gives at most so many ticks.

    >>> tick_step(800_000_000, 10)
    100000000
    """
    wanted = max(1.0, span_ns / max(1, at_most))
    power = 1
    while power * 10 <= wanted:
        power *= 10
    return next(power * factor for factor in (1, 2, 5, 10) if power * factor >= wanted)
