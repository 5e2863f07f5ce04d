// Slow motion: a moment that moves through the picture, by itself or from event to event.
import { upper } from "./model.js";

const STEP_MAX_MS = 100;

/** The next or previous moment at which one of `lanes` began or ended something. */
export function nextEvent(lanes, moment, forward) {
  let best = forward ? Infinity : -Infinity;
  for (const lane of lanes) {
    for (const column of [lane.starts, lane.ends]) {
      if (forward) {
        const i = upper(column, moment);
        if (i < column.length) best = Math.min(best, column[i]);
      } else {
        let i = upper(column, moment) - 1;
        while (i >= 0 && column[i] >= moment) i -= 1;
        if (i >= 0) best = Math.max(best, column[i]);
      }
    }
  }
  return Number.isFinite(best) ? best : null;
}

/**
 * Moves `view.moment`. `hooks` are span() (the last moment), lasts() (milliseconds for what is shown), moved() (the
 * moment is another) and changed() (it plays, or plays no more).
 */
export function player(view, hooks) {
  let before = null;
  const frame = (now) => {
    if (before === null) return;
    const passed = Math.min(now - before, STEP_MAX_MS);
    before = now;
    view.moment += (passed / hooks.lasts()) * (view.to - view.from);
    if (view.moment >= hooks.span()) { view.moment = hooks.span(); stop(); }
    hooks.moved();
    if (before !== null) requestAnimationFrame(() => frame(performance.now()));
  };
  const stop = () => { before = null; hooks.changed(); };
  const start = () => {
    if (view.moment === null || view.moment >= hooks.span()) view.moment = Math.max(0, view.from);
    before = performance.now();
    hooks.changed();
    requestAnimationFrame(() => frame(performance.now()));
  };
  return { isPlaying: () => before !== null, toggle: () => (before === null ? start() : stop()), stop };
}
