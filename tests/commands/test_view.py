"""`aioxide view`: pages are opened, data becomes a page, and for other formats it says where to open them."""

from __future__ import annotations

import asyncio
import re
import webbrowser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

import aioxide
from aioxide import timeline
from aioxide.__main__ import main
from aioxide.timeline._page import packed_in


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What a browser was asked to open."""
    urls: list[str] = []

    def remember(url: str) -> bool:
        urls.append(url)
        return True

    monkeypatch.setattr(webbrowser, "open", remember)
    return urls


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    with timeline.record() as recording:
        aioxide.run(asyncio.sleep(0.001))
    for ending in (".html", ".json", ".pftrace", ".trace.json", ".profile.json"):
        recording.save(tmp_path / f"a dump{ending}")
    return tmp_path


def test_a_page_is_opened_where_it_is(recorded: Path, opened: list[str]) -> None:
    assert main(["view", str(recorded / "a dump.html")]) == 0
    (url,) = opened
    assert url.startswith("file:///") and unquote(urlsplit(url).path) == str(recorded / "a dump.html")


def test_data_becomes_the_same_page(recorded: Path, opened: list[str]) -> None:
    assert main(["view", str(recorded / "a dump.json")]) == 0
    page = Path(unquote(urlsplit(opened[0]).path))
    (packed,) = packed_in(page.read_text())
    (direct,) = packed_in((recorded / "a dump.html").read_text())
    assert packed | {"title": direct["title"]} == direct and packed["title"] == "a dump"
    page.unlink()
    assert main(["view", str(recorded / "a dump.json"), "--out", str(recorded / "out.html")]) == 0
    assert packed_in((recorded / "out.html").read_text()) == [packed] and len(opened) == 1


def test_several_are_drawn_on_one_axis(recorded: Path, opened: list[str]) -> None:
    files = [str(recorded / "a dump.html"), str(recorded / "a dump.json")]
    assert main(["view", *files, "--out", str(recorded / "both.html")]) == 0
    first, second = packed_in((recorded / "both.html").read_text())
    assert first["starts"] == second["starts"] and second["title"] == "a dump" != first["title"]
    # What is compared can be compared again.
    assert main(["view", str(recorded / "both.html"), files[1], "--out", str(recorded / "three.html")]) == 0
    assert len(packed_in((recorded / "three.html").read_text())) == 3 and opened == []


@pytest.mark.parametrize(
    ("ending", "where"),
    [(".pftrace", "ui.perfetto.dev"), (".trace.json", "ui.perfetto.dev"), (".profile.json", "profiler.firefox.com")],
)
def test_other_tools_formats_say_where_they_are_opened(
    recorded: Path, opened: list[str], capsys: pytest.CaptureFixture[str], ending: str, where: str
) -> None:
    assert main(["view", str(recorded / f"a dump{ending}")]) == 1
    assert where in capsys.readouterr().err and opened == []


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("missing.html", None, "No such file"),
        ("missing.json", None, "No such file"),
        ("f.html", b"<p>another page</p>", "holds no recording"),
        ("a.json", b"{", "cannot be read"),
        ("b.json", b"\xff\xfe\x00", "cannot be read"),
        ("c.json", b"[1]", "no recording"),
        ("d.json", b'{"format": 1}', "no recording"),
        ("e.json", b'{"format": 99}', "no recording"),
    ],
)
def test_what_cannot_be_shown_is_told_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, content: bytes | None, message: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    assert main(["view", str(tmp_path / name)]) == 1
    error = capsys.readouterr().err
    assert re.search(message, error) and len(error.splitlines()) == 1


def test_without_a_browser_it_says_where_the_page_is(
    recorded: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(webbrowser, "open", lambda _url: False)
    assert main(["view", str(recorded / "a dump.html")]) == 1
    assert "a dump.html" in capsys.readouterr().err
