// Putting it together: the panes, the tools, pointer and keyboard.

const data = JSON.parse(document.getElementById("data").textContent);
const longest = Math.max(1, ...data.panes.map((pane) => pane.span));
const wholeTrue = Math.min(1, data.axis / longest);
const shared = new View(longest, false);
const details = document.getElementById("details");
const ruler = document.getElementById("ruler");
const hover = {};

function makePane(raw, view, canvas) {
  const rows = raw.rows.map((row) => {
    if (row.counts) return row;
    const slices = [];
    for (let i = 0; i < row.slices.length; i += 4) slices.push(row.slices.slice(i, i + 4));
    return { ...row, slices };
  });
  const ends = rows.filter((row) => row.kind === "loop" && row.slices && row.slices.length).map((row) => row.slices.at(-1)[1]);
  const busyUntil = Math.max(0, ...ends) || raw.span;
  return { ...raw, rows, canvas, view, axis: new PaneAxis(view, raw.span, raw.folds), busyUntil, chosen: null };
}

const panes = data.panes.map((raw) => makePane(raw, shared, document.getElementById(`pane-${raw.number}`)));
const explained = data.panes.find((raw) => raw.number === data.closeUp);
if (explained) panes.push(makePane(explained, new View(explained.span, true), document.getElementById("pane-close-up")));

let scheduled = false;
function repaint() {
  if (scheduled) return;
  scheduled = true;
  requestAnimationFrame(() => {
    scheduled = false;
    paintRuler(ruler, shared);
    for (const pane of panes) paintPane(pane, hover);
    const shown = document.getElementById("window");
    const size = shared.size * longest;
    shown.textContent = shared.folded ? "" : `${moment(shared.from * longest, size)} – ${moment(shared.to * longest, size)}`;
  });
}

function showWhole(view = shared) {
  view.show(0, view.folded ? 1 : wholeTrue);
  repaint();
}

function setMode(folded) {
  shared.folded = folded;
  document.body.classList.toggle("folded", folded);
  hideDetails();
  showWhole();
}

// Details

function say(pane, number, index, time) {
  const row = pane.rows[number];
  const parts = [];
  const add = (tag, text) => {
    const element = document.createElement(tag);
    element.textContent = text;
    parts.push(element);
  };
  add("b", row.name);
  if (row.counts) {
    const part = Math.min(row.counts[0].length - 1, Math.max(0, Math.floor((time / pane.span) * row.counts[0].length)));
    const many = row.size > 1;
    for (const state of STACK_ORDER) {
      const value = row.counts[state][part];
      if (value) add("div", many ? `${Number(value.toFixed(1))} of ${row.size}: ${SAYS[STATES[state]]}` : `${Math.round(value * 100)} %: ${SAYS[STATES[state]]}`);
    }
    add("div", `around ${moment(time, pane.span / 100)}, average over ${duration(pane.span / row.counts[0].length)}`);
    return parts;
  }
  const slice = row.slices[index];
  if (slice) {
    const [start, end, state, name] = slice;
    const what = pane.names[name];
    const says = SAYS[STATES[state]];
    const plain = state === 1 || state === 3 || what === "waiting" || what === "running";
    add("div", plain ? says : `${says}: ${what}`);
    add("div", `${duration(end - start)}, from ${moment(start, (end - start) / 50)} to ${moment(end, (end - start) / 50)}`);
    // A wait ends, and a time of being ready begins, when somebody wakes the lane.
    const wake = state === 1 || state === 2 ? pane.wakes.find(([at, , to]) => to === number && at >= start && at <= end) : undefined;
    if (wake) add("div", `woken by ${pane.rows[wake[1]].name}`);
    for (const [at, text] of row.marks) {
      if (at >= start && at <= end && parts.length < 8) add("div", `${moment(at, (end - start) / 50)}: ${text}`);
    }
  } else add("div", "not there yet, or no longer");
  return parts;
}

function showDetails(parts, x, y) {
  details.replaceChildren(...parts);
  details.hidden = false;
  const box = details.getBoundingClientRect();
  const left = x + 16 + box.width > window.innerWidth - 8 ? x - 16 - box.width : x + 16;
  const top = y + 16 + box.height > window.innerHeight - 8 ? y - 12 - box.height : y + 16;
  details.style.left = `${Math.max(8, left)}px`;
  details.style.top = `${Math.max(8, top)}px`;
}

