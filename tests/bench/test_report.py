"""What the benchmark makes of its numbers."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET

import pytest
from bench import plot, report, rows
from bench.measure import Result, Sample
from bench.report import Measured


def samples(*costs_us: float) -> list[Sample]:
    return [Sample(1000, 0.5, cost / 1e6 * 1000, latency_p50=1e-4, latency_p99=2e-4) for cost in costs_us]


def row(name: str) -> rows.Row:
    return next(each for each in rows.ROWS if each.name == name)


@pytest.fixture
def measured() -> list[Measured]:
    echo = [
        Result("aioxide", samples(10, 20, 10)),
        Result("uvloop", samples(15, 30, 15)),
        Result("rloop", error="killed by SIGSEGV"),
        Result("floor", samples(8, 16, 8)),
    ]
    idle = [
        Result(name, [Sample(10, 1.0, 1.0, memory_bytes=kib * 10 * 1024)])
        for name, kib in (("aioxide", 1), ("uvloop", 2))
    ]
    slow = [Result("aioxide", samples(2)), Result("uvloop", samples(1))]
    return [(row("tcp-protocol-1k-10"), echo), (row("tcp-idle-10000"), idle), (row("call_soon"), slow)]


def cells(table: str, title: str) -> dict[str, str]:
    """The cells of the row with that title, by the heads of their columns."""
    head: list[str] = []
    for line in table.splitlines():
        values = [cell.strip() for cell in line.strip("|").split("|")]
        if values[0] == "row":
            head = values
        elif values[0].startswith(title):
            return dict(zip(head, values, strict=True))
    raise AssertionError(f"no row {title}")


def test_ratios_are_by_round(measured: list[Measured]) -> None:
    assert report.ratio_to_ours(measured[0][1], "uvloop") == pytest.approx(1.5)
    assert report.ratio_to_ours(measured[0][1], "rloop") is None


def test_table_tells_ratios_failures_limits_and_targets(measured: list[Measured]) -> None:
    echo = cells(report.markdown(measured), "TCP echo, protocol")
    assert (echo["aioxide, CPU µs/op"], echo["op/s"], echo["p99 µs"]) == ("10.00", "2,000", "200")
    assert (echo["uvloop"], echo["rloop"], echo["floor"]) == ("1.50×", "failed", "0.80×")
    assert echo["limit"] == "1.88×"
    assert echo["target"] == "1.2× ✓"


def test_memory_is_compared_in_bytes(measured: list[Measured]) -> None:
    idle = cells(report.markdown(measured), "TCP, memory")
    assert (idle["aioxide, CPU µs/op"], idle["uvloop"], idle["target"]) == ("1.00 KiB", "2.00×", "1.7× ✓")


def test_a_row_that_is_slower_misses_its_target(measured: list[Measured]) -> None:
    slow = cells(report.markdown(measured), "call_soon")
    assert (slow["uvloop"], slow["target"]) == ("0.50×", "2× ✗")


def test_saved_results_give_the_same_table(measured: list[Measured]) -> None:
    saved = json.loads(json.dumps(report.to_json({}, {}, measured)))
    assert report.markdown(report.from_json(saved)) == report.markdown(measured)
    with pytest.raises(ValueError, match="another version"):
        report.from_json(saved | {"format": 1})


def test_plot_has_a_bar_for_each_row(measured: list[Measured]) -> None:
    picture = ET.fromstring(plot.svg(measured))
    bars = [each.get("fill") for each in picture.iter("{http://www.w3.org/2000/svg}rect")][1:]
    assert bars == [plot.FASTER, plot.FASTER, plot.SLOWER]


def test_rows_are_chosen_by_words_of_their_names() -> None:
    assert [each.name for each in rows.select(["udp", "call_s"])] == ["udp-1k-10", "call_soon"]
    with pytest.raises(ValueError, match="no row has 'nothing'"):
        rows.select(["nothing"])
