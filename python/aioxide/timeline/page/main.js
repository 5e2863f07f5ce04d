// The page: what is shown, and how pointer, touch and keyboard change that.
import { decode, duration, isTask, sliceAt, STATES } from "./model.js";
import { criticalPath } from "./critical.js";
import { layOut } from "./rows.js";
import { AXIS, LAYOUT, ROW, paint, palette } from "./paint.js";
import { element, freezeOf, storyOf } from "./story.js";
import { fillTable } from "./table.js";
import { treeElement } from "./tree.js";
import { nextEvent, player } from "./play.js";

const began = performance.now();
const model = decode(JSON.parse(document.getElementById("data").textContent));
const TREE_EVERY_MS = 150;
const $ = (id) => document.getElementById(id);
const canvas = $("canvas"), context = canvas.getContext("2d"), unfolded = new Set();
const view = { from: 0, to: model.span, top: 0, width: 0, height: 0, chosen: null, cursor: -1, path: null, moment: null };
let rows = layOut(model, unfolded, ""), colors = palette(), scheduled = false;

function draw() {
  scheduled = false;
  const ratio = devicePixelRatio || 1;
  view.width = canvas.clientWidth;
  view.height = canvas.clientHeight;
  LAYOUT.labels = view.width < 600 ? 120 : 220;
  canvas.width = Math.round(view.width * ratio);
  canvas.height = Math.round(view.height * ratio);
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  paint(context, model, rows, view, colors);
  $("window").textContent = `${duration(view.from)} – ${duration(view.to)}`;
}

function redraw() {
  if (!scheduled) { scheduled = true; requestAnimationFrame(draw); }
}

function look(from, to) {
  const span = Math.min(Math.max(to - from, 1000), model.span * 1.02);
  view.from = Math.max(-model.span * 0.01, Math.min(from, model.span * 1.01 - span));
  view.to = view.from + span;
  redraw();
}

function zoom(factor, x = (view.width + LAYOUT.labels) / 2) {
  const share = Math.max(0, (x - LAYOUT.labels) / (view.width - LAYOUT.labels)), at = view.from + share * (view.to - view.from);
  const span = (view.to - view.from) / factor;
  look(at - share * span, at + (1 - share) * span);
}

function pan(share) {
  const by = share * (view.to - view.from);
  look(view.from + by, view.to + by);
}

function scroll(by) {
  const most = Math.max(0, rows.length * ROW - (view.height - AXIS));
  view.top = Math.min(most, Math.max(0, view.top + by));
  redraw();
}

function arrange() {
  rows = layOut(model, unfolded, $("search").value);
  view.cursor = Math.min(view.cursor, rows.length - 1);
  $("found").textContent = $("search").value ? `${rows.length} rows` : "";
  scroll(0);
}

function go(lane) {
  view.chosen = lane;
  view.path = isTask(lane) ? criticalPath(model, lane) : null;
  let place = rows.findIndex((row) => row.lane === lane);
  if (place < 0) {
    const group = rows.find((row) => row.kind === "group" && row.lanes.includes(lane));
    if (group) { unfolded.add(group.key); arrange(); place = rows.findIndex((row) => row.lane === lane); }
  }
  if (place >= 0) { view.cursor = place; reveal(place); }
  if (lane.last < view.from || lane.first > view.to) look(lane.first - (lane.last - lane.first) * 0.1, lane.last + (lane.last - lane.first) * 0.1);
  hasTree = false;
  $("story").replaceChildren(...storyOf(model, lane, go));
  $("side").hidden = false;
  $("live").textContent = `${lane.name}: ran ${duration(lane.totals[0])}, ready ${duration(lane.totals[1])}, waited ${duration(lane.totals[2])}`;
  redraw();
}

function reveal(place) {
  const y = place * ROW;
  if (y < view.top) scroll(y - view.top);
  else if (y + ROW > view.top + view.height - AXIS) scroll(y + ROW - view.top - view.height + AXIS);
}

function leave() {
  playing.stop();
  view.chosen = view.path = view.moment = null;
  hasTree = false;
  $("side").hidden = true;
  redraw();
}

