// Drawing one pane on its canvas.

const STATES = ["run", "ready", "wait", "park", "host"];
const PAINT_ORDER = [2, 3, 1, 4, 0];
const STACK_ORDER = [0, 4, 1, 2, 3];
const SAYS = {
  run: "runs",
  ready: "ready, but something else runs",
  wait: "waits",
  park: "parked: nothing to do",
  host: "runs",
};
const BAR = 12;
// A task that runs for so long without giving way holds up everything else on its loop.
const FREEZE_NS = 50e6;

let colors = {};

function readColors() {
  const style = getComputedStyle(document.documentElement);
  const names = ["paper", "panel", "ink", "muted", "line", "grid", "run", "host", "on-run", "ready", "wait", "wait-ink", "park", "park-line", "switch", "wake", "freeze"];
  colors = Object.fromEntries(names.map((name) => [name, style.getPropertyValue(`--${name}`).trim()]));
  const tile = document.createElement("canvas");
  tile.width = tile.height = 6;
  const hatch = tile.getContext("2d");
  hatch.fillStyle = colors.park;
  hatch.fillRect(0, 0, 6, 6);
  hatch.strokeStyle = colors["park-line"];
  hatch.lineWidth = 1.2;
  hatch.beginPath();
  for (const shift of [-6, 0, 6]) {
    hatch.moveTo(shift - 1, 7);
    hatch.lineTo(shift + 7, -1);
  }
  hatch.stroke();
  colors.hatch = tile;
}

/** Makes a canvas as sharp as the screen and returns its context, in CSS pixels. */
function prepare(canvas, height) {
  const width = canvas.clientWidth;
  const ratio = window.devicePixelRatio || 1;
  canvas.style.height = `${height}px`;
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  return context;
}

const font = (size, weight = 400) => `${weight} ${size}px system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif`;

/** Where the plot is and how high each row: names beside the rows, or above them where it is narrow. */
function layout(pane, width) {
  const narrow = width < 620;
  const left = narrow ? 8 : 158;
  const right = width - (narrow ? 14 : 22);
  const top = pane.view.folded ? 54 : 10;
  const rows = [];
  let y = top;
  for (const row of pane.rows) {
    const bar = row.counts && row.size > 1 ? 40 : BAR;
    const above = narrow ? 15 : pane.view.folded && !row.counts ? 7 : 4;
    const height = above + bar + (narrow ? 3 : pane.view.folded && !row.counts ? 7 : 4);
    rows.push({ top: y, height, bar: y + above, barHeight: bar });
    y += height;
  }
  return { narrow, left, right, width: right - left, top, rows, bottom: y, height: y + (pane.view.folded ? 26 : 8) };
}

function xOf(pane, place, time) {
  return place.left + ((pane.axis.share(time) - pane.view.from) / (pane.view.to - pane.view.from)) * place.width;
}

function timeAt(pane, place, x) {
  return pane.axis.time(pane.view.from + ((x - place.left) / place.width) * (pane.view.to - pane.view.from));
}

function fillOf(context, state) {
  if (state === "park") return context.createPattern(colors.hatch, "repeat");
  return colors[state];
}

function paintRuler(canvas, view) {
  const context = prepare(canvas, 24);
  if (view.folded) {
    context.font = font(12);
    context.fillStyle = colors.muted;
    context.textBaseline = "middle";
    context.fillText("Folded: every chapter has an axis of its own", canvas.clientWidth < 620 ? 8 : 158, 12);
    return;
  }
  const place = layout({ rows: [], view }, canvas.clientWidth);
  const from = view.from * view.longest;
  const to = view.to * view.longest;
  const step = tickStep(to - from, Math.max(2, place.width / (place.narrow ? 68 : 88)));
  context.font = font(12);
  context.fillStyle = colors.muted;
  context.strokeStyle = colors["park-line"];
  context.textBaseline = "middle";
  context.textAlign = "center";
  for (let at = Math.ceil(from / step) * step; at <= to; at += step) {
    const x = place.left + ((at - from) / (to - from)) * place.width;
    const label = at === 0 ? "0" : tickLabel(at, step);
    const half = context.measureText(label).width / 2;
    context.fillText(label, Math.max(half, Math.min(x, canvas.clientWidth - half)), 10);
    context.fillRect(x - 0.5, 19, 1, 5);
  }
}

