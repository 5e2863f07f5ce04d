// Time and place. A pane's own axis maps nanoseconds to the share of the whole picture (0 to 1), evenly or with
// its folds; the view says which part of that is on the screen.

const FOLD_SHARE = 0.07;

/** What is on the screen of all panes that share it; `longest` is the longest pane's time. */
class View {
  constructor(longest, folded) {
    this.from = 0;
    this.to = 1;
    this.longest = longest;
    this.folded = folded;
  }

  /** The smallest window that may be shown: a few microseconds of true time. */
  get smallest() {
    return this.folded ? 1e-4 : Math.min(1, 4000 / this.longest);
  }

  get size() {
    return this.to - this.from;
  }

  show(from, to) {
    const size = Math.min(1, Math.max(this.smallest, to - from));
    this.from = Math.min(Math.max(0, from), 1 - size);
    this.to = this.from + size;
  }

  zoom(around, factor) {
    const size = Math.min(1, Math.max(this.smallest, this.size * factor));
    const begin = around - ((around - this.from) / this.size) * size;
    this.show(begin, begin + size);
  }

  move(share) {
    this.show(this.from + share, this.to + share);
  }
}

/** Nanoseconds to share, for one pane, in its view's mode. */
class PaneAxis {
  constructor(view, span, folds) {
    this.view = view;
    this.span = span;
    this.folds = folds;
    const folded = folds.reduce((sum, [start, end]) => sum + end - start, 0);
    this.scale = (1 - FOLD_SHARE * folds.length) / Math.max(1, span - folded);
  }

  share(time) {
    if (!this.view.folded) return time / this.view.longest;
    let share = 0;
    let shown = 0;
    for (const [start, end] of this.folds) {
      if (time <= start) break;
      share += (start - shown) * this.scale;
      if (time <= end) return share + ((time - start) / (end - start)) * FOLD_SHARE;
      share += FOLD_SHARE;
      shown = end;
    }
    return share + (time - shown) * this.scale;
  }

  time(share) {
    if (!this.view.folded) return share * this.view.longest;
    let at = 0;
    let shown = 0;
    for (const [start, end] of this.folds) {
      const begin = at + (start - shown) * this.scale;
      if (share <= begin) break;
      if (share <= begin + FOLD_SHARE) return start + ((share - begin) / FOLD_SHARE) * (end - start);
      at = begin + FOLD_SHARE;
      shown = end;
    }
    return shown + (share - at) / this.scale;
  }
}

/** A round step – 1, 2 or 5 times a power of ten – that gives at most so many ticks. */
function tickStep(span, atMost) {
  const wanted = Math.max(1, span / Math.max(1, atMost));
  const power = 10 ** Math.floor(Math.log10(wanted));
  for (const factor of [1, 2, 5, 10]) if (power * factor >= wanted) return power * factor;
  return power * 10;
}

/** Nanoseconds for people: three digits and the unit that suits. */
function duration(time, digits = 3) {
  if (time === 0) return "0";
  const size = Math.abs(time);
  const [unit, scale] = size >= 0.9995e9 ? ["s", 1e9] : size >= 0.9995e6 ? ["ms", 1e6] : size >= 999.5 ? ["µs", 1e3] : ["ns", 1];
  const value = time / scale;
  const places = Math.max(0, digits - 1 - Math.floor(Math.log10(Math.max(1, Math.abs(value)))));
  return `${Number(value.toFixed(places))} ${unit}`;
}

/** A moment for people, as exact as the window's size makes sensible. */
function moment(time, window) {
  if (time === 0) return "0";
  const [unit, scale] = time >= 1e9 ? ["s", 1e9] : time >= 1e6 || window >= 1e6 ? ["ms", 1e6] : ["µs", 1e3];
  const places = Math.min(6, Math.max(0, Math.ceil(-Math.log10(window / scale / 200))));
  return `${(time / scale).toFixed(places)} ${unit}`;
}
