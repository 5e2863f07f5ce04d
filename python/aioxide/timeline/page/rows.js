// Which lanes are drawn in which row. Tasks of one coroutine that are many share a row until they are unfolded.
const GROUP_MIN = 12;
const ORDER = ["lock", "cpu", "loop", "callback", "request", "task", "thread"];

/** The rows of a model: {kind: "lane" | "group" | "heading", lane | lanes, name, open}. */
export function layOut(model, unfolded, filter) {
  const wanted = filter.trim().toLowerCase();
  const matches = (lane) => !wanted || `${lane.name} ${lane.source}`.toLowerCase().includes(wanted);
  const threads = [...new Set(model.lanes.map((lane) => lane.thread))];
  const rows = [];
  let recording = model.titles.length > 1 ? -1 : 0;
  for (const thread of threads) {
    const mine = Number(thread.split("/")[0]);
    if (mine !== recording) rows.push({ kind: "heading", name: model.titles[recording = mine] });
    for (const kind of ORDER) {
      const lanes = model.lanes.filter((lane) => lane.thread === thread && lane.kind === kind && matches(lane)
        && (lane.starts.length || lane.marks.length));
      const groups = new Map();
      for (const lane of lanes) {
        const key = kind === "task" || kind === "request" ? lane.group || lane.name.split(" ")[0] : `${lane.index}`;
        if (!groups.has(key)) groups.set(key, []);
        groups.get(key).push(lane);
      }
      for (const [name, members] of groups) addGroup(rows, name, members, unfolded, thread);
    }
  }
  return rows;
}

function addGroup(rows, name, members, unfolded, thread) {
  if (members.length < GROUP_MIN) {
    for (const lane of members) rows.push({ kind: "lane", lane, name: lane.name });
    return;
  }
  const key = `${thread}/${name}`, open = unfolded.has(key);
  rows.push({ kind: "group", key, lanes: members, name: `${open ? "▾" : "▸"} ${members.length} × ${name}`, open });
  if (open) for (const lane of members) rows.push({ kind: "lane", lane, name: lane.name, inner: true });
}
