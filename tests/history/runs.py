"""Whole runs of the history made up from synthetic recordings, for tests of the pictures and the report."""

from __future__ import annotations

from tests.history import synthetic
from tests.history.synthetic import MS

from aioxide.history._chapters import all_chapters
from aioxide.history._lines import Line, Transcript
from aioxide.history._measure import ChapterRun, Figures


def synthetic_runs(requests: int = 2, latency: int = 400 * MS) -> list[ChapterRun]:
    """A run of every chapter; those that send one after the other were cut short at 5 s."""
    runs = []
    for chapter in all_chapters():
        requests_run = requests
        if chapter.one_after_another:
            requests_run = min(requests, int(5_000 * MS / (latency + MS)))
            recording = synthetic.sequential(requests_run, latency)
        elif chapter.slug == "threads":
            recording = synthetic.threads(requests, latency)
        else:
            recording = synthetic.on_a_loop(requests, latency, 400 * MS if chapter.slug == "blocking" else 0)
        transcript = Transcript()
        for at, lane, text in sorted(recording["marks"]):
            transcript.add(Line(at, lane, text))
        figures = Figures(
            requests=requests,
            requests_run=requests_run,
            wall_s=(recording["end_ns"] - recording["start_ns"]) / 1e9,
            user_s=0.002,
            system_s=0.001,
            threads=requests + 1 if chapter.slug == "threads" else 1,
            voluntary_switches=2 * requests_run,
            involuntary_switches=1,
            switch_interval_s=0.005,
        )
        runs.append(ChapterRun(chapter, figures, transcript, recording, recording["start_ns"], recording["end_ns"]))
    return runs
