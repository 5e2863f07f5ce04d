"""The page in a real browser: it opens fast and draws, pointer and keyboard work, its sums are right."""

from __future__ import annotations

import asyncio
import html
import json
import re
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

import aioxide
from aioxide import timeline
from aioxide.timeline import _page

from .picture import Picture

BROWSER = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
needs_browser = pytest.mark.skipif(BROWSER is None, reason="needs Chromium")

# Put into the page: collects errors, uses the page as a reader would, and leaves what it saw in the document.
VISITOR = """<script>
const seen = { errors: [] };
window.requestAnimationFrame = (paint) => setTimeout(paint, 1);
addEventListener("error", (event) => seen.errors.push(event.message));
</script>"""
ERRAND = """<script>
addEventListener("load", async () => {
  const settled = () => new Promise((done) => setTimeout(done, 40));
  const $ = (id) => document.getElementById(id);
  const press = async (target, key) => {
    target.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true, cancelable: true }));
    await settled();
  };
  const canvas = $("canvas");
  const point = (name, clientX, clientY) =>
    canvas.dispatchEvent(new PointerEvent(name, { pointerId: 1, clientX, clientY, bubbles: true }));
  canvas.setPointerCapture = () => {};
  await settled();
  seen.ready = Number(document.documentElement.dataset.ready);
  seen.width = document.documentElement.scrollWidth;
  const image = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  seen.colors = new Set(new Uint32Array(image.data.buffer)).size;
  seen.whole = $("window").textContent;
  await press(canvas, "+");
  seen.zoomed = $("window").textContent;
  await press(canvas, "ArrowRight");
  seen.panned = $("window").textContent;
  await press(canvas, "Home");
  seen.home = $("window").textContent;
  const box = canvas.getBoundingClientRect();
  const wheel = { deltaY: -300, ctrlKey: true, clientX: box.left + 400, bubbles: true, cancelable: true };
  canvas.dispatchEvent(new WheelEvent("wheel", wheel));
  await settled();
  seen.wheeled = $("window").textContent;
  await press(canvas, "Home");
  point("pointerdown", box.left + 500, box.top + 200);
  point("pointermove", box.left + 400, box.top + 200);
  point("pointerup", box.left + 400, box.top + 200);
  await settled();
  seen.dragged = $("window").textContent;
  await press(canvas, "Home");
  await press(document.body, "/");
  seen.searching = document.activeElement.id;
  $("search").value = FIND;
  $("search").dispatchEvent(new Event("input"));
  seen.found = $("found").textContent;
  await press($("search"), "Enter");
  seen.story = $("story").innerText;
  seen.critical = [...document.querySelectorAll("#critical > li")].map((item) => item.firstChild.textContent);
  seen.behind = [...document.querySelectorAll("#critical ul li")].map((item) => item.textContent);
  seen.live = $("live").textContent;
  $("story").querySelector(".link")?.click();
  await settled();
  seen.followed = $("story").querySelector("h2").textContent;
  await press(canvas, "Escape");
  seen.closed = $("side").hidden;
  await press(canvas, "Home");
  // A click on the axis chooses a moment.
  const labels = canvas.clientWidth < 600 ? 120 : 220;
  const at = box.left + labels + (canvas.clientWidth - labels) * AT;
  for (const name of ["pointerdown", "pointerup"]) point(name, at, box.top + 10);
  await press(canvas, "t");
  seen.tree = $("tree").innerText;
  await press(canvas, ".");
  seen.stepped = $("live").textContent;
  await press(canvas, ",");
  seen.back = $("live").textContent;
  $("speed").value = "5000";
  await press(canvas, " ");
  for (let i = 0; i < 10; i += 1) await settled();
  seen.playing = $("play").getAttribute("aria-label");
  await press(canvas, " ");
  seen.played = $("tree").querySelector("h2").textContent;
  seen.paused = $("play").getAttribute("aria-label");
  await press(canvas, "Escape");
  $("freezes").click();
  await settled();
  seen.freeze = $("story").innerText;
  $("summary").open = true;
  await settled();
  seen.table = document.querySelectorAll("#lanes tr").length;
  $("theme").click();
  await settled();
  seen.theme = document.documentElement.dataset.theme;
  const result = document.createElement("pre");
  result.id = "seen";
  result.textContent = JSON.stringify(seen);
  document.body.append(result);
});
</script>"""


def visit(page: str, find: str, folder: Path, size: str = "1280,800", at: float = 0.5) -> dict[str, Any]:
    """What a reader sees who looks for `find`, and at the moment that is the share `at` of the whole."""
    errand = ERRAND.replace("FIND", json.dumps(find)).replace("AT;", f"{at};")
    page = page.replace("<head>", "<head>" + VISITOR).replace("</body>", errand + "</body>")
    path = folder / "page.html"
    path.write_text(page)
    flags = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
    ]
    command = [str(BROWSER), *flags, f"--user-data-dir={folder / 'profile'}", f"--window-size={size}"]
    command += ["--virtual-time-budget=20000", "--dump-dom", path.as_uri()]
    dom = subprocess.run(command, capture_output=True, text=True, timeout=100, check=True).stdout
    found = re.search(r'<pre id="seen">(.*?)</pre>', dom, re.DOTALL)
    assert found, dom[-2000:]
    result: dict[str, Any] = json.loads(html.unescape(found[1]))
    return result


