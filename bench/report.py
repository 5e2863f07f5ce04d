"""The results: as tables for people, as JSON for machines."""

from __future__ import annotations

import dataclasses
import statistics
from typing import Any

from bench.contenders import FLOOR
from bench.measure import Result, Sample
from bench.rows import ROWS, Row

Measured = tuple[Row, list[Result]]

OURS = "aioxide"


# The loop that the targets are set against.
MEASURE = "uvloop"


def ratio(base: Result, other: Result) -> float | None:
    """How many times what one contender costs another costs: the median over the rounds."""
    pairs = zip(base.samples, other.samples, strict=False)
    ratios = [theirs.cost / mine.cost for mine, theirs in pairs]
    return statistics.median(ratios) if ratios else None


def number(value: float | None, scale: float = 1.0, digits: int = 2, unit: str = "") -> str:
    return "–" if value is None else f"{value * scale:,.{digits}f}{unit}"


def result_of(name: str, results: list[Result]) -> Result | None:
    return next((result for result in results if result.contender == name), None)


def ratio_between(results: list[Result], one: str, other: str) -> float | None:
    """The other contender's cost over the one's, where both were measured."""
    base, compared = result_of(one, results), result_of(other, results)
    return ratio(base, compared) if base and compared else None


def ratio_to_ours(results: list[Result], name: str) -> float | None:
    """A contender's cost over ours, where both were measured."""
    return ratio_between(results, OURS, name)


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
    has_targets, has_floor = any(row.target for row, _ in measured), FLOOR in others
    head = ["row", f"{OURS}, CPU µs/op", "spread", "op/s", "p99 µs", *others]
    head += ["limit"] * has_floor + ["target"] * has_targets
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
        if has_floor:
            cells.append(number(ratio_between(results, FLOOR, MEASURE), unit="×"))
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


def from_json(saved: dict[str, Any]) -> list[Measured]:
    """The rows that ``to_json`` was given.

    Raises:
        ValueError: it is of another format, or has a row that there is no more.
    """
    by_name = {row.name: row for row in ROWS}
    if saved.get("format") != 2 or not all(row["name"] in by_name for row in saved["rows"]):
        raise ValueError("these results are of another version of the benchmark")
    return [(by_name[row["name"]], [saved_result(each) for each in row["contenders"]]) for row in saved["rows"]]


def saved_result(saved: dict[str, Any]) -> Result:
    samples = [Sample(**sample) for sample in saved["samples"]]
    return Result(saved["contender"], samples, saved["peak_memory_bytes"], saved["error"])
