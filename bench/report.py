"""The results: as tables for people, as JSON for machines."""

from __future__ import annotations

import dataclasses
import statistics
from typing import Any

from bench.measure import Result
from bench.rows import Row

Measured = tuple[Row, list[Result]]

OURS = "aioxide"


# The loop that the targets are set against.
MEASURE = "uvloop"


def ratio(ours: Result, other: Result) -> float | None:
    """How many times what ours costs another contender costs: the median over the rounds."""
    pairs = zip(ours.samples, other.samples, strict=False)
    ratios = [theirs.cost / mine.cost for mine, theirs in pairs]
    return statistics.median(ratios) if ratios else None


def number(value: float | None, scale: float = 1.0, digits: int = 2, unit: str = "") -> str:
    return "–" if value is None else f"{value * scale:,.{digits}f}{unit}"


def result_of(name: str, results: list[Result]) -> Result | None:
    return next((result for result in results if result.contender == name), None)


def ratio_to_ours(results: list[Result], name: str) -> float | None:
    """A contender's cost over ours, where both were measured."""
    ours, other = result_of(OURS, results), result_of(name, results)
    return ratio(ours, other) if ours and other else None


def cost(row: Row, result: Result, digits: int) -> str:
    """The median cost: KiB for a connection of a memory row, else microseconds."""
    scale = 1 / 1024 if row.kind == "memory" else 1e6
    return number(result.median("cost"), scale, digits)


def row_table(row: Row, results: list[Result]) -> str:
    """One row: a line for each contender."""
    unit = "KiB each" if row.kind == "memory" else "CPU µs/op"
    lines = [f"{row.name}: {row.title} (an operation is one {row.operation})"]
    lines.append(
        f"  {'':<18}{unit:>11}{'spread':>9}{'op/s':>13}{'p50 µs':>9}{'p99 µs':>9}{'peak MiB':>10}{'÷ ours':>10}"
    )
    for result in results:
        if result.error is not None:
            lines.append(f"  {result.contender:<18}failed: {result.error}")
            continue
        spread = result.spread()
        lines.append(
            f"  {result.contender:<18}"
            f"{cost(row, result, 3):>11}"
            f"{number(spread, 100, 1, ' %') if spread is None else '±' + number(spread, 100, 1, ' %'):>9}"
            f"{number(result.median('operations_per_second'), digits=0):>13}"
            f"{number(result.median('latency_p50'), 1e6, 0):>9}"
            f"{number(result.median('latency_p99'), 1e6, 0):>9}"
            f"{number(result.peak_memory_bytes / 2**20, digits=1):>10}"
            f"{number(ratio_to_ours(results, result.contender), unit='×'):>10}"
        )
    return "\n".join(lines)


def markdown(measured: list[Measured]) -> str:
    """All rows in Markdown: a table for each kind of contenders, what the others cost as a multiple of ours."""
    tables: dict[tuple[str, ...], list[Measured]] = {}
    for row, results in measured:
        tables.setdefault(row.contenders, []).append((row, results))
    return "\n\n".join(markdown_table(rows) for rows in tables.values())


def markdown_table(measured: list[Measured]) -> str:
    present = {result.contender for _, results in measured for result in results}
    others = [name for name in measured[0][0].contenders if name in present and name != OURS]
    has_targets = any(row.target for row, _ in measured)
    head = ["row", f"{OURS}, CPU µs/op", "spread", "op/s", "p99 µs", *others, *(["target"] if has_targets else [])]
    lines = [f"| {' | '.join(head)} |", f"| --- |{' ---: |' * (len(head) - 1)}"]
    for row, results in measured:
        ours = result_of(OURS, results)
        cells = [row.title]
        if ours is None or not ours.samples:
            cells += ["failed" if ours else "–", "–", "–", "–"]
        else:
            cells += [
                cost(row, ours, 2) + (" KiB" if row.kind == "memory" else ""),
                "–" if ours.spread() is None else f"±{number(ours.spread(), 100, 1)} %",
                number(ours.median("operations_per_second"), digits=0),
                number(ours.median("latency_p99"), 1e6, 0),
            ]
        cells += [other_cell(results, name) for name in others]
        if has_targets:
            cells.append(target_cell(row, results))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def other_cell(results: list[Result], name: str) -> str:
    result = result_of(name, results)
    if result is not None and result.error is not None:
        return "failed"
    return number(ratio_to_ours(results, name), unit="×")


def target_cell(row: Row, results: list[Result]) -> str:
    """The target against uvloop, and whether it is reached."""
    reached = ratio_to_ours(results, MEASURE)
    if row.target is None or reached is None:
        return "–"
    return f"{row.target:.2g}× {'✓' if reached >= row.target else '✗'}"


def to_json(machine: dict[str, Any], versions: dict[str, str], measured: list[Measured]) -> dict[str, Any]:
    """Everything that was measured, every round of it; times in seconds, sizes in bytes."""
    rows = []
    for row, results in measured:
        contenders = [
            dataclasses.asdict(result)
            | {
                "cost": result.median("cost"),
                "operations_per_second": result.median("operations_per_second"),
                "spread": result.spread(),
                "ratio_to_aioxide": ratio_to_ours(results, result.contender),
            }
            for result in results
        ]
        rows.append(
            {
                "name": row.name,
                "title": row.title,
                "operation": row.operation,
                "cost_unit": "bytes" if row.kind == "memory" else "cpu_seconds",
                "target": row.target,
                "contenders": contenders,
            }
        )
    return {"format": 2, "machine": machine, "versions": versions, "rows": rows}
