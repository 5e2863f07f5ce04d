// The critical path: where the time of a task or request went, and what was behind each wait. Its parts sum to the whole.
import { RUN, READY, WAIT, ranMeanwhile, upper, wakerAt } from "./model.js";

const DEPTH_MAX = 12;

/** The parts of a lane's time from `from` to `to`, in time: {from, to, what, lane}. */
export function criticalPath(model, lane, from = lane.first, to = lane.last) {
  const parts = [];
  follow(model, lane, from, to, 0, parts);
  return parts.filter((part) => part.to > part.from);
}

function follow(model, lane, from, to, depth, parts) {
  let at = from;
  for (let i = Math.max(0, upper(lane.starts, from) - 1); i < lane.starts.length && at < to; i += 1) {
    const start = Math.max(lane.starts[i], at), end = Math.min(lane.ends[i], to);
    if (end <= at) continue;
    if (start > at) parts.push({ from: at, to: start, what: `${lane.name}: nothing recorded`, lane });
    part(model, lane, i, start, end, depth, parts);
    at = end;
  }
  if (at < to) parts.push({ from: at, to, what: `${lane.name}: nothing recorded`, lane });
}

function part(model, lane, i, from, to, depth, parts) {
  const state = lane.states[i], name = model.names[lane.names[i]];
  if (state === RUN) {
    parts.push({ from, to, what: `${lane.name} ran`, lane });
  } else if (state === READY) {
    const [busiest] = ranMeanwhile(model, lane, from, to);
    parts.push({ from, to, what: busiest ? `ready while ${busiest[0].name} ran` : "ready, but not yet run", lane });
  } else {
    const waker = state === WAIT ? wakerAt(lane, lane.ends[i]) : null;
    const other = waker && waker.at >= from ? model.lanes[waker.from] : null;
    // A task that woke it is what it waited for: its time is told instead, as far as it was there.
    if (other && other !== lane && (other.kind === "task" || other.kind === "request") && depth < DEPTH_MAX) {
      const since = Math.min(Math.max(other.first, from), to);
      if (since > from) parts.push({ from, to: since, what: name, lane });
      const until = Math.min(waker.at, to);
      follow(model, other, since, Math.max(since, until), depth + 1, parts);
      if (to > until) parts.push({ from: Math.max(since, until), to, what: name, lane });
    } else {
      parts.push({ from, to, what: name, lane });
    }
  }
}

/** What the parts sum to, by what they are, longest first: [what, nanoseconds]. */
export function summed(parts) {
  const sums = new Map();
  for (const { from, to, what } of parts) sums.set(what, (sums.get(what) || 0) + to - from);
  return [...sums].sort((a, b) => b[1] - a[1]);
}
