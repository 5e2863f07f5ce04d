// The recording as the page uses it: lanes with their slices in columns, who woke whom, what a lane did when.
export const STATES = ["run", "ready", "wait", "park"];
export const RUN = 0, READY = 1, WAIT = 2, PARK = 3;

/** The place of the first item that is greater than `value` in a sorted column. */
export function upper(column, value) {
  let low = 0, high = column.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (column[middle] <= value) low = middle + 1; else high = middle;
  }
  return low;
}

/** Unpacks the data that the page carries; see `_page.py`. */
export function decode(data) {
  const lanes = data.lanes.map(([name, kind, thread, group, source], index) => ({
    index, name, kind, thread, group, source, marks: [], wokenBy: [], woke: [],
  }));
  let place = 0;
  data.counts.forEach((count, index) => {
    const lane = lanes[index];
    lane.starts = new Float64Array(count);
    lane.ends = new Float64Array(count);
    lane.names = new Uint32Array(count);
    lane.states = new Uint8Array(count);
    lane.totals = [0, 0, 0, 0];
    for (let at = 0, i = 0; i < count; i += 1, place += 1) {
      at += data.starts[place];
      lane.starts[i] = at;
      lane.ends[i] = at + data.lasts[place];
      lane.names[i] = data.slice_names[place];
      lane.states[i] = data.states[place];
      lane.totals[lane.states[i]] += data.lasts[place];
    }
    lane.first = count ? lane.starts[0] : Infinity;
    lane.last = count ? lane.ends[count - 1] : -Infinity;
  });
  const wakes = [];
  let at = 0;
  for (let i = 0; i < data.wakes.length; i += 3) {
    at += data.wakes[i];
    const wake = { at, from: data.wakes[i + 1], to: data.wakes[i + 2] };
    lanes[wake.from].woke.push(wake);
    lanes[wake.to].wokenBy.push(wake);
    wakes.push(wake);
  }
  for (const [when, lane, text] of data.marks) lanes[lane].marks.push({ at: when, text });
  const freezes = data.freezes.map(([lane, start, end, text]) => ({ lane, start, end, ...parsed(text) }));
  return { ...data.about, names: data.names, lanes, wakes, freezes };
}

function parsed(text) {
  try { return JSON.parse(text); } catch { return { verdict: text, stack: [] }; }
}

/** The slice of a lane at a moment, or -1. */
export function sliceAt(lane, moment) {
  const i = upper(lane.starts, moment) - 1;
  return i >= 0 && lane.ends[i] > moment ? i : -1;
}

/** Who woke a lane at the end of a wait that ended at `moment`. */
export function wakerAt(lane, moment) {
  let best = null;
  for (const wake of lane.wokenBy) {
    if (wake.at <= moment + 1000) best = wake; else break;
  }
  return best;
}

/** Who ran on the lane's thread in a stretch of time, longest first: [lane, nanoseconds]. */
export function ranMeanwhile(model, lane, from, to) {
  const found = new Map();
  for (const other of model.lanes) {
    if (other === lane || other.thread !== lane.thread || other.kind === "loop" || other.kind === "thread") continue;
    if (other.first >= to || other.last <= from) continue;
    for (let i = Math.max(0, upper(other.starts, from) - 1); i < other.starts.length && other.starts[i] < to; i += 1) {
      if (other.states[i] !== RUN) continue;
      const overlap = Math.min(other.ends[i], to) - Math.max(other.starts[i], from);
      if (overlap > 0) found.set(other, (found.get(other) || 0) + overlap);
    }
  }
  return [...found].sort((a, b) => b[1] - a[1]);
}

/** A time as people read it. */
export function duration(ns) {
  if (ns < 1e3) return `${Math.round(ns)} ns`;
  if (ns < 1e6) return `${(ns / 1e3).toFixed(ns < 1e4 ? 1 : 0)} µs`;
  if (ns < 1e9) return `${(ns / 1e6).toFixed(ns < 1e7 ? 2 : ns < 1e8 ? 1 : 0)} ms`;
  return `${(ns / 1e9).toFixed(2)} s`;
}
