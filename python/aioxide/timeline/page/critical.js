// The critical path: where the time of a task or request went, and what was behind each wait. Its parts sum to the whole.
import { READY, RUN, WAIT, isTask, ranMeanwhile, upper, wakerAt } from "./model.js";

const DEPTH_MAX = 12, PARTS_MAX = 20000;

/**
 * The parts of a lane's time from `from` to `to`, in time: {from, to, root, what, lane}. `root` is what the lane itself
 * did then, `what` and `lane` what was behind that.
 */
export function criticalPath(model, lane, from = lane.first, to = lane.last) {
  const parts = [];
  follow({ model, parts, depth: 0, root: null }, lane, from, to);
  return parts.filter((part) => part.to > part.from);
}

function follow(path, lane, from, to) {
  let at = from;
  const tell = (start, end, what) => path.parts.push({ from: start, to: end, root: path.root || what, what, lane });
  for (let i = Math.max(0, upper(lane.starts, from) - 1); i < lane.starts.length && at < to; i += 1) {
    const start = Math.max(lane.starts[i], at), end = Math.min(lane.ends[i], to);
    if (end <= at) continue;
    if (start > at) tell(at, start, `${lane.name}: nothing recorded`);
    part(path, lane, i, start, end, tell);
    at = end;
  }
  if (at < to) tell(at, to, `${lane.name}: nothing recorded`);
}

function part(path, lane, i, from, to, tell) {
  const { model } = path, state = lane.states[i], name = model.names[lane.names[i]];
  if (state === RUN) { tell(from, to, `${lane.name} ran`); return; }
  if (state === READY) {
    const [busiest] = ranMeanwhile(model, lane, from, to);
    tell(from, to, busiest ? `ready while ${busiest[0].name} ran` : "ready, but not yet run");
    return;
  }
  const waker = state === WAIT ? wakerAt(model, lane, lane.ends[i]) : null;
  const other = waker && waker.at >= from ? model.lanes[waker.from] : null;
  // A task that ended the wait is what was waited for: its time is told instead, as far as it was there.
  if (!other || other === lane || !isTask(other) || path.depth >= DEPTH_MAX || path.parts.length > PARTS_MAX) { tell(from, to, name); return; }
  const since = Math.min(Math.max(other.first, from), to), until = Math.max(since, Math.min(waker.at, to));
  const inner = { ...path, depth: path.depth + 1, root: path.root || `${name}, ${behind(name)} ${other.name}` };
  const told = (start, end) => { if (end > start) path.parts.push({ from: start, to: end, root: inner.root, what: name, lane }); };
  told(from, since);
  follow(inner, other, since, until);
  told(until, to);
}

/** What a task that ended a wait is to it, by the wait's kind. */
function behind(name) {
  const kind = name.split(":")[0];
  return { lock: "held by", queue: "fed by", task: "on", tasks: "the last of them" }[kind] || "ended by";
}

/** What the parts sum to, longest first: {what, ns, inner}, where `inner` are the sums of what was behind a wait. */
export function summed(parts) {
  const roots = new Map();
  for (const { from, to, root, what } of parts) {
    if (!roots.has(root)) roots.set(root, { what: root, ns: 0, inner: new Map() });
    const sum = roots.get(root);
    sum.ns += to - from;
    sum.inner.set(what, (sum.inner.get(what) || 0) + to - from);
  }
  const longest = (a, b) => b.ns - a.ns;
  return [...roots.values()].sort(longest).map(({ what, ns, inner }) => ({
    what, ns, inner: [...inner].map(([each, sum]) => ({ what: each, ns: sum })).filter((each) => each.what !== what).sort(longest),
  }));
}
