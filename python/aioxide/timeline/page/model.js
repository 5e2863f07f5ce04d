// The recordings as the page uses them: lanes with their slices in columns, who woke whom, what a lane did when.
export const STATES = ["run", "ready", "wait", "park"];
export const RUN = 0, READY = 1, WAIT = 2, PARK = 3;
// A waker's and a woken lane's times are rounded each by itself.
const TOLERANCE = 1000;
const HOPS_MAX = 8;

/** The place of the first item that is greater than `value` in a sorted column. */
export function upper(column, value) {
  let low = 0, high = column.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (column[middle] <= value) low = middle + 1; else high = middle;
  }
  return low;
}

/** Unpacks the data that the page carries, see `_page.py`. All recordings begin at 0 of one axis. */
export function decode(data) {
  const model = { span: 0, error: 0, dropped: 0, titles: [], names: [], lanes: [], wakes: [], freezes: [] };
  for (const recording of data.recordings) add(model, recording);
  for (const lane of model.lanes) {
    lane.wokenAt = Float64Array.from(lane.wokenBy, (wake) => wake.at);
    // Which wake led to which run: needed only where one wakes in the name of another.
    if (lane.kind === "callback") lane.cause = new Map(lane.wokenBy.map((wake) => [wake.ran, wake]));
  }
  return model;
}

function add(model, data) {
  const number = model.titles.length, first = model.lanes.length, name = model.names.length;
  const lanes = data.lanes.map(([title, kind, thread, group, source], index) => ({
    index: first + index, recording: number, name: title, kind, thread: `${number}/${thread}`, group, source, marks: [], wokenBy: [], woke: [],
  }));
  fillSlices(lanes, data, name);
  model.lanes.push(...lanes);
  model.titles.push(data.title);
  for (const each of data.names) model.names.push(each);
  for (let i = 0, at = 0; i < data.wakes.length; i += 4) {
    at += data.wakes[i];
    const wake = { at, from: first + data.wakes[i + 1], to: first + data.wakes[i + 2], ran: at + data.wakes[i + 3] };
    model.lanes[wake.from].woke.push(wake);
    model.lanes[wake.to].wokenBy.push(wake);
    model.wakes.push(wake);
  }
  for (const [when, lane, text] of data.marks) lanes[lane].marks.push({ at: when, text });
  for (const [lane, start, end, text] of data.freezes) model.freezes.push({ lane: first + lane, start, end, ...parsed(text) });
  model.span = Math.max(model.span, data.about.span);
  model.error = Math.max(model.error, data.about.error);
  model.dropped += data.about.dropped;
}

function fillSlices(lanes, data, name) {
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
      lane.names[i] = name + data.slice_names[place];
      lane.states[i] = data.states[place];
      lane.totals[lane.states[i]] += data.lasts[place];
    }
    lane.first = count ? lane.starts[0] : Infinity;
    lane.last = count ? lane.ends[count - 1] : -Infinity;
  });
}

function parsed(text) {
  try { return JSON.parse(text); } catch { return { verdict: text, stack: [] }; }
}

/** The slice of a lane at a moment, or -1. */
export function sliceAt(lane, moment) {
  const i = upper(lane.starts, moment) - 1;
  return i >= 0 && lane.ends[i] > moment ? i : -1;
}

/** Whether a lane stands for something that awaits and is awaited. */
export function isTask(lane) { return lane.kind === "task" || lane.kind === "request"; }

/**
 * Who ended a wait of a lane that was over at `moment`: {at, from}. What callbacks do is put down to who had them
 * called, as those with which `gather` and task groups hear of the end of a task.
 */
export function wakerAt(model, lane, moment) {
  const place = upper(lane.wokenAt, moment + TOLERANCE) - 1;
  let found = place < 0 ? null : lane.wokenBy[place];
  for (let hops = 0; found && hops < HOPS_MAX; hops += 1) {
    const from = model.lanes[found.from];
    if (from.kind !== "callback") break;
    const cause = from.cause.get(from.starts[upper(from.starts, found.at) - 1]);
    // Who did not run at that moment set a timer: the wait was for that.
    if (!cause || !ranAt(model.lanes[cause.from], cause.at)) break;
    found = cause;
  }
  return found;
}

function ranAt(lane, moment) {
  const i = upper(lane.starts, moment + TOLERANCE) - 1;
  for (let back = i; back >= Math.max(0, i - 2); back -= 1) {
    if (lane.states[back] === RUN && lane.ends[back] + TOLERANCE >= moment) return true;
  }
  return false;
}

/** Who ran on the lane's thread in a stretch of time, longest first: [lane, nanoseconds]. */
export function ranMeanwhile(model, lane, from, to) {
  const found = new Map();
  for (const other of model.lanes) {
    if (other === lane || other.thread !== lane.thread || !(isTask(other) || other.kind === "callback")) continue;
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