// -- the moment: what everybody awaits then, and slow motion

let hasTree = false, treeDrawn = 0;
const playing = player(view, {
  span: () => model.span,
  lasts: () => Number($("speed").value),
  moved: () => {
    const width = view.to - view.from;
    if (view.moment > view.to) look(view.moment - width * 0.1, view.moment + width * 0.9);
    if (hasTree && performance.now() - treeDrawn > TREE_EVERY_MS) showTree();
    redraw();
  },
  changed: () => {
    $("play").textContent = playing.isPlaying() ? "❚❚" : "▶";
    $("play").setAttribute("aria-label", playing.isPlaying() ? "Pause" : "Play in slow motion");
    if (hasTree) showTree();
    redraw();
  },
});

function showTree() {
  if (view.moment === null) view.moment = (Math.max(0, view.from) + Math.min(model.span, view.to)) / 2;
  hasTree = true;
  treeDrawn = performance.now();
  const tree = element("section", "", element("h2", `Who awaited whom at ${duration(view.moment)}`), treeElement(model, view.moment, go));
  tree.id = "tree";
  $("story").replaceChildren(tree);
  $("side").hidden = false;
  redraw();
}

function toMoment(moment) {
  view.moment = Math.max(0, Math.min(model.span, moment));
  if (view.moment < view.from || view.moment > view.to) look(view.moment - (view.to - view.from) / 2, view.moment + (view.to - view.from) / 2);
  $("live").textContent = `at ${duration(view.moment)}`;
  if (hasTree) showTree();
  redraw();
}

function step(forward) {
  const lanes = rows.flatMap((row) => (row.kind === "lane" ? [row.lane] : []));
  const next = nextEvent(lanes, view.moment === null ? Math.max(0, view.from) : view.moment, forward);
  if (next !== null) toMoment(next);
}

function act(row) {
  if (!row || row.kind === "heading") return;
  if (row.kind === "group") {
    if (row.open) unfolded.delete(row.key); else unfolded.add(row.key);
    arrange();
  } else go(row.lane);
}

function rowAt(y) { return y < AXIS ? undefined : rows[Math.floor((y - AXIS + view.top) / ROW)]; }

function hover(event) {
  const box = canvas.getBoundingClientRect(), x = event.clientX - box.left, row = rowAt(event.clientY - box.top);
  const time = view.from + ((x - LAYOUT.labels) / (view.width - LAYOUT.labels)) * (view.to - view.from), tip = $("tip");
  const slice = row && row.lane && x > LAYOUT.labels ? sliceAt(row.lane, time) : -1;
  tip.hidden = slice < 0;
  if (slice < 0) return;
  const lane = row.lane;
  tip.textContent = `${lane.name} – ${STATES[lane.states[slice]]}: ${model.names[lane.names[slice]]}, ${duration(lane.ends[slice] - lane.starts[slice])}`;
  tip.style.transform = `translate(${Math.min(event.clientX + 12, innerWidth - 340)}px, ${event.clientY + 16}px)`;
}