function tickLabel(at, step) {
  const [unit, scale] = at >= 1e9 && step >= 1e7 ? ["s", 1e9] : step >= 1e6 ? ["ms", 1e6] : at >= 1e6 ? ["ms", 1e6] : ["µs", 1e3];
  const places = Math.max(0, Math.ceil(-Math.log10(step / scale) - 1e-9));
  return `${(at / scale).toFixed(places)} ${unit}`;
}

function paintPane(pane, hover) {
  const { canvas } = pane;
  const place = layout(pane, canvas.clientWidth);
  pane.place = place;
  const context = prepare(canvas, place.height);
  paintGrid(context, pane, place);
  pane.rows.forEach((row, number) => paintName(context, row, place.rows[number], place));
  context.save();
  context.beginPath();
  context.rect(place.left - 6, 0, place.width + 12, place.height);
  context.clip();
  pane.rows.forEach((row, number) => {
    if (row.counts) paintCrowd(context, pane, row, place.rows[number], place);
    else paintRow(context, pane, row, place.rows[number], place);
  });
  if (pane.view.folded) paintFolded(context, pane, place);
  paintEnd(context, pane, place);
  if (hover && hover.time !== undefined) paintCursor(context, pane, place, hover);
  if (pane.chosen) paintChosen(context, pane, place);
  context.restore();
}

function paintGrid(context, pane, place) {
  if (pane.view.folded) return;
  const from = pane.view.from * pane.view.longest;
  const to = pane.view.to * pane.view.longest;
  const step = tickStep(to - from, Math.max(2, place.width / (place.narrow ? 68 : 88)));
  context.fillStyle = colors.grid;
  for (let at = Math.ceil(from / step) * step; at <= to; at += step) {
    context.fillRect(Math.round(xOf(pane, place, at)), 0, 1, place.height);
  }
}

function paintName(context, row, box, place) {
  context.fillStyle = colors.muted;
  context.font = font(place.narrow ? 11 : 12.5);
  context.textBaseline = "middle";
  context.textAlign = place.narrow ? "left" : "right";
  const room = place.narrow ? place.width : place.left - 16;
  let name = row.name;
  while (name.length > 4 && context.measureText(name).width > room) name = `${name.slice(0, -2).trimEnd()}…`;
  if (place.narrow) context.fillText(name, place.left, box.top + 8);
  else context.fillText(name, place.left - 14, box.bar + box.barHeight / 2 + 0.5);
}

/** The slices between two moments: their numbers from the first that ends after `from` to the last that begins before `to`. */
function visible(row, from, to) {
  let low = 0;
  let high = row.slices.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (row.slices[middle][1] < from) low = middle + 1;
    else high = middle;
  }
  const found = [];
  for (let i = low; i < row.slices.length && row.slices[i][0] <= to; i++) found.push(row.slices[i]);
  return found;
}

function paintRow(context, pane, row, box, place) {
  const from = timeAt(pane, place, place.left - 8);
  const to = timeAt(pane, place, place.right + 8);
  const shown = visible(row, from, to);
  for (const state of PAINT_ORDER) {
    context.fillStyle = fillOf(context, STATES[state]);
    const least = state === 2 || state === 3 ? 0.4 : 1.7;
    let begin = null;
    let end = 0;
    for (const [start, stop, which] of shown) {
      if (which !== state) continue;
      const x0 = Math.max(place.left - 8, xOf(pane, place, start));
      const x1 = Math.min(place.right + 8, Math.max(xOf(pane, place, stop), x0 + least));
      if (begin !== null && x0 <= end + 0.25) {
        end = Math.max(end, x1);
        continue;
      }
      if (begin !== null) context.fillRect(begin, box.bar, end - begin, box.barHeight);
      [begin, end] = [x0, x1];
    }
    if (begin !== null) context.fillRect(begin, box.bar, end - begin, box.barHeight);
  }
  context.globalAlpha = 1;
  paintLabels(context, pane, row, box, place, shown);
  paintMarks(context, pane, row, box, place);
}

