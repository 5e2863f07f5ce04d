"""The page in a real browser: it draws, and pointer and keyboard work. Skipped where there is no Chromium."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from tests.history.runs import synthetic_runs
from tests.history.synthetic import MS

from aioxide.history._chapters import all_chapters
from aioxide.history._page import render_page

BROWSER = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--virtual-time-budget=4000",
    "--dump-dom",
]

pytestmark = pytest.mark.skipif(BROWSER is None, reason="needs Chromium")

# Put into the page: collects errors, uses the page as a reader would, and leaves what it saw in the document.
VISITOR = """
<script>
const seen = { errors: [] };
// A page that is only dumped has no frames.
window.requestAnimationFrame = (paint) => setTimeout(paint, 1);
addEventListener("error", (event) => seen.errors.push(event.message));
</script>
"""
ERRAND = """
<script>
addEventListener("load", async () => {
  const settled = () => new Promise((done) => setTimeout(done, 30));
  const press = async (element, key) => {
    element.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true, cancelable: true }));
    await settled();
  };
  const shown = () => document.getElementById("window").textContent;
  const details = () => { const box = document.getElementById("details"); return box.hidden ? null : box.innerText; };
  await settled();
  seen.heights = [...document.querySelectorAll(".pane")].map((pane) => pane.clientHeight);
  seen.width = document.documentElement.scrollWidth;
  seen.whole = shown();
  const pane = document.getElementById("pane-3");
  pane.scrollIntoView({ block: "center", behavior: "instant" });
  const context = pane.getContext("2d");
  const painted = (image) => new Set(new Uint32Array(image.data.buffer)).size;
  seen.colors = painted(context.getImageData(0, 0, pane.width, pane.height));
  await press(pane, "ArrowDown");
  seen.second = details();
  await press(pane, "ArrowRight");
  seen.wait = details();
  await press(pane, "ArrowDown");
  await press(pane, "Home");
  await press(pane, "Enter");
  seen.zoomed = shown();
  await press(pane, "0");
  seen.again = shown();
  document.getElementById("zoom-in").click();
  await settled();
  seen.clicked = shown();
  const box = pane.getBoundingClientRect();
  const at = (kind, x, y, more) => pane.dispatchEvent(new PointerEvent(kind, {
    pointerId: 1, pointerType: "mouse", clientX: box.left + x, clientY: box.top + y, bubbles: true, ...more }));
  at("pointermove", 200, 16);
  await settled();
  seen.hovered = details();
  at("pointerleave", 200, 16);
  await settled();
  seen.left = details();
  pane.dispatchEvent(new WheelEvent("wheel", {
    deltaY: -300, ctrlKey: true, clientX: box.left + 300, cancelable: true }));
  await settled();
  seen.wheeled = shown();
  await press(pane, "f");
  seen.folded = document.body.classList.contains("folded");
  seen.foldedHeight = pane.clientHeight;
  await press(pane, "Escape");
  seen.escaped = details();
  const result = document.createElement("pre");
  result.id = "seen";
  result.textContent = JSON.stringify(seen);
  document.body.append(result);
});
</script>
"""


def visit(page: str, folder: Path, *, width: int = 1200) -> dict[str, object]:
    """Open the page with the visitor in it; returns what it saw."""
    assert BROWSER is not None
    file = folder / "page.html"
    file.write_text(page.replace("<body>", "<body>" + VISITOR).replace("</body>", ERRAND + "</body>"), encoding="utf-8")
    command = [BROWSER, *FLAGS, f"--user-data-dir={folder / 'profile'}", f"--window-size={width},900", file.as_uri()]
    document = subprocess.run(command, capture_output=True, text=True, timeout=90, check=True).stdout
    match = re.search(r'<pre id="seen">(.*?)</pre>', document, re.DOTALL)
    assert match is not None, document[-2000:]
    seen = json.loads(html.unescape(match[1]))
    assert isinstance(seen, dict)
    return seen


@pytest.mark.timeout(120)
def test_the_page_draws_and_can_be_walked_through(tmp_path: Path) -> None:
    seen = visit(render_page(synthetic_runs(), "2 requests"), tmp_path)
    assert seen["errors"] == []
    heights = seen["heights"]
    assert isinstance(heights, list) and len(heights) == 1 + len(all_chapters()) and min(heights) > 20
    assert isinstance(seen["colors"], int) and seen["colors"] > 5
    assert str(seen["second"]).startswith("amain\n")
    assert "waits" in str(seen["wait"]) and "woken by ajob-2" in str(seen["wait"])
    assert seen["whole"] == seen["again"] == "0 – 801 ms"
    assert len({str(seen[key]) for key in ("whole", "zoomed", "clicked", "wheeled")}) == 4
    assert str(seen["hovered"]).startswith("event loop\n") and seen["left"] is None
    assert seen["folded"] is True and seen["escaped"] is None
    assert isinstance(seen["foldedHeight"], int) and seen["foldedHeight"] > heights[3]


@pytest.mark.timeout(120)
@pytest.mark.parametrize("requests", [2, 1000])
def test_the_page_fits_a_phone(requests: int, tmp_path: Path) -> None:
    page = render_page(synthetic_runs(requests, 100 * MS), "many requests")
    seen = visit(page, tmp_path, width=500)  # Chromium's headless window is never narrower
    assert seen["errors"] == []
    assert isinstance(seen["width"], int) and seen["width"] <= 500
