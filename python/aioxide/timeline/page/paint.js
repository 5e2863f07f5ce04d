// Draws the rows on the canvas.
import { RUN, WAIT, duration, upper } from "./model.js";

export const ROW = 22, AXIS = 26;
// A narrow screen has less room for names.
export const LAYOUT = { labels: 220 };
const ARROWS_MAX = 400;

/** The colors of the page's theme. */
export function palette() {
  const style = getComputedStyle(document.documentElement);
  const color = (name) => style.getPropertyValue(`--${name}`).trim();
  return Object.fromEntries(["paper", "ink", "faint", "line", "run", "ready", "wait", "park", "freeze", "arrow", "mark", "chosen"]
    .map((name) => [name, color(name)]));
}

/** Draws everything: `view` is {from, to, top, width, height, chosen, cursor, path, moment}. */
export function paint(context, model, rows, view, colors) {
  const { width, height } = view;
  context.fillStyle = colors.paper;
  context.fillRect(0, 0, width, height);
  const scale = (width - LAYOUT.labels) / (view.to - view.from);
  const x = (time) => LAYOUT.labels + (time - view.from) * scale;
  const first = Math.max(0, Math.floor(view.top / ROW)), last = Math.min(rows.length, Math.ceil((view.top + height) / ROW));
  context.save();
  context.beginPath();
  context.rect(LAYOUT.labels, AXIS, width - LAYOUT.labels, height - AXIS);
  context.clip();
  for (let i = first; i < last; i += 1) {
    const y = AXIS + i * ROW - view.top;
    if (rows[i].kind === "heading") continue;
    if (rows[i].kind === "group") paintCrowd(context, rows[i], view, x, y, colors);
    else paintLane(context, model, rows[i].lane, view, x, y, colors);
  }
  paintFreezes(context, model, view, x, colors);
  paintArrows(context, model, rows, view, x, colors);
  paintPath(context, rows, view, x, colors);
  paintMoment(context, view, x, colors);
  context.restore();
  paintLabels(context, rows, view, first, last, colors);
  paintAxis(context, view, x, colors);
}

function paintLane(context, model, lane, view, x, y, colors) {
  const shades = [colors.run, colors.ready, colors.wait, colors.park];
  const heights = [16, 10, 4, 4];
  let drawnTo = -1, drawnState = -1;
  for (let i = Math.max(0, upper(lane.starts, view.from) - 1); i < lane.starts.length && lane.starts[i] < view.to; i += 1) {
    const left = Math.max(x(lane.starts[i]), LAYOUT.labels), right = Math.max(x(lane.ends[i]), left + 0.6), state = lane.states[i];
    // What is within a pixel of what was drawn already in the same color would change nothing.
    if (right <= drawnTo && state >= drawnState) continue;
    context.fillStyle = shades[state];
    context.fillRect(left, y + (ROW - heights[state]) / 2, right - left, heights[state]);
    if (Math.floor(right) > drawnTo) [drawnTo, drawnState] = [Math.floor(right), state];
    if (state === RUN && right - left > 40) label(context, model.names[lane.names[i]], left + 3, y + 15, right - left - 6, colors.paper);
    if (state === WAIT && right - left > 90) label(context, model.names[lane.names[i]], left + 3, y + 9, right - left - 6, colors.faint, 9);
  }
  context.fillStyle = colors.mark;
  for (const mark of lane.marks) {
    if (mark.at < view.from || mark.at > view.to) continue;
    context.fillRect(x(mark.at), y + 1, 1.5, ROW - 2);
  }
}

function paintCrowd(context, row, view, x, y, colors) {
  const columns = Math.max(1, Math.floor((view.width - LAYOUT.labels) / 2));
  const step = (view.to - view.from) / columns;
  if (!row.cache || row.cache.from !== view.from || row.cache.to !== view.to || row.cache.columns !== columns) {
    const runs = new Float32Array(columns), readies = new Float32Array(columns), waits = new Float32Array(columns);
    const sums = [runs, readies, waits, waits];
    for (const lane of row.lanes) {
      if (lane.first > view.to || lane.last < view.from) continue;
      for (let i = Math.max(0, upper(lane.starts, view.from) - 1); i < lane.starts.length && lane.starts[i] < view.to; i += 1) {
        const a = Math.max(0, (lane.starts[i] - view.from) / step), b = Math.min(columns, (lane.ends[i] - view.from) / step);
        for (let c = Math.floor(a); c < b; c += 1) sums[lane.states[i]][c] += Math.min(b, c + 1) - Math.max(a, c);
      }
    }
    row.cache = { from: view.from, to: view.to, columns, runs, readies, waits };
  }
  const { runs, readies, waits } = row.cache;
  for (let c = 0; c < columns; c += 1) {
    let bottom = y + ROW - 2;
    for (const [column, color] of [[runs, colors.run], [readies, colors.ready], [waits, colors.wait]]) {
      const tall = Math.min(ROW - 4, column[c] ? Math.max(1, (column[c] / row.lanes.length) * (ROW - 4)) : 0);
      context.fillStyle = color;
      context.fillRect(LAYOUT.labels + c * 2, bottom - tall, 2, tall);
      bottom -= tall;
    }
  }
}