function hideDetails() {
  details.hidden = true;
  delete hover.time;
  delete hover.pane;
}

function pointAt(pane, event) {
  const box = pane.canvas.getBoundingClientRect();
  const x = event.clientX - box.left;
  const y = event.clientY - box.top;
  const place = pane.place;
  hover.pane = pane;
  hover.time = timeAt(pane, place, Math.min(Math.max(x, place.left), place.right));
  const number = place.rows.findIndex((row) => y >= row.top && y < row.top + row.height);
  if (number < 0) {
    details.hidden = true;
    return;
  }
  const row = pane.rows[number];
  // A few pixels around the pointer count, as slices may be thinner than one.
  const near = [timeAt(pane, place, x - 4), timeAt(pane, place, x + 4)];
  let index = -1;
  if (row.slices) {
    const candidates = visible(row, near[0], near[1]);
    const under = candidates.filter(([start, end]) => start <= hover.time && hover.time <= end);
    const short = candidates.filter(([, , state]) => state === 0 || state === 1 || state === 4);
    const best = under.find(([, , state]) => state !== 2 && state !== 3) || short[0] || under[0];
    index = best ? row.slices.indexOf(best) : -1;
  }
  showDetails(say(pane, number, index, hover.time), event.clientX, event.clientY);
}

// Pointer: one drags, two pinch.

const pointers = new Map();

function shareAt(pane, clientX) {
  const box = pane.canvas.getBoundingClientRect();
  return pane.view.from + ((clientX - box.left - pane.place.left) / pane.place.width) * pane.view.size;
}

function onMove(pane, event) {
  const before = pointers.get(event.pointerId);
  if (!before) {
    if (event.pointerType === "mouse") pointAt(pane, event);
    repaint();
    return;
  }
  const others = [...pointers.entries()].filter(([id]) => id !== event.pointerId).map(([, at]) => at);
  const perPixel = pane.view.size / pane.place.width;
  if (others.length === 1) {
    const was = Math.max(12, Math.abs(before.x - others[0].x));
    const is = Math.max(12, Math.abs(event.clientX - others[0].x));
    pane.view.zoom(shareAt(pane, (event.clientX + others[0].x) / 2), was / is);
  } else {
    pane.view.move((before.x - event.clientX) * perPixel);
    if (Math.abs(event.clientX - before.begunX) > 4) hideDetails();
  }
  pointers.set(event.pointerId, { x: event.clientX, begunX: before.begunX });
  repaint();
}

function listen(pane) {
  const { canvas } = pane;
  canvas.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    pointers.set(event.pointerId, { x: event.clientX, begunX: event.clientX });
    canvas.setPointerCapture(event.pointerId);
    pointAt(pane, event);
    repaint();
  });
  canvas.addEventListener("pointermove", (event) => onMove(pane, event));
  for (const kind of ["pointerup", "pointercancel"]) canvas.addEventListener(kind, (event) => pointers.delete(event.pointerId));
  canvas.addEventListener("pointerleave", (event) => {
    if (event.pointerType !== "mouse") return;
    hideDetails();
    repaint();
  });
  canvas.addEventListener("dblclick", (event) => {
    pane.view.zoom(shareAt(pane, event.clientX), event.shiftKey ? 4 : 0.25);
    repaint();
  });
  canvas.addEventListener(
    "wheel",
    (event) => {
      const sideways = Math.abs(event.deltaX) > Math.abs(event.deltaY);
      if (!event.ctrlKey && !sideways && !event.shiftKey) return; // the page scrolls
      event.preventDefault();
      if (event.ctrlKey) pane.view.zoom(shareAt(pane, event.clientX), Math.exp(event.deltaY * 0.006));
      else pane.view.move(((sideways ? event.deltaX : event.deltaY) / pane.place.width) * pane.view.size);
      repaint();
    },
    { passive: false },
  );
  canvas.addEventListener("keydown", (event) => onKey(pane, event));
  canvas.addEventListener("focus", () => {
    if (canvas.matches(":focus-visible")) choose(pane, 0, 0);
  });
  canvas.addEventListener("blur", () => {
    pane.chosen = null;
    hideDetails();
    repaint();
  });
}