def story() -> dict[str, Any]:
    """A task that waits for a lock that another holds, and a freeze."""

    async def holder(lock: asyncio.Lock, held: asyncio.Event) -> None:
        async with lock:
            held.set()
            await asyncio.sleep(0.05)

    async def wants(lock: asyncio.Lock) -> None:
        async with lock:
            pass

    async def main() -> None:
        lock, held = asyncio.Lock(), asyncio.Event()
        holding = asyncio.create_task(holder(lock, held), name="Holder")
        await held.wait()
        await asyncio.create_task(wants(lock), name="Wants")
        await holding
        time.sleep(0.12)

    with timeline.record() as recording:
        aioxide.run(main(), debug=False)
    return recording.to_dict()


def milliseconds(text: str) -> float:
    number, unit = re.match(r"([\d.]+) (ns|µs|ms|s)", text).groups()  # type: ignore[union-attr]
    return float(number) * {"ns": 1e-6, "µs": 1e-3, "ms": 1, "s": 1e3}[unit]


@needs_browser
@pytest.mark.parametrize("size", ["1280,800", "800,900", "390,844"])
def test_a_reader_finds_out_what_happened(tmp_path: Path, size: str) -> None:
    data = story()
    # In the middle of the time in which one holds the lock and the other wants it.
    picture = Picture(data)
    wanted = next(start + (end - start) / 2 for start, end in picture.spans("Wants story.<locals>.wants", "wait"))
    seen = visit(_page.render(data), "wants", tmp_path, size, wanted / (data["end_ns"] - data["start_ns"]))
    assert seen["errors"] == []
    # Chromium's windows are at least 500 wide.
    assert seen["width"] <= max(int(size.split(",")[0]), 500)
    assert seen["colors"] > 10
    assert len({seen["whole"], seen["zoomed"], seen["panned"], seen["wheeled"], seen["dragged"]}) == 5
    assert seen["home"] == f"0 ns – {seen['whole'].split('– ')[1]}"
    assert seen["searching"] == "search" and seen["found"] == "1 rows"
    assert "waited" in seen["story"] and "lock: Lock.acquire" in seen["story"] and "woken by Holder" in seen["story"]
    assert "test_page.py" in seen["story"]
    # Where the time went sums to the task's time: nearly all of it was in the holder's sleep.
    whole = milliseconds(re.search(r"Where (.*) went", seen["story"])[1])  # type: ignore[index]
    assert sum(map(milliseconds, seen["critical"])) == pytest.approx(whole, rel=0.02, abs=0.05)
    assert "lock: Lock.acquire, held by Holder" in seen["critical"][0]
    assert any("timer: sleep" in line for line in seen["behind"])
    # Main awaits the one that wants, which awaits the one that has.
    words = " ".join(seen["tree"].split())
    assert re.search(r"main waits .* task.* Wants .* waits .* Lock\.acquire .*Holder .* waits .* timer: sleep", words)
    assert seen["stepped"] != seen["back"] and seen["stepped"].startswith("at ")
    assert seen["playing"] == "Pause" and seen["paused"] == "Play in slow motion"
    assert milliseconds(seen["played"].split(" at ")[1]) > milliseconds(seen["back"].split("at ")[1])
    assert seen["live"].startswith("Wants") and seen["followed"] and seen["closed"] is True
    assert "a blocking system call (sleep)" in seen["freeze"] and "test_page.py" in seen["freeze"]
    assert seen["table"] == len(_page.pack(data, "")["lanes"])
    assert seen["theme"] in ("dark", "light")


@needs_browser
def test_it_opens_a_thousand_tasks_fast(tmp_path: Path) -> None:
    async def work() -> None:
        for _ in range(70):
            await asyncio.sleep(0)

    async def main() -> None:
        await asyncio.gather(*(work() for _ in range(1000)))
        time.sleep(0.12)

    with timeline.record() as recording:
        aioxide.run(main(), debug=False)
    data = recording.to_dict()
    assert len(data["slices"]) > 200_000
    seen = visit(_page.render(data), "main", tmp_path)
    assert seen["errors"] == []
    # From the first line of script to the first picture; a busy machine may take twice what is promised.
    assert seen["ready"] <= 4000, seen["ready"]
    print("opened in", seen["ready"], "ms")


def test_the_page_is_the_same_for_the_same_recording_and_needs_nothing_else() -> None:
    data = story()
    page = _page.render(data)
    assert page == _page.render(data)
    assert not re.search(r'(src|href)="(?!data:)', page) and "http" not in _page.script()
    assert f"about {data['clock_error_ns']} ns" in page
    lossy = data | {"dropped": 1234, "grouped_steps": 99}
    assert "1,234 records are missing" in _page.render(lossy) and "99 callbacks came too fast" in _page.render(lossy)


def test_nothing_recorded_ends_the_script_element() -> None:
    data = story()
    data["names"] = [*data["names"][:-1], "</script><script>alert(1)</script>"]
    data["lanes"][0]["name"] = "</script>{{data}}"
    assert _page.render(data).count("</script>") == 2


@needs_browser
def test_several_recordings_share_an_axis(tmp_path: Path) -> None:
    one, two = story(), story()
    page = _page.render_packed("two", [_page.pack(one, "before"), _page.pack(two, "after")])
    seen = visit(page, "wants", tmp_path)
    assert seen["errors"] == []
    assert seen["found"] == "4 rows"  # each with its heading
    assert seen["whole"].endswith(f"{max(each['end_ns'] - each['start_ns'] for each in (one, two)) / 1e6:.0f} ms")
    assert seen["table"] == sum(len(_page.pack(each, "")["lanes"]) for each in (one, two))
    assert "held by Holder" in seen["critical"][0]


def test_a_page_gives_back_its_recordings() -> None:
    data = story()
    assert _page.packed_in(_page.render(data))[0] | {"title": ""} == json.loads(json.dumps(_page.pack(data, "")))
    with pytest.raises(ValueError, match="holds no recording"):
        _page.packed_in("<html></html>")
