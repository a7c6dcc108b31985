// Where the time went: what each worker did when, as it comes; a part of the time after a zoom.

import { byId, counted, element, follow, megabytes, save, seconds, tell } from "/static/common.js";
import { draw } from "/static/charts.js";
import { ENDS, drawStream, shortSeconds } from "/static/task-stream.js";

const jobId = Number(location.pathname.split("/").at(-2));
const MOST_ROWS = 500;
let shown = null; // what is drawn
let zoomed = null; // [from, to] in seconds, or null for all
let asked = 0;

/** Ask for what is to be seen now, and draw it. */
async function load() {
  asked += 1;
  const mine = asked;
  const query = zoomed ? `?from=${zoomed[0]}&to=${zoomed[1]}` : "";
  const response = await fetch(`/calculations/${jobId}/tasks.json${query}`).catch(() => null);
  const answer = await response?.json().catch(() => ({ error: `the service answered ${response.status}` }));
  if (mine !== asked) return; // something else was asked for meanwhile
  const reason = !response ? "the web service does not answer" : response.ok ? "" : answer.error;
  tell("tasks", reason ? `The tasks cannot be shown: ${reason}` : "");
  if (!reason) drawAll(answer);
}

function drawAll(found) {
  shown = found;
  const { counts } = found;
  byId("none").hidden = counts.attempts > 0 || zoomed !== null;
  byId("stream-box").hidden = counts.attempts === 0 && zoomed === null;
  byId("cores-box").hidden = byId("operations-box").hidden = byId("stream-box").hidden;
  const part = zoomed ? `${shortSeconds(found.from_s)} to ${shortSeconds(found.to_s)} of ${shortSeconds(found.end_s)}` : "";
  facts([["State", found.is_over ? "ended" : "runs"], ["Session", seconds(found.end_s)], ["Shown", part], ["Tasks", String(counts.done)],
    ["Lost and run again", counts.lost ? String(counts.lost) : ""], ["Not wanted any more", counts.dropped ? String(counts.dropped) : ""],
    ["Not recorded", counts.omitted ? String(counts.omitted) : ""], ["Workers", String(counts.workers)]]);
  byId("stream-words").textContent = found.bars ? `${counted(found.bars.length, "task")}, a bar for each.`
    : `${counted(counts.attempts, "task")}: each cell has the colour of the operation that took most of its time, stronger where workers were busy. Zoom in for a bar for each.`;
  byId("legend").replaceChildren(...found.colours.map((name, colour) => element("li", { className: `line-${colour}` }, element("span", { className: "core busy" }), ` ${name}`)));
  drawStream(byId("stream"), found, (text) => { byId("pointed").textContent = text; }, move);
  drawCores(found);
  drawTables(found);
}

function facts(found) {
  byId("facts").replaceChildren(...found.filter(([, value]) => value).map(([name, value]) => element("div", {}, element("dt", { text: name }), element("dd", { text: value }))));
}

function drawCores({ busy, held, column_s: width, from_s: from }) {
  const series = [["held by the calculation", held], ["busy", busy]].map(([name, found]) => ({
    name,
    x: found.flatMap((_, at) => [from + at * width, from + (at + 1) * width]),
    y: found.flatMap((count) => [count, count]),
  }));
  draw(byId("cores"), { shape: "lines", title: "Cores over time", note: "", x: { label: "Time", unit: "s", is_log: false }, y: { label: "Cores", unit: "", is_log: false }, series });
}

const cells = (texts) => texts.map((text) => element("td", { text, className: "number" }));