// Keyboard: a chosen slice, moved by the arrow keys.

function choose(pane, row, index) {
  if (!pane.rows.length) return;
  pane.chosen = { row, index };
  const slice = pane.rows[row].slices ? pane.rows[row].slices[index] : null;
  const [start, end] = slice || [0, pane.span];
  const from = pane.axis.share(start);
  const to = pane.axis.share(end);
  const { view } = pane;
  if (to < view.from || from > view.to) view.show(from - view.size / 3, from + (view.size * 2) / 3);
  const box = pane.canvas.getBoundingClientRect();
  const place = pane.place;
  const x = box.left + Math.min(place.right, Math.max(place.left, xOf(pane, place, start)));
  showDetails(say(pane, row, index, (start + end) / 2), x, box.top + place.rows[row].top + place.rows[row].height);
  repaint();
}

function onKey(pane, event) {
  if (event.altKey || event.metaKey || event.ctrlKey) return;
  const chosen = pane.chosen || { row: 0, index: 0 };
  const row = pane.rows[chosen.row];
  const slices = (row && row.slices) || [];
  const centre = slices[chosen.index] ? pane.axis.share(slices[chosen.index][0]) : (pane.view.from + pane.view.to) / 2;
  const moves = {
    ArrowRight: () => choose(pane, chosen.row, Math.min(slices.length - 1, chosen.index + 1)),
    ArrowLeft: () => choose(pane, chosen.row, Math.max(0, chosen.index - 1)),
    ArrowDown: () => choose(pane, Math.min(pane.rows.length - 1, chosen.row + 1), nearest(pane, chosen, 1)),
    ArrowUp: () => choose(pane, Math.max(0, chosen.row - 1), nearest(pane, chosen, -1)),
    Home: () => choose(pane, chosen.row, 0),
    End: () => choose(pane, chosen.row, Math.max(0, slices.length - 1)),
    Enter: () => {
      const [start, end] = slices[chosen.index] || [0, pane.span];
      const [from, to] = [pane.axis.share(start), pane.axis.share(end)];
      pane.view.show(from - (to - from), to + (to - from));
      choose(pane, chosen.row, chosen.index);
    },
    "+": () => pane.view.zoom(centre, 0.5),
    "=": () => pane.view.zoom(centre, 0.5),
    "-": () => pane.view.zoom(centre, 2),
    0: () => showWhole(pane.view),
    f: () => document.querySelector(`input[name=mode][value=${shared.folded ? "true" : "folded"}]`).click(),
    Escape: () => {
      pane.chosen = null;
      hideDetails();
    },
  };
  if (!moves[event.key]) return;
  event.preventDefault();
  moves[event.key]();
  repaint();
}

/** The slice of the next row at the time of the chosen one. */
function nearest(pane, chosen, step) {
  const here = pane.rows[chosen.row].slices;
  const there = (pane.rows[Math.min(pane.rows.length - 1, Math.max(0, chosen.row + step))] || {}).slices;
  if (!here || !there || !here[chosen.index]) return 0;
  const found = there.findIndex(([, end]) => end > here[chosen.index][0]);
  return found < 0 ? Math.max(0, there.length - 1) : found;
}

// Tools

for (const radio of document.querySelectorAll("input[name=mode]")) {
  radio.addEventListener("change", () => setMode(radio.value === "folded" && radio.checked));
}
document.getElementById("zoom-in").addEventListener("click", () => {
  shared.zoom((shared.from + shared.to) / 2, 0.5);
  repaint();
});
document.getElementById("zoom-out").addEventListener("click", () => {
  shared.zoom((shared.from + shared.to) / 2, 2);
  repaint();
});
document.getElementById("zoom-whole").addEventListener("click", () => showWhole());

document.getElementById("bar").hidden = false;
panes.forEach(listen);
readColors();
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  readColors();
  repaint();
});
new ResizeObserver(repaint).observe(document.querySelector("main"));
// `#folded` opens the page folded, for links and for printing.
const asked = location.hash === "#folded" ? "folded" : "true";
document.querySelector(`input[name=mode][value=${asked}]`).checked = true;
setMode(asked === "folded");
