// The lanes as a table: the same for those who do not see the picture, and for whoever looks for the longest.
import { duration } from "./model.js";
import { element, link } from "./story.js";

const ROWS_MAX = 2000;

/** Fills the table's body; `go` is called with a lane when its row's button is pressed. */
export function fillTable(body, model, go) {
  const lanes = [...model.lanes].sort((a, b) => b.totals[0] - a.totals[0]).slice(0, ROWS_MAX);
  body.replaceChildren(...lanes.map((lane) => {
    const row = element("tr"), head = element("th", model.titles.length > 1 ? `${model.titles[lane.recording]}: ` : "", link(lane, go));
    head.scope = "row";
    row.append(head, element("td", lane.kind), ...[0, 1, 2].map((state) => element("td", duration(lane.totals[state]))),
      element("td", `${lane.starts.length}`));
    return row;
  }));
}