// Pointers: one drags, two pinch.
const pointers = new Map();
let moved = 0;
canvas.addEventListener("pointerdown", (event) => {
  canvas.setPointerCapture(event.pointerId);
  pointers.set(event.pointerId, { x: event.clientX, y: event.clientY });
  moved = 0;
});
canvas.addEventListener("pointermove", (event) => {
  const before = pointers.get(event.pointerId);
  if (!before) { hover(event); return; }
  const others = [...pointers].filter(([id]) => id !== event.pointerId).map(([, point]) => point);
  const dx = event.clientX - before.x, dy = event.clientY - before.y;
  moved += Math.abs(dx) + Math.abs(dy);
  if (others.length) {
    const apart = (point) => Math.max(10, Math.hypot(point.x - others[0].x, point.y - others[0].y));
    const middle = (event.clientX + others[0].x) / 2 - canvas.getBoundingClientRect().left;
    zoom(apart({ x: event.clientX, y: event.clientY }) / apart(before), middle);
  } else {
    pan(-dx / (view.width - LAYOUT.labels));
    scroll(-dy);
  }
  pointers.set(event.pointerId, { x: event.clientX, y: event.clientY });
});
for (const name of ["pointerup", "pointercancel"]) {
  canvas.addEventListener(name, (event) => {
    const had = pointers.delete(event.pointerId);
    if (!had || name !== "pointerup" || moved >= 5) return;
    const box = canvas.getBoundingClientRect(), x = event.clientX - box.left, y = event.clientY - box.top;
    if (y < AXIS && x > LAYOUT.labels) toMoment(view.from + ((x - LAYOUT.labels) / (view.width - LAYOUT.labels)) * (view.to - view.from));
    else act(rowAt(y));
  });
}
canvas.addEventListener("pointerleave", () => { $("tip").hidden = true; });
canvas.addEventListener("wheel", (event) => {
  event.preventDefault();
  if (event.ctrlKey || event.metaKey || event.altKey) zoom(Math.exp(-event.deltaY / 300), event.clientX - canvas.getBoundingClientRect().left);
  else if (event.shiftKey) pan(event.deltaY / 1000);
  else { scroll(event.deltaY); if (event.deltaX) pan(event.deltaX / 1000); }
}, { passive: false });

const KEYS = {
  ArrowLeft: () => pan(-0.15), ArrowRight: () => pan(0.15),
  "+": () => zoom(1.5), "=": () => zoom(1.5), "-": () => zoom(1 / 1.5),
  Home: () => look(0, model.span), Escape: leave, Enter: () => act(rows[view.cursor]),
  ArrowDown: () => moveCursor(1), ArrowUp: () => moveCursor(-1),
  PageDown: () => moveCursor(15), PageUp: () => moveCursor(-15),
  " ": () => playing.toggle(), ".": () => step(true), ",": () => step(false), t: showTree,
};
function moveCursor(by) {
  view.cursor = Math.max(0, Math.min(rows.length - 1, view.cursor + by));
  reveal(view.cursor);
  if (rows[view.cursor]) $("live").textContent = rows[view.cursor].name;
  redraw();
}
canvas.addEventListener("keydown", (event) => {
  const run = KEYS[event.key];
  if (run && !event.ctrlKey && !event.metaKey) { run(); event.preventDefault(); }
});
addEventListener("keydown", (event) => {
  if (event.key === "/" && event.target.tagName !== "INPUT") { $("search").focus(); event.preventDefault(); }
});

$("search").addEventListener("input", arrange);
$("search").addEventListener("keydown", (event) => {
  const first = rows.find((row) => row.kind === "lane");
  if (event.key === "Enter" && first) { go(first.lane); canvas.focus(); }
  if (event.key === "Escape") { $("search").value = ""; arrange(); canvas.focus(); }
});
$("in").addEventListener("click", () => zoom(2));
$("out").addEventListener("click", () => zoom(0.5));
$("all").addEventListener("click", () => look(0, model.span));
$("play").addEventListener("click", () => playing.toggle());
$("moment").addEventListener("click", showTree);
$("close").addEventListener("click", () => { leave(); canvas.focus(); });
$("theme").addEventListener("click", () => {
  const dark = getComputedStyle(document.documentElement).colorScheme.includes("dark");
  document.documentElement.dataset.theme = dark ? "light" : "dark";
  colors = palette();
  redraw();
});
$("freezes").addEventListener("click", () => {
  const freeze = model.freezes.find((each) => each.start > view.from + (view.to - view.from) * 0.3) || model.freezes[0];
  look(freeze.start - (freeze.end - freeze.start), freeze.end + (freeze.end - freeze.start));
  go(model.lanes[freeze.lane]);
  $("story").prepend(freezeOf(freeze));
});
$("freezes").hidden = !model.freezes.length;
$("freezes").textContent = `${model.freezes.length} ${model.freezes.length === 1 ? "freeze" : "freezes"}`;
$("summary").addEventListener("toggle", () => { if ($("summary").open) fillTable($("lanes"), model, go); });
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { colors = palette(); redraw(); });
new ResizeObserver(redraw).observe(canvas);
draw();
document.documentElement.dataset.ready = `${Math.round(performance.now() - began)}`;
