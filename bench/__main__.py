"""The benchmark's command line: ``make bench BENCH_ARGS="--only echo --rounds 9"``."""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from bench import contenders, machine, plot, programs, report, rows
from bench.measure import Harness


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="bench", description="Measure aioxide beside other event loops and HTTP clients."
    )
    parser.add_argument(
        "--only", nargs="+", default=[], metavar="WORD", help="only rows with one of the words in their name"
    )
    parser.add_argument(
        "--contenders", nargs="+", default=[], metavar="NAME", help="only these contenders, with aioxide"
    )
    parser.add_argument("--rounds", type=int, default=9, help="counted rounds of each contender (9)")
    parser.add_argument("--seconds", type=float, default=0.25, help="how long a round is (0.25)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every round's numbers there")
    parser.add_argument(
        "--saved", type=Path, nargs="+", default=[], metavar="FILE", help="show what --json wrote, and measure nothing"
    )
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the tables there")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="write a picture (SVG) of the rows there")
    parser.add_argument("--list", action="store_true", help="list the rows and end")
    options = parser.parse_args()
    if options.rounds < 1 or options.seconds <= 0:
        parser.error("--rounds is at least 1, and --seconds more than 0")
    return options


def main() -> int:
    options = arguments()
    try:
        chosen = rows.select(options.only)
        saved = saved_results(options.saved) if options.saved else None
    except (OSError, ValueError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    if options.list:
        for row in chosen:
            print(f"{row.name:<20}{row.title}")
        return 0
    if saved:
        about, measured = saved
    else:
        facts, versions = machine.facts(), contenders.versions()
        about = in_words(facts, versions)
        print(about)
        if facts["load_average"] > 0.5:
            print("note: the machine is busy with something else, which adds to the spread")
        measured = measure(options, chosen, versions)
        if options.json:
            options.json.write_text(json.dumps(report.to_json(facts, versions, measured), indent=1))
    tables = report.markdown(measured)
    print(f"\nWhat the others cost, as a multiple of ours:\n\n{tables}")
    if options.markdown:
        options.markdown.write_text(f"{about}\n\n{tables}\n")
    if options.plot:
        options.plot.write_text(plot.svg(measured))
    failed = [results for _, results in measured if (ours := report.result_of(report.OURS, results)) and ours.error]
    return 1 if failed else 0


def saved_results(files: list[Path]) -> tuple[str, list[report.Measured]]:
    """What was measured in one run or more, and about where."""
    saved = [json.loads(file.read_text()) for file in files]
    about = [in_words(each["machine"], each["versions"]) for each in saved]
    return "\n".join(dict.fromkeys(about)), [row for each in saved for row in report.from_json(each)]


def in_words(facts: dict[str, Any], versions: dict[str, str]) -> str:
    return f"{machine.in_words(facts)}\n{'; '.join(sorted(set(versions.values())))}"


def measure(options: argparse.Namespace, chosen: list[rows.Row], versions: dict[str, str]) -> list[report.Measured]:
    """Measure the rows one by one, and show each at once."""
    measured: list[report.Measured] = []
    with tempfile.TemporaryDirectory(prefix="aioxide-bench-") as folder:
        # Contenders are killed, and what they leave behind goes with the folder.
        os.environ["TMPDIR"] = folder
        harness = Harness(programs.LOADGEN, options.rounds, options.seconds)
        for row in chosen:
            wanted = [
                name for name in row.contenders if not options.contenders or name in (report.OURS, *options.contenders)
            ]
            results = harness.run(row, [name for name in wanted if name in versions])
            measured.append((row, results))
            print(f"\n{report.row_table(row, results)}", flush=True)
    return measured


if __name__ == "__main__":
    sys.exit(main())
