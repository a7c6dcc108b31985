// What differs between two calculations.

import { byId, counted, element, megabytes, moment, seconds, tell } from "/static/common.js";
import { number } from "/static/scales.js";

const [ownId, , otherId] = location.pathname.split("/").slice(2);
const TIMES = {
  wall_s: ["Session", seconds], core_s: ["Cores, together", seconds], used_s: ["Cores computed", seconds], idle_s: ["Cores waited", seconds],
  lost_s: ["Repeated work", seconds], worker_count: ["Workers", String], task_count: ["Tasks", String], retry_count: ["Repeated tasks", String],
  peak_memory_bytes: ["Most memory of a task", (bytes) => megabytes(bytes / 2 ** 20)],
};

const row = (name, ...cells) => element("tr", {}, element("th", { text: name, scope: "row" }), ...cells);
const texts = (values) => values.map((value) => element("td", { text: value === null ? "none" : String(value), className: value === null ? "soft" : "" }));

function drawFacts(calculations) {
  const took = (job) => (job.stop_s ? seconds(job.stop_s - job.start_s) : "");
  const facts = [
    ["Description", (job) => job.description], ["State", (job) => element("span", { text: job.state, className: `state ${job.state}` })], ["Mode", (job) => job.calculation_mode],
    ["User", (job) => job.user_name], ["Started", (job) => moment(job.start_s)], ["Took", took], ["Size", (job) => megabytes(job.size_mb)],
  ];
  byId("facts-of-both").replaceChildren(...facts.map(([name, of]) => row(name, ...calculations.map((job) => element("td", {}, of(job))))));
}

function resultRow(each) {
  const { name, size, count } = each;
  if (String(each.shapes[0]) !== String(each.shapes[1])) {
    const [one, other] = each.shapes.map((shape) => shape.join(" × ") || "1");
    return row(name, element("td", { text: `${one}, and ${other}`, colspan: "4" }));
  }
  const all = count < size ? `first ${number(count)} of ${number(size)}` : number(size);
  return row(name, ...[all, number(each.differing), number(each.largest), `${number(100 * each.largest_relative)} %`].map((text) => element("td", { text, className: "number" })));
}

function drawResults({ results, only, words, verdict }) {
  byId("result-table").hidden = true;
  byId("result-words").textContent = words ? `${words[0].toUpperCase()}${words.slice(1)}` : "";
  if (!results) return;
  const differing = results.filter((each) => each.is_same === false);
  const same = results.filter((each) => each.is_same);
  const missing = only.flatMap((names, at) => names.map((name) => row(name, element("td", { text: `only in calculation ${[ownId, otherId][at]}`, colspan: "4" }))));
  byId("result-rows").replaceChildren(...differing.map(resultRow), ...missing);
  byId("result-table").hidden = differing.length + missing.length === 0;
  byId("result-words").textContent = verdict;
  byId("same-box").hidden = same.length === 0;
  byId("same-words").textContent = `${counted(same.length, "result")} ${same.length === 1 ? "is" : "are"} the same`;
  byId("same").replaceChildren(...same.map((each) => element("li", { text: each.count < each.size ? `${each.name} (the first ${number(each.count)} numbers)` : each.name })));
}

function draw(found) {
  for (const [name, id] of [["one", ownId], ["other", otherId]]) {
    for (const head of document.getElementsByClassName(name)) head.replaceChildren(element("a", { text: `Calculation ${id}`, href: `/calculations/${id}` }));
  }
  drawFacts(found.calculations);
  drawResults(found);
  const parameters = found.parameters ?? [];
  byId("parameter-rows").replaceChildren(...parameters.map((each) => row(each.name, ...texts(each.values))));
  byId("parameter-table").hidden = parameters.length === 0;
  byId("parameter-words").hidden = found.parameters?.length !== 0;
  byId("inputs-box").hidden = !found.inputs?.length;
  byId("input-rows").replaceChildren(...(found.inputs ?? []).map((each) => row(each.name, ...texts(each.values))));
  byId("both-times-box").hidden = found.times.length === 0;
  byId("time-rows").replaceChildren(...found.times.map(({ name, values }) => {
    const [label, words] = TIMES[name];
    return row(label, ...values.map((value) => element("td", { text: value === null ? "not known" : words(value), className: "number" })));
  }));
  byId("found").hidden = false;
}

async function compare() {
  const response = await fetch(`${location.pathname}.json`).catch(() => null);
  const answer = response ? await response.json().catch(() => ({ error: `the service answered ${response.status}` })) : { error: "the web service does not answer" };
  byId("busy").hidden = true;
  tell("comparison", answer.error ? `They cannot be compared: ${answer.error}` : "");
  if (!answer.error) draw(answer);
}

byId("title").textContent = document.title = `Calculations ${ownId} and ${otherId}`;
compare();
