"""The page and the image, drawn from synthetic recordings."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from xml.etree import ElementTree as ET

import pytest
from tests.history.runs import synthetic_runs
from tests.history.synthetic import MS

from aioxide.history._chapters import all_chapters
from aioxide.history._highlight import highlighted
from aioxide.history._page import render_page
from aioxide.history._panes import STATES
from aioxide.history._svg import render_svg

SVG = "{http://www.w3.org/2000/svg}"
VOID = {"meta", "br", "input", "link", "img", "hr"}


class Balance(HTMLParser):
    """Collects the elements, and fails when one is closed that is not open."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def page() -> str:
    return render_page(synthetic_runs(), "2 requests to <nobody> & co")


def data_of(page: str) -> dict[str, object]:
    match = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert match is not None
    loaded = json.loads(match[1])
    assert isinstance(loaded, dict)
    return loaded


def test_the_page_is_whole_and_every_chapter_is_in_it(page: str) -> None:
    balance = Balance()
    balance.feed(page)
    assert balance.open == []
    ids = [attributes["id"] for _, attributes in balance.seen if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert [id for id in ids if id and id.startswith("chapter-")] == [f"chapter-{n}" for n in range(1, 12)]
    assert "2 requests to &lt;nobody&gt; &amp; co." in page
    assert "{{" not in page


def test_the_page_needs_no_network(page: str) -> None:
    without_namespace = page.replace("http://www.w3.org/2000/svg", "")
    without_source = re.sub(r"<pre>.*?</pre>", "", without_namespace, flags=re.DOTALL)
    assert not re.search(r"https?://|@import|url\((?!#)", without_source)
    balance = Balance()
    balance.feed(page)
    assert not [
        attributes for tag, attributes in balance.seen if tag in ("link", "img", "iframe") or "src" in attributes
    ]


def test_the_page_can_be_used_without_a_mouse_and_without_sight(page: str) -> None:
    balance = Balance()
    balance.feed(page)
    panes = [attributes for tag, attributes in balance.seen if tag == "canvas" and attributes.get("class") == "pane"]
    assert len(panes) == 1 + len(all_chapters())  # and the close-up
    assert all(attributes["tabindex"] == "0" and attributes["aria-label"] for attributes in panes)
    rows = [tag for tag, _ in balance.seen if tag == "tr"]
    assert len(rows) == 1 + len(all_chapters())
    assert 'lang="en"' in page and 'name="viewport"' in page and "prefers-color-scheme: dark" in page


def test_the_pages_script_agrees_with_python_about_states(page: str) -> None:
    assert f"const STATES = {json.dumps(list(STATES))};" in page


def test_the_pages_data_is_the_recording(page: str) -> None:
    run = synthetic_runs()[2]
    panes = data_of(page)["panes"]
    assert isinstance(panes, list)
    pane = panes[2]
    assert run.recording is not None
    assert pane["span"] == run.recording["end_ns"] - run.recording["start_ns"]
    marks = [text for row in pane["rows"] for _, text in row["marks"]]
    assert sorted(marks) == sorted(text for _, _, text in run.recording["marks"])


def test_nothing_that_was_recorded_can_end_the_script(page: str) -> None:
    runs = synthetic_runs()
    recording = runs[0].recording
    assert recording is not None
    recording["lanes"][0]["name"] = "</script><script>alert(1)</script>"
    hostile = render_page(runs, "{{data}}")
    assert "<script>alert(1)" not in hostile
    assert hostile.count("</script>") == page.count("</script>")
    assert "{{data}}" in hostile  # what is put in is not searched for placeholders


def test_what_was_extrapolated_is_said() -> None:
    page = render_page(synthetic_runs(1000, 100 * MS), "many")
    assert "Only 49 of 1,000 requests were run" in page
    assert "≈ Chapter 1 and 4: one request after the other." in page
    assert len(page) < 4_000_000


def test_the_image_is_xml_and_says_what_it_shows() -> None:
    root = ET.fromstring(render_svg(synthetic_runs(), "2 requests"))
    assert root.get("role") == "img"
    texts = ["".join(text.itertext()) for text in root.iter(f"{SVG}text")]
    for chapter in all_chapters():
        assert chapter.title in texts
    assert any("close up" in text for text in texts)
    assert any("43 ns" in text for text in texts)


def test_the_image_stays_small_for_many_requests() -> None:
    assert len(render_svg(synthetic_runs(1000, 100 * MS), "1000 requests")) < 800_000


def test_pictures_without_a_recording_have_the_table() -> None:
    runs = synthetic_runs()
    bare = [replace(run, recording=None) for run in runs]
    assert 'class="pane"' not in render_page(bare, "none")
    ET.fromstring(render_svg(bare, "none"))


@pytest.mark.parametrize("chapter", all_chapters(), ids=lambda chapter: chapter.slug)
def test_highlighting_keeps_the_source(chapter) -> None:  # type: ignore[no-untyped-def]
    class Text(HTMLParser):
        def __init__(self) -> None:
            super().__init__()
            self.text = ""

        def handle_data(self, data: str) -> None:
            self.text += data

    text = Text()
    text.feed(highlighted(chapter.source()))
    text.close()
    assert text.text == chapter.source().rstrip("\n")
