"""What a run came to: counts, kinds of errors, and latencies, in memory that does not grow."""

from __future__ import annotations

import math
import time
from collections import Counter

from ._many import FetchResult

# Latencies are counted in classes that are so much wider each: a percentile is right to 2 %.
_STEP = math.log(1.02)


class Summary:
    """Counts results as they come.

    >>> from aioxide.fetch import Row
    >>> summary = Summary()
    >>> summary.add(FetchResult(Row(0, "http://host/"), None, OSError(), 0.5))
    >>> summary.errors
    Counter({'OSError': 1})
    """

    def __init__(self) -> None:
        self.statuses: Counter[int] = Counter()
        self.errors: Counter[str] = Counter()
        self.body_bytes = 0
        self._latencies: Counter[int] = Counter()
        self._begin = time.monotonic()

    def add(self, result: FetchResult) -> None:
        """Count one."""
        if result.response is None:
            self.errors[type(result.error).__name__] += 1
            return
        self.statuses[result.response.status_code] += 1
        self.body_bytes += len(result.response.content)
        self._latencies[round(math.log(max(result.seconds, 1e-6)) / _STEP)] += 1

    @property
    def results(self) -> int:
        """How many there were."""
        return self.statuses.total() + self.errors.total()

    @property
    def seconds(self) -> float:
        """Since the run began."""
        return time.monotonic() - self._begin

    def percentile(self, share: float) -> float:
        """The latency in seconds that `share` of the responses did not exceed; 0.0 if there were none."""
        left = share * self._latencies.total()
        for step in sorted(self._latencies):
            left -= self._latencies[step]
            if left <= 0:
                return math.exp(step * _STEP)
        return 0.0

    def __str__(self) -> str:
        """A few lines for people."""
        seconds = self.seconds
        lines = [f"{self.results:,} rows in {seconds:.1f} s: {self.results / max(seconds, 1e-9):,.0f}/s"]
        if self.statuses:
            lines.append(
                "status  " + ", ".join(f"{status}: {count:,}" for status, count in sorted(self.statuses.items()))
            )
            lines.append(
                "latency "
                + ", ".join(f"p{share}: {self.percentile(share / 100) * 1000:,.1f} ms" for share in (50, 90, 99))
                + f"; {self.body_bytes / 2**20:,.1f} MiB of bodies"
            )
        if self.errors:
            lines.append("errors  " + ", ".join(f"{kind}: {count:,}" for kind, count in self.errors.most_common()))
        return "\n".join(lines)