function drawTables({ operations, stragglers, retries, bars, rows, colours }) {
  byId("operations").replaceChildren(...operations.filter((each) => each.task_count || each.lost_count).map((each) => element("tr", {}, element("td", { text: each.name }),
    ...cells([String(each.task_count), each.lost_count ? String(each.lost_count) : "", seconds(each.total_s), shortSeconds(each.median_s), shortSeconds(each.max_s),
      each.peak_memory_bytes ? megabytes(each.peak_memory_bytes / 2 ** 20) : "", megabytes(each.bytes / 2 ** 20)]))));
  list("stragglers", stragglers.map((each) => `${each.operation}, task ${each.task_id} on ${each.node} (${each.worker_id}): ${shortSeconds(each.duration_s)}; half of these tasks take less than ${shortSeconds(each.median_s)}`));
  list("retries", retries.map((each) => `${each.operation}, task ${each.task_id}, at ${shortSeconds(each.at_s)} on ${each.node} (${each.worker_id}): ${each.reason || "its worker was lost"}`));
  byId("table-box").hidden = !bars;
  if (!bars) return;
  const sorted = [...bars].sort((one, other) => one[1] - other[1]).slice(0, MOST_ROWS);
  byId("table-words").textContent = bars.length > MOST_ROWS ? `The first ${MOST_ROWS} of ${bars.length}; zoom in for others.` : "";
  byId("bars").replaceChildren(...sorted.map(([row, begin, end, colour, how, task]) => element("tr", {},
    element("td", { text: `${rows[row].nodes.join(", ")} ${rows[row].worker_id}` }), element("td", { text: colours[colour] ?? "others" }), ...cells([String(task), shortSeconds(begin), shortSeconds(end - begin)]), element("td", { text: ENDS[how] ?? "" }))));
}

function list(name, texts) {
  byId(`${name}-box`).hidden = texts.length === 0;
  byId(name).replaceChildren(...texts.map((text) => element("li", { text })));
}

/** Look at another part of the time: `by` moves by parts of it, `factor` makes it longer or shorter around `at`. */
function move({ by = 0, factor = 1, at = null, window = null, all = false }) {
  if (!shown) return;
  const [from, to] = [shown.from_s, shown.to_s];
  const width = Math.max((to - from) * factor, 0.001);
  const middle = at ?? (from + to) / 2 + by * (to - from);
  const share = at === null ? 0.5 : (at - from) / (to - from);
  let begin = window ? window[0] : middle - width * share;
  let end = window ? window[1] : begin + width;
  if (all || end - begin >= shown.end_s) zoomed = null;
  else {
    if (begin < 0) [begin, end] = [0, end - begin];
    if (end > shown.end_s) [begin, end] = [Math.max(0, begin - (end - shown.end_s)), shown.end_s];
    if (end - begin < 0.001) return;
    zoomed = [Number(begin.toFixed(4)), Number(end.toFixed(4))];
  }
  history.replaceState(null, "", zoomed ? `#from=${zoomed[0]}&to=${zoomed[1]}` : location.pathname);
  load();
}

function readAddress() {
  const given = new URLSearchParams(location.hash.slice(1));
  const [from, to] = [Number(given.get("from") ?? NaN), Number(given.get("to") ?? NaN)];
  zoomed = from >= 0 && to > from ? [from, to] : null;
}

/** The page as one file, with its pictures, for somebody who does not reach this service. */
async function saveAll() {
  const style = await (await fetch("/static/style.css")).text();
  const parts = ["title", "facts", "stream-box", "cores-box", "operations-box", "stragglers-box", "retries-box"].map((id) => byId(id).cloneNode(true));
  for (const part of parts) part.querySelectorAll("button, #pointed, #zoom").forEach((each) => each.remove());
  const page = document.implementation.createHTMLDocument(document.title);
  page.head.append(element("meta", { charset: "utf-8" }), element("style", { text: style }));
  page.body.append(element("main", {}, ...parts));
  save(new Blob([`<!doctype html>\n${page.documentElement.outerHTML}`], { type: "text/html" }), `calculation-${jobId}-tasks.html`);
}

byId("title").textContent = `Where the time of calculation ${jobId} went`;
document.title = `Tasks of ${jobId} - QuakeGrid`;
byId("back").href = `/calculations/${jobId}`;
byId("back").textContent = `Calculation ${jobId}`;
for (const [id, change] of Object.entries({ "zoom-in": { factor: 0.5 }, "zoom-out": { factor: 2 }, earlier: { by: -0.5 }, later: { by: 0.5 }, all: { all: true } }))
  byId(id).addEventListener("click", () => move(change));
byId("save").addEventListener("click", saveAll);
addEventListener("hashchange", () => { readAddress(); load(); });
readAddress();
const known = await fetch(`/v1/calc/${jobId}/status`).catch(() => null);
if (known?.status === 404) byId("title").textContent = `There is no calculation ${jobId}.`;
else {
  follow(`/live/tasks/${jobId}`, {
    tasks: ({ is_over: isOver }, source) => {
      if (!zoomed || !shown) load(); // a part of the past does not change
      if (isOver) source.close();
    },
  });
}
