// What only the folded picture shows: torn gaps, where control went, who woke whom, the printed lines, the times.

const TEAR = 12;
const LINE_LEVELS = 3;

function paintFolded(context, pane, place) {
  paintTears(context, pane, place);
  paintSwitches(context, pane, place);
  paintWakes(context, pane, place);
  paintPrinted(context, pane, place);
  paintTimes(context, pane, place);
}

const middleOf = (place, row) => place.rows[row].bar + place.rows[row].barHeight / 2;

function paintTears(context, pane, place) {
  for (const [start, end] of pane.axis.folds) {
    const middle = (xOf(pane, place, start) + xOf(pane, place, end)) / 2;
    const top = place.top - 6;
    const teeth = Math.max(1, Math.round((place.bottom - top) / 9));
    const height = (place.bottom - top) / teeth;
    const edge = (side) => Array.from({ length: teeth + 1 }, (_, i) => [middle + (side * TEAR) / 2 + (i % 2 ? 3 : 0), top + i * height]);
    const [before, after] = [edge(-1), edge(1)];
    context.fillStyle = pane.canvas.closest(".close-up") ? colors.panel : colors.paper;
    context.beginPath();
    for (const [x, y] of [...before, ...after.reverse()]) context.lineTo(x, y);
    context.fill();
    context.strokeStyle = colors.muted;
    context.lineWidth = 1;
    for (const side of [before, after]) {
      context.beginPath();
      for (const [x, y] of side) context.lineTo(x, y);
      context.stroke();
    }
    context.font = font(11, 650);
    context.fillStyle = colors.ink;
    context.textAlign = "center";
    context.textBaseline = "alphabetic";
    context.fillText(duration(end - start), middle, top - 6);
  }
}

function paintSwitches(context, pane, place) {
  context.strokeStyle = colors.switch;
  context.lineWidth = 1.6;
  context.lineJoin = "round";
  for (const path of pane.switches) {
    context.beginPath();
    let row = path[0][1];
    context.moveTo(xOf(pane, place, path[0][0]), middleOf(place, row));
    for (const [at, next] of path.slice(1)) {
      const x = xOf(pane, place, at);
      context.lineTo(x, middleOf(place, row));
      context.lineTo(x, middleOf(place, next));
      row = next;
    }
    context.lineTo(xOf(pane, place, pane.busyUntil), middleOf(place, row));
    context.stroke();
  }
}

function paintWakes(context, pane, place) {
  const last = new Map();
  context.strokeStyle = colors.wake;
  context.fillStyle = colors.wake;
  context.lineWidth = 1.2;
  for (const [at, from, to] of pane.wakes) {
    const x = xOf(pane, place, at);
    if (x < place.left - 20 || x > place.right + 20) continue;
    const key = from * 1000 + to;
    if (x - (last.get(key) ?? -100) < 3) continue;
    last.set(key, x);
    const down = to > from ? 1 : -1;
    const y1 = middleOf(place, from) + (down * BAR) / 2;
    const y2 = middleOf(place, to) - down * (BAR / 2 + 1);
    const bend = Math.min(24, 6 + Math.abs(y2 - y1) / 6);
    context.setLineDash([3, 2]);
    context.beginPath();
    context.moveTo(x, y1);
    context.quadraticCurveTo(x + bend, (y1 + y2) / 2, x, y2 - down * 5);
    context.stroke();
    context.setLineDash([]);
    context.beginPath();
    context.moveTo(x, y2);
    context.lineTo(x - 3.4, y2 - down * 6);
    context.lineTo(x + 3.4, y2 - down * 6);
    context.fill();
  }
}

function paintPrinted(context, pane, place) {
  const until = new Array(LINE_LEVELS).fill(-1);
  const gaps = pane.axis.folds.map(([start, end]) => [xOf(pane, place, start) - 6, xOf(pane, place, end) + 6]);
  const marks = pane.rows.flatMap((row) => row.marks || []).sort((a, b) => a[0] - b[0]);
  context.font = font(11);
  context.textAlign = "left";
  context.textBaseline = "alphabetic";
  for (const [at, text] of marks) {
    const x = xOf(pane, place, at);
    if (x < place.left - 6 || x > place.right) continue;
    const label = text.replace(/^--- /, "");
    const end = x + context.measureText(label).width + 10;
    const level = until.findIndex((used) => x >= used);
    if (level < 0 || end > place.right + 6 || gaps.some(([left, right]) => x < right && end > left)) continue;
    until[level] = end;
    const y = place.top - 14 - 12 * level;
    context.fillStyle = colors["park-line"];
    context.fillRect(x - 0.5, y - 8, 1, place.top - y + 6);
    context.fillStyle = colors.muted;
    context.fillText(label, x + 4, y);
  }
}

function paintTimes(context, pane, place) {
  context.font = font(11.5);
  context.fillStyle = colors.muted;
  context.textAlign = "center";
  context.textBaseline = "alphabetic";
  let until = -1;
  for (const at of [0, ...pane.axis.folds.map((fold) => fold[1]), pane.span]) {
    const label = at === 0 ? "0" : duration(at, 4);
    const half = context.measureText(label).width / 2;
    const x = xOf(pane, place, at);
    if (x < place.left - 6 || x > place.right + 6) continue;
    const shown = Math.max(place.left - 4 + half, Math.min(x, place.right + 6 - half));
    if (shown - half < until) continue;
    context.fillText(label, shown, place.bottom + 18);
    until = shown + half + 6;
  }
}
