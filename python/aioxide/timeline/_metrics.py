"""A loop's statistics for those who collect metrics: Prometheus' text, OpenTelemetry's instruments."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

if TYPE_CHECKING:
    from .._event_loop import EventLoop

__all__ = ["instrument", "prometheus"]


class _Metric(NamedTuple):
    key: str
    name: str
    kind: str  # gauge or counter
    unit: str
    help: str


_METRICS: Final = (
    _Metric("ready", "ready", "gauge", "{callback}", "Callbacks that are ready to run"),
    _Metric("ready_max", "ready_max", "gauge", "{callback}", "Most callbacks that were ever ready at once"),
    _Metric("timers", "timers", "gauge", "{timer}", "Timers that are pending"),
    _Metric("descriptors", "descriptors", "gauge", "{descriptor}", "Descriptors that are watched"),
    _Metric("rust_tasks", "rust_tasks", "gauge", "{task}", "Rust tasks that are unfinished"),
    _Metric("busy_share", "busy_share", "gauge", "1", "Share of the running time not spent waiting"),
    _Metric("running_s", "running_seconds", "counter", "s", "Time the loop ran, waits included"),
    _Metric("waiting_s", "waiting_seconds", "counter", "s", "Time the loop waited with nothing to do"),
    _Metric("turns", "turns", "counter", "{turn}", "Rounds of callbacks"),
    _Metric("callbacks", "callbacks", "counter", "{callback}", "Callbacks run"),
    _Metric("timers_fired", "timers_fired", "counter", "{timer}", "Timers fired"),
    _Metric("events", "events", "counter", "{event}", "Descriptors found ready"),
    _Metric("rust_polls", "rust_polls", "counter", "{poll}", "Polls of Rust tasks"),
    _Metric("polls", "polls", "counter", "{poll}", "Looks at the kernel"),
    _Metric("waits", "waits", "counter", "{wait}", "Waits in the kernel with nothing to do"),
    _Metric("slow_callbacks", "slow_callbacks", "counter", "{callback}", "Callbacks over the freeze threshold"),
    _Metric("bytes_received", "received_bytes", "counter", "By", "Bytes received through sockets"),
    _Metric("bytes_sent", "sent_bytes", "counter", "By", "Bytes sent through sockets"),
)
_HISTOGRAMS: Final = (
    ("lag", "lag_seconds", "Time from one look at the kernel to the next: what became ready waited that long at most"),
    ("callback", "callback_seconds", "Time a callback took; of very fast ones the mean of sixteen"),
)
_BOUNDS: Final = (*tuple(digit * 10.0**power for power in range(-6, 1) for digit in (1, 2.5, 5)), 10.0)


def _loop_of(loop: asyncio.AbstractEventLoop | None) -> EventLoop:
    found = asyncio.get_running_loop() if loop is None else loop
    if not hasattr(found, "statistics"):
        raise TypeError(f"{found!r} is no aioxide loop: it counts nothing")
    return cast("EventLoop", found)


def _up_to(buckets: Iterable[tuple[float, int]], bound: float) -> int:
    return max((count for end, count in buckets if end <= bound), default=0)


def prometheus(loop: asyncio.AbstractEventLoop | None = None, *, prefix: str = "aioxide_loop") -> str:
    """The statistics of `loop` (by default the running one) in Prometheus' text format.

    Raises `RuntimeError` if no loop is given and none is running, or it is closed, and `TypeError` for a loop that is
    not aioxide's.

    >>> import aioxide
    >>> async def main():
    ...     return prometheus()
    >>> print(aioxide.run(main()))  # doctest: +ELLIPSIS
    # HELP aioxide_loop_ready Callbacks that are ready to run
    # TYPE aioxide_loop_ready gauge
    aioxide_loop_ready 0
    ...
    """
    numbers = _loop_of(loop).statistics()
    lines: list[str] = []
    for metric in _METRICS:
        name = f"{prefix}_{metric.name}" + ("_total" if metric.kind == "counter" else "")
        lines += [f"# HELP {name} {metric.help}", f"# TYPE {name} {metric.kind}", f"{name} {numbers[metric.key]!r}"]
    for key, name, text in _HISTOGRAMS:
        full, buckets, count = f"{prefix}_{name}", numbers[f"{key}_buckets"], numbers[f"{key}_count"]
        lines += [f"# HELP {full} {text}", f"# TYPE {full} histogram"]
        lines += [f'{full}_bucket{{le="{bound:g}"}} {_up_to(buckets, bound)}' for bound in _BOUNDS]
        lines += [
            f'{full}_bucket{{le="+Inf"}} {count}',
            f"{full}_sum {numbers[f'{key}_sum_s']!r}",
            f"{full}_count {count}",
        ]
    return "\n".join(lines) + "\n"


def instrument(
    loop: asyncio.AbstractEventLoop | None = None, *, meter: Any = None, prefix: str = "aioxide.loop"
) -> None:
    """Have OpenTelemetry observe the statistics of `loop`, by default the running one.

    `meter` is an `opentelemetry.metrics.Meter`, by default that of the global provider. What the loop counts becomes
    observable counters and gauges; the percentiles of lag and of callbacks' durations become gauges with the attribute
    ``percentile``. A closed loop is observed no more.

    Raises `ImportError` without the package ``opentelemetry-api``, and what `prometheus` raises.
    """
    from opentelemetry import metrics

    observed = _loop_of(loop)
    if meter is None:
        meter = metrics.get_meter("aioxide")

    def observing(keys: dict[str, str | None]) -> Callable[[Any], list[Any]]:
        def observe(_options: Any) -> list[Any]:
            if observed.is_closed():
                return []
            numbers = observed.statistics()
            return [
                metrics.Observation(numbers[key], {} if percentile is None else {"percentile": percentile})
                for key, percentile in keys.items()
            ]

        return observe

    for metric in _METRICS:
        create = meter.create_observable_counter if metric.kind == "counter" else meter.create_observable_gauge
        create(
            f"{prefix}.{metric.name}",
            callbacks=[observing({metric.key: None})],
            unit=metric.unit,
            description=metric.help,
        )
    for key, name, text in _HISTOGRAMS:
        percentiles: dict[str, str | None] = {f"{key}_{each}_s": each for each in ("p50", "p90", "p99", "max")}
        meter.create_observable_gauge(
            f"{prefix}.{name.removesuffix('_seconds')}", callbacks=[observing(percentiles)], unit="s", description=text
        )
