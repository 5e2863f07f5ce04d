// Who awaited whom at a moment, and what each was doing.
import { RUN, READY, WAIT, duration, isTask, sliceAt, wakerAt } from "./model.js";
import { element, link } from "./story.js";

const ALIKE_MIN = 8, SHOWN_MAX = 400;

/** The tasks, requests and threads that were there at a moment: {lane, slice, children}, those that nobody awaited. */
export function treeAt(model, moment) {
  const nodes = new Map();
  for (const lane of model.lanes) {
    if (!(isTask(lane) || lane.kind === "thread") || lane.first > moment || lane.last < moment) continue;
    nodes.set(lane.index, { lane, slice: sliceAt(lane, moment), children: [], isAwaited: false });
  }
  for (const node of nodes.values()) {
    const { lane, slice } = node;
    if (slice < 0 || lane.states[slice] !== WAIT) continue;
    // Whom it awaited is known from who ended the wait.
    const waker = wakerAt(model, lane, lane.ends[slice]), other = waker && waker.at >= lane.starts[slice] ? nodes.get(waker.from) : null;
    if (!other || other === node) continue;
    node.children.push(other);
    other.isAwaited = true;
  }
  return rooted([...nodes.values()]);
}

/** Those that nobody awaits, and one of each ring of those that await each other. */
function rooted(nodes) {
  const roots = nodes.filter((node) => !node.isAwaited), reached = new Set();
  const reach = (start) => {
    for (const stack = [start]; stack.length;) {
      const node = stack.pop();
      if (!reached.has(node)) { reached.add(node); stack.push(...node.children); }
    }
  };
  roots.forEach(reach);
  for (const node of nodes) if (!reached.has(node)) { roots.push(node); reach(node); }
  return roots;
}

/** What a lane did at the moment, in words. */
function doing(model, { lane, slice }, moment) {
  if (slice < 0) return "nothing was recorded";
  const since = duration(moment - lane.starts[slice]), name = model.names[lane.names[slice]];
  if (lane.states[slice] === RUN) return `runs ${name}`;
  if (lane.states[slice] === READY) return `ready for ${since}`;
  return `waits ${since} for ${name}`;
}

/** The tree as elements; `go` is called with a lane when its name is clicked. */
export function treeElement(model, moment, go) {
  const shown = new Set();
  const list = (nodes) => {
    const made = element("ul"), alike = new Map();
    for (const node of nodes) {
      const key = node.children.length || node.slice < 0 || !node.lane.group ? node : `${node.lane.group}, ${model.names[node.lane.names[node.slice]]}`;
      if (!alike.has(key)) alike.set(key, []);
      alike.get(key).push(node);
    }
    for (const [key, members] of alike) {
      if (members.length < ALIKE_MIN) made.append(...members.map(item));
      else made.append(element("li", `${members.length} × ${key}`));
      if (shown.size > SHOWN_MAX) { made.append(element("li", "and more")); break; }
    }
    return made;
  };
  const item = (node) => {
    const made = element("li", "", link(node.lane, go), ` ${doing(model, node, moment)}`);
    if (node.children.length && shown.has(node)) made.append(", as above");
    else if (node.children.length) { shown.add(node); made.append(list(node.children)); }
    shown.add(node);
    return made;
  };
  const roots = treeAt(model, moment);
  return roots.length ? list(roots) : element("p", "No task was there at this moment.");
}