function paintLabels(context, pane, row, box, place, shown) {
  context.textBaseline = "middle";
  context.textAlign = "left";
  for (const [start, end, state, name] of shown) {
    const frozen = state === 0 && row.kind === "task" && end - start >= FREEZE_NS;
    const x0 = Math.max(place.left, xOf(pane, place, start));
    const x1 = Math.min(place.right, xOf(pane, place, end));
    if (frozen) {
      context.fillStyle = colors.freeze;
      context.fillRect(x0, box.bar + box.barHeight, Math.max(2, x1 - x0), 3);
    }
    if (x1 - x0 < 46 || state === 1 || state === 3 || state === 4) continue;
    const text = frozen ? `${duration(end - start)} without giving way` : state === 2 ? pane.names[name] : "";
    context.font = font(10.5, frozen ? 600 : 400);
    if (!text || context.measureText(text).width > x1 - x0 - 12) continue;
    if (pane.view.folded && pane.axis.folds.some((fold) => x0 < xOf(pane, place, fold[1]) && x0 + 14 + context.measureText(text).width > xOf(pane, place, fold[0]))) continue;
    context.fillStyle = frozen ? colors["on-run"] : colors["wait-ink"];
    context.fillText(text, x0 + 7, box.bar + box.barHeight / 2 + 0.5);
  }
}

function paintMarks(context, pane, row, box, place) {
  let last = -10;
  for (const [at] of row.marks) {
    const x = xOf(pane, place, at);
    if (x - last < 3 || x < place.left - 6 || x > place.right + 6) continue;
    last = x;
    context.beginPath();
    context.moveTo(x - 3.6, box.bar - 2);
    context.lineTo(x + 3.6, box.bar - 2);
    context.lineTo(x, box.bar + 4);
    context.closePath();
    context.fillStyle = colors.ink;
    context.strokeStyle = colors.paper;
    context.lineWidth = 1;
    context.stroke();
    context.fill();
  }
}

function paintCrowd(context, pane, row, box, place) {
  const parts = row.counts[0].length;
  const part = pane.span / parts;
  const end = xOf(pane, place, pane.span);
  const begin = xOf(pane, place, 0);
  if (row.size > 1) {
    context.fillStyle = colors.grid;
    context.fillRect(begin, box.bar, end - begin, box.barHeight);
  }
  const below = new Array(parts).fill(0);
  for (const state of STACK_ORDER) {
    context.fillStyle = fillOf(context, STATES[state]);
    context.beginPath();
    for (let i = 0; i < parts; i++) {
      const count = row.counts[state][i];
      if (!count) continue;
      const x0 = xOf(pane, place, i * part);
      const x1 = xOf(pane, place, (i + 1) * part);
      const y = box.bar + box.barHeight * (1 - below[i] / row.size);
      context.rect(x0, y, Math.max(0.5, x1 - x0 + 0.3), (-box.barHeight * count) / row.size);
      below[i] += count;
    }
    context.fill();
  }
  context.globalAlpha = 1;
}

function paintEnd(context, pane, place) {
  const x = Math.round(xOf(pane, place, pane.span)) + 0.5;
  context.strokeStyle = colors.muted;
  context.setLineDash([2, 3]);
  context.lineWidth = 1;
  context.beginPath();
  context.moveTo(x, place.top - 4);
  context.lineTo(x, place.bottom);
  context.stroke();
  context.setLineDash([]);
  if (pane.view.folded) return;
  if (x > place.right + 8) {
    context.fillStyle = colors["wait-ink"];
    const middle = (place.top + place.bottom) / 2;
    context.beginPath();
    context.moveTo(place.right + 1, middle - 9);
    context.lineTo(place.right + 6, middle);
    context.lineTo(place.right + 1, middle + 9);
    context.closePath();
    context.fill();
  } else if (x + 60 < place.right && x > place.left) {
    context.font = font(12.5, 650);
    context.fillStyle = colors.ink;
    context.textAlign = "left";
    context.textBaseline = "middle";
    context.fillText(pane.wall, x + 8, (place.top + place.bottom) / 2);
  }
}

function paintCursor(context, pane, place, hover) {
  if (hover.pane.view !== pane.view || (pane.view.folded && hover.pane !== pane)) return;
  const x = Math.round(xOf(pane, place, hover.time)) + 0.5;
  context.strokeStyle = colors.muted;
  context.globalAlpha = 0.55;
  context.lineWidth = 1;
  context.beginPath();
  context.moveTo(x, 0);
  context.lineTo(x, place.height);
  context.stroke();
  context.globalAlpha = 1;
}

function paintChosen(context, pane, place) {
  const { row, index } = pane.chosen;
  const box = place.rows[row];
  const slice = pane.rows[row].slices ? pane.rows[row].slices[index] : null;
  const [start, end] = slice || [0, pane.span];
  const x0 = xOf(pane, place, start);
  const x1 = Math.max(x0 + 3, xOf(pane, place, end));
  context.strokeStyle = colors.ink;
  context.lineWidth = 2;
  context.strokeRect(x0 - 1, box.bar - 2, x1 - x0 + 2, box.barHeight + 4);
}
