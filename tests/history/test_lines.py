"""What chapters print: lines from many threads, abbreviations, requests without an answer."""

from __future__ import annotations

import threading
from contextlib import redirect_stdout

import pytest

from aioxide.history._lines import SHOWN_FIRST, SHOWN_LAST, Abbreviated, Line, LineTap, Transcript


def test_lines_of_threads_do_not_mix() -> None:
    transcript = Transcript()
    together = threading.Barrier(8)

    def job(n: int) -> None:
        together.wait()
        for _ in range(50):
            print("--- request", n, "sent", flush=True)

    with redirect_stdout(LineTap(transcript.add)):
        threads = [threading.Thread(target=job, args=(n,)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    printed = sorted(line.text for line in transcript.lines)
    assert printed == sorted(f"--- request {n} sent" for n in range(8) for _ in range(50))
    assert len(transcript.threads) == 8


def test_an_unfinished_line_waits_for_its_end() -> None:
    lines: list[str] = []
    tap = LineTap(lambda line: lines.append(line.text))
    tap.write("a")
    assert lines == []
    tap.write("b\nc\nd")
    assert lines == ["ab", "c"]


def test_a_transcript_knows_what_is_unanswered() -> None:
    transcript = Transcript()
    for at, text in enumerate(["--- request 1 sent", "--- request 2 sent", "--- response 2 received", "hello"]):
        transcript.add(Line(at, 1, text))
    assert transcript.sent_ns == {1: 0, 2: 1}
    assert transcript.received_ns == {2: 2}
    assert transcript.unanswered == 1


@pytest.mark.parametrize("count", [0, 1, SHOWN_FIRST, SHOWN_FIRST + SHOWN_LAST, SHOWN_FIRST + SHOWN_LAST + 1, 500])
def test_what_is_left_out_is_counted(count: int) -> None:
    shown: list[str] = []
    abbreviated = Abbreviated(shown.append)
    for n in range(count):
        abbreviated.add(str(n))
    abbreviated.finish()
    left_out = count - SHOWN_FIRST - SHOWN_LAST
    if left_out <= 0:
        assert shown == [str(n) for n in range(count)]
    else:
        assert len(shown) == SHOWN_FIRST + SHOWN_LAST + 1
        assert f" {left_out} more line" in shown[SHOWN_FIRST]
        assert shown[-1] == str(count - 1)
