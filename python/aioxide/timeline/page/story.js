// The story of a lane in words: what it is, what it waited for, who woke it, where its time went.
import { READY, RUN, STATES, WAIT, duration, isTask, ranMeanwhile, wakerAt } from "./model.js";
import { criticalPath, summed } from "./critical.js";

const EVENTS_MAX = 200, ROOTS_MAX = 30;

/** Makes an element with text and children. */
export function element(tag, text = "", ...children) {
  const made = document.createElement(tag);
  made.textContent = text;
  made.append(...children);
  return made;
}

/** The story of a lane as elements; `go` is called with a lane when its name is clicked. */
export function storyOf(model, lane, go) {
  const made = [element("h2", lane.name)];
  const creator = lane.wokenBy.length && lane.kind === "task" ? model.lanes[lane.wokenBy[0].from] : null;
  const facts = element("dl");
  const fact = (term, ...value) => facts.append(element("dt", term), element("dd", "", ...value));
  fact("kind", lane.kind);
  if (lane.source) fact("defined at", lane.source);
  if (creator) fact("first scheduled by", link(creator, go));
  fact("from, to", `${duration(lane.first)} – ${duration(lane.last)}`);
  STATES.forEach((state, i) => { if (lane.totals[i]) fact(state, duration(lane.totals[i])); });
  made.push(facts);
  for (const freeze of model.freezes.filter((each) => each.lane === lane.index)) made.push(freezeOf(freeze));
  if (isTask(lane)) made.push(pathOf(model, lane));
  made.push(eventsOf(model, lane, go));
  return made;
}

/** A freeze in words. */
export function freezeOf(freeze) {
  const box = element("section", "");
  box.className = "freeze";
  box.append(element("h3", `Froze the loop for ${duration(freeze.end - freeze.start)}`), element("p", freeze.verdict || freeze.cause || ""));
  if (freeze.stack && freeze.stack.length) {
    box.append(element("pre", freeze.stack.map(([file, line, name]) => `${name}  ${file}:${line}`).join("\n")));
  }
  return box;
}

/** A lane's name, by which its story is opened. */
export function link(lane, go) {
  const button = element("button", lane.name);
  button.className = "link";
  button.addEventListener("click", () => go(lane));
  return button;
}

function pathOf(model, lane) {
  const box = element("section"), parts = criticalPath(model, lane), whole = lane.last - lane.first;
  box.append(element("h3", `Where ${duration(whole)} went`));
  const list = element("ol");
  list.id = "critical";
  for (const { what, ns, inner } of summed(parts).slice(0, ROOTS_MAX)) {
    const item = element("li", `${duration(ns)}  ${what}`);
    if (inner.length) item.append(element("ul", "", ...inner.slice(0, ROOTS_MAX).map((each) => element("li", `${duration(each.ns)}  ${each.what}`))));
    list.append(item);
  }
  box.append(list);
  return box;
}

function eventsOf(model, lane, go) {
  const box = element("section"), list = element("ol");
  list.className = "events";
  box.append(element("h3", `What happened${lane.starts.length > EVENTS_MAX ? ` (the first ${EVENTS_MAX} of ${lane.starts.length})` : ""}`));
  for (let i = 0; i < Math.min(EVENTS_MAX, lane.starts.length); i += 1) {
    const item = element("li", `${duration(lane.starts[i])}: `), took = duration(lane.ends[i] - lane.starts[i]);
    const name = model.names[lane.names[i]];
    if (lane.states[i] === RUN) item.append(`ran ${took} (${name})`);
    else if (lane.states[i] === READY) {
      const [busiest] = ranMeanwhile(model, lane, lane.starts[i], lane.ends[i]);
      item.append(`ready for ${took}`);
      if (busiest) item.append(" while ", link(busiest[0], go), " ran");
    } else {
      item.append(`waited ${took} for ${name}`);
      const waker = lane.states[i] === WAIT ? wakerAt(model, lane, lane.ends[i]) : null;
      if (waker && waker.at >= lane.starts[i]) item.append(", woken by ", link(model.lanes[waker.from], go));
    }
    list.append(item);
  }
  box.append(list);
  return box;
}
