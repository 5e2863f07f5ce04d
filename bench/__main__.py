"""The benchmark's command line: ``make bench BENCH_ARGS="--only echo --rounds 9"``."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

from bench import contenders, machine, report, rows
from bench.measure import Harness, Result

TARGET = Path(os.environ.get("CARGO_TARGET_DIR", Path(__file__).resolve().parents[1] / "target"))
LOADGEN = TARGET / "release" / "aioxide-loadgen"


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
    parser.add_argument("--list", action="store_true", help="list the rows and end")
    options = parser.parse_args()
    if options.rounds < 1 or options.seconds <= 0:
        parser.error("--rounds is at least 1, and --seconds more than 0")
    return options


def main() -> int:
    options = arguments()
    try:
        chosen = rows.select(options.only)
    except ValueError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    if options.list:
        for row in chosen:
            print(f"{row.name:<20}{row.title}")
        return 0
    taking_part = [*contenders.TLS_LOOPS, contenders.FLOOR, *contenders.CLIENTS]
    versions = {name: found for name in taking_part if (found := contenders.version(name)) is not None}
    facts = machine.facts()
    print(machine.in_words(facts))
    print("; ".join(sorted(set(versions.values()))))
    if facts["load_average"] > 0.5:
        print("note: the machine is busy with something else, which adds to the spread")
    harness = Harness(LOADGEN, options.rounds, options.seconds)
    measured: list[tuple[rows.Row, list[Result]]] = []
    for row in chosen:
        wanted = [
            name for name in row.contenders if not options.contenders or name in (report.OURS, *options.contenders)
        ]
        results = harness.run(row, [name for name in wanted if name in versions])
        measured.append((row, results))
        print(f"\n{report.row_table(row, results)}", flush=True)
    print(f"\nCPU of the others, as a multiple of ours:\n\n{report.summary(measured)}")
    if options.json:
        options.json.write_text(json.dumps(report.to_json(facts, versions, measured), indent=1))
    failed = [
        result for _, results in measured for result in results if result.contender == report.OURS and result.error
    ]
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