function paintFreezes(context, model, view, x, colors) {
  context.fillStyle = colors.freeze;
  for (const freeze of model.freezes) {
    if (freeze.end < view.from || freeze.start > view.to) continue;
    const left = x(freeze.start);
    context.globalAlpha = 0.16;
    context.fillRect(left, 0, Math.max(1, x(freeze.end) - left), view.height);
    context.globalAlpha = 1;
    context.fillRect(left, AXIS, Math.max(1, x(freeze.end) - left), 3);
  }
}

function paintArrows(context, model, rows, view, x, colors) {
  const place = new Map();
  rows.forEach((row, i) => {
    if (row.kind === "lane") place.set(row.lane.index, i);
    else if (row.kind === "group" && !row.open) for (const lane of row.lanes) place.set(lane.index, i);
  });
  let wakes = view.chosen ? [...view.chosen.woke, ...view.chosen.wokenBy] : model.wakes;
  wakes = wakes.filter((wake) => wake.at >= view.from && wake.at <= view.to);
  // More would hide the rest: those of a chosen lane are drawn, else none.
  if (wakes.length > ARROWS_MAX && !view.chosen) return;
  context.strokeStyle = colors.arrow;
  context.fillStyle = colors.arrow;
  for (const wake of wakes.slice(0, ARROWS_MAX)) {
    const from = place.get(wake.from), to = place.get(wake.to);
    if (from === undefined || to === undefined || from === to) continue;
    const at = x(wake.at), y1 = AXIS + from * ROW - view.top + ROW / 2, y2 = AXIS + to * ROW - view.top + ROW / 2;
    context.beginPath();
    context.moveTo(at, y1);
    context.lineTo(at, y2);
    context.stroke();
    const up = y2 > y1 ? -5 : 5;
    context.beginPath();
    context.moveTo(at, y2);
    context.lineTo(at - 3, y2 + up);
    context.lineTo(at + 3, y2 + up);
    context.fill();
  }
}

function paintPath(context, rows, view, x, colors) {
  if (!view.path) return;
  const place = new Map(rows.map((row, i) => [row.lane && row.lane.index, i]));
  context.strokeStyle = colors.chosen;
  context.lineWidth = 2;
  for (const part of view.path) {
    const row = place.get(part.lane.index);
    if (row === undefined || part.to < view.from || part.from > view.to) continue;
    const y = AXIS + row * ROW - view.top + ROW - 2;
    context.beginPath();
    context.moveTo(x(part.from), y);
    context.lineTo(x(part.to), y);
    context.stroke();
  }
  context.lineWidth = 1;
}

/** What comes after the moment is veiled, as it has not happened yet. */
function paintMoment(context, view, x, colors) {
  if (view.moment === null) return;
  const at = x(view.moment);
  context.globalAlpha = 0.55;
  context.fillStyle = colors.paper;
  context.fillRect(Math.max(at, LAYOUT.labels), AXIS, view.width, view.height);
  context.globalAlpha = 1;
  context.fillStyle = colors.chosen;
  context.fillRect(at - 0.75, AXIS, 1.5, view.height);
}

function paintLabels(context, rows, view, first, last, colors) {
  context.fillStyle = colors.paper;
  context.fillRect(0, 0, LAYOUT.labels, view.height);
  for (let i = first; i < last; i += 1) {
    const row = rows[i], y = AXIS + i * ROW - view.top;
    const chosen = row.lane && row.lane === view.chosen;
    if (chosen || i === view.cursor) {
      context.fillStyle = chosen ? colors.chosen : colors.line;
      context.fillRect(0, y + 1, 3, ROW - 2);
    }
    const strong = row.kind !== "lane" || row.lane.kind === "loop";
    label(context, row.name, row.inner ? 22 : 8, y + 15, LAYOUT.labels - (row.inner ? 28 : 14), colors.ink, 12, strong);
    context.fillStyle = colors.line;
    context.fillRect(0, y + ROW - 0.5, view.width, 0.5);
  }
  context.fillRect(LAYOUT.labels - 0.5, 0, 0.5, view.height);
}

function paintAxis(context, view, x, colors) {
  context.fillStyle = colors.paper;
  context.fillRect(0, 0, view.width, AXIS - 1);
  const span = view.to - view.from, raw = span / Math.max(2, (view.width - LAYOUT.labels) / 110);
  const power = 10 ** Math.floor(Math.log10(raw)), step = [1, 2, 5, 10].map((n) => n * power).find((n) => n >= raw);
  for (let time = Math.ceil(view.from / step) * step; time <= view.to; time += step) {
    context.fillStyle = colors.line;
    context.fillRect(x(time), AXIS - 6, 1, view.height);
    label(context, time === 0 ? "0" : duration(Math.round(time)), x(time) + 3, 14, 100, colors.faint, 11);
  }
  label(context, `${duration(span)} shown`, 8, 14, LAYOUT.labels - 16, colors.faint, 11);
}

function label(context, text, x, y, room, color, size = 11, strong = false) {
  context.font = `${strong ? "600 " : ""}${size}px system-ui, sans-serif`;
  context.fillStyle = color;
  const fits = Math.floor(room / (size * 0.55));
  if (fits < 2) return;
  context.fillText(text.length > fits ? `${text.slice(0, fits - 1)}…` : text, x, y);
}
