"""The results: as a table for people, as JSON for machines."""

from __future__ import annotations

import dataclasses
import statistics
from typing import Any

from bench.measure import Result
from bench.rows import Row

OURS = "aioxide"


def ratio(ours: Result, other: Result) -> float | None:
    """How many times the CPU per operation of ours another contender uses: the median over the rounds."""
    pairs = zip(ours.samples, other.samples, strict=False)
    ratios = [theirs.cpu_per_operation / mine.cpu_per_operation for mine, theirs in pairs]
    return statistics.median(ratios) if ratios else None


def number(value: float | None, scale: float = 1.0, digits: int = 2, unit: str = "") -> str:
    return "–" if value is None else f"{value * scale:,.{digits}f}{unit}"


def row_table(row: Row, results: list[Result]) -> str:
    """One row: a line for each contender."""
    ours = next((result for result in results if result.contender == OURS), None)
    lines = [f"{row.name}: {row.title} (an operation is one {row.operation})"]
    lines.append(
        f"  {'':<16}{'CPU µs/op':>11}{'spread':>9}{'op/s':>13}"
        f"{'p50 µs':>9}{'p99 µs':>9}{'peak MiB':>10}{'CPU ÷ ours':>12}"
    )
    for result in results:
        if result.error is not None:
            lines.append(f"  {result.contender:<16}failed: {result.error}")
            continue
        spread = result.spread()
        lines.append(
            f"  {result.contender:<16}"
            f"{number(result.median('cpu_per_operation'), 1e6, 3):>11}"
            f"{number(spread, 100, 1, ' %') if spread is None else '±' + number(spread, 100, 1, ' %'):>9}"
            f"{number(result.median('operations_per_second'), digits=0):>13}"
            f"{number(result.median('latency_p50'), 1e6, 0):>9}"
            f"{number(result.median('latency_p99'), 1e6, 0):>9}"
            f"{number(result.peak_memory_bytes / 2**20, digits=1):>10}"
            f"{number(ratio(ours, result) if ours else None, digits=2, unit='×'):>12}"
        )
    return "\n".join(lines)


def summary(measured: list[tuple[Row, list[Result]]]) -> str:
    """All rows in one Markdown table: our CPU per operation, and how many times as much the others use."""
    others: list[str] = []
    for _, results in measured:
        others += [each.contender for each in results if each.contender != OURS and each.contender not in others]
    lines = [f"| row | {OURS}, CPU µs/op | {' | '.join(others)} |", f"| --- | ---: |{' ---: |' * len(others)}"]
    for row, results in measured:
        by_name = {result.contender: result for result in results}
        ours = by_name.get(OURS)
        cells = []
        for name in others:
            other = by_name.get(name)
            cells.append(number(ratio(ours, other) if ours and other else None, unit="×"))
        mine = number(ours.median("cpu_per_operation") if ours else None, 1e6)
        lines.append(f"| {row.title} | {mine} | {' | '.join(cells)} |")
    return "\n".join(lines)


def to_json(
    machine: dict[str, Any], versions: dict[str, str], measured: list[tuple[Row, list[Result]]]
) -> dict[str, Any]:
    """Everything that was measured, every round of it; times in seconds, sizes in bytes."""
    rows = []
    for row, results in measured:
        ours = next((result for result in results if result.contender == OURS), None)
        contenders = [
            dataclasses.asdict(result)
            | {
                "cpu_seconds_per_operation": result.median("cpu_per_operation"),
                "operations_per_second": result.median("operations_per_second"),
                "spread": result.spread(),
                "cpu_ratio_to_aioxide": ratio(ours, result) if ours else None,
            }
            for result in results
        ]
        rows.append({"name": row.name, "title": row.title, "operation": row.operation, "contenders": contenders})
    return {"format": 1, "machine": machine, "versions": versions, "rows": rows}
