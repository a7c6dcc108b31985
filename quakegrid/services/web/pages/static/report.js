// Why a calculation waits, is slow or has failed, where its time went, and its parameters.

import { byId, element, megabytes, save, seconds } from "/static/common.js";
import { draw } from "/static/charts.js";

let jobId = 0;
let isShown = false;

/** Ask for the report of a calculation; whether it will change, as its session is still open. */
export async function showReport(job) {
  jobId = job.id;
  const response = await fetch(`/calculations/${jobId}/report.json`).catch(() => null);
  if (!response?.ok) return false;
  const report = await response.json();
  byId("reasons").replaceChildren(...report.sentences.map((text) => element("li", { text })));
  byId("reasons-box").hidden = report.sentences.length === 0;
  if (report.times) drawTimes(report);
  if (job.state === "failed") showTraceback();
  return report.is_open;
}

function drawTimes({ times, operations, retries, cores }) {
  byId("times-box").hidden = false;
  byId("to-tasks").href = `/calculations/${jobId}/tasks`;
  const share = (part) => `${seconds(part)}${times.core_s > 0 ? ` (${Math.round((100 * part) / times.core_s)} %)` : ""}`;
  const facts = [
    ["Session", seconds(times.wall_s)], ["Workers", String(times.worker_count)], ["Tasks", String(times.task_count)],
    ["Cores computed", share(times.used_s)], ["Cores waited", share(times.idle_s)], ["Sending", share(times.transfer_s)],
    ["Repeated work", times.retry_count ? share(times.lost_s) : ""], ["Most memory of a task", megabytes(times.peak_memory_bytes / 2 ** 20)],
  ].filter(([, value]) => value);
  byId("times").replaceChildren(...facts.map(([name, value]) => element("div", {}, element("dt", { text: name }), element("dd", { text: value }))));
  const rows = operations.map((each) => element("tr", {}, element("td", { text: each.operation }),
    ...[String(each.task_count), seconds(each.total_s), `${each.median_s.toFixed(2)} s`, `${each.max_s.toFixed(2)} s`, megabytes((each.in_bytes + each.out_bytes) / 2 ** 20)]
      .map((text) => element("td", { text, className: "number" }))));
  byId("operations").replaceChildren(...rows);
  byId("retries").replaceChildren(...retries.map((each) => element("li", { text: `${each.operation} on ${each.node} (${each.worker_id}): ${each.worker_reason || "the worker was lost"}` })));
  const steps = (found) => found.flatMap(([at, count], index) => (index ? [[at, found[index - 1][1]], [at, count]] : [[at, count]]));
  const series = [["held by the calculation", cores.held], ["busy", cores.busy]].map(([name, found]) => {
    const points = steps(found);
    return { name, x: points.map(([at]) => at), y: points.map(([, count]) => count) };
  });
  const isOpen = byId("cores-box").open;
  const picture = { shape: "lines", title: "Cores over time", note: "", x: { label: "Time", unit: "s", is_log: false }, y: { label: "Cores", unit: "", is_log: false }, series };
  if (isOpen) draw(byId("cores"), picture);
  byId("cores-box").ontoggle = () => { if (byId("cores-box").open) draw(byId("cores"), picture); };
}

/** The report as one file, with its pictures, for somebody who does not reach this service. */
async function saveReport() {
  byId("cores-box").open = true;
  await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done))); // until it is drawn
  const style = await (await fetch("/static/style.css")).text();
  const parts = ["title", "facts", "reasons-box", "stages-box", "times-box"].map((id) => byId(id).cloneNode(true));
  for (const part of parts) part.querySelectorAll("button").forEach((each) => each.remove());
  const page = document.implementation.createHTMLDocument(document.title);
  page.head.append(element("meta", { charset: "utf-8" }), element("style", { text: style }));
  page.body.append(element("main", {}, ...parts));
  save(new Blob([`<!doctype html>\n${page.documentElement.outerHTML}`], { type: "text/html" }), `calculation-${jobId}.html`);
}

byId("save-report").addEventListener("click", saveReport);

async function showTraceback() {
  const response = await fetch(`/v1/calc/${jobId}/traceback`).catch(() => null);
  const lines = response?.ok ? await response.json() : [];
  byId("traceback-box").hidden = lines.length === 0;
  byId("traceback").textContent = lines.join("\n");
}

/** Offer the parameters of a calculation that has a datastore. */
export function offerParameters(id) {
  jobId = id;
  if (isShown) return;
  isShown = true;
  byId("parameters-box").hidden = false;
  byId("parameters-box").addEventListener("toggle", showParameters, { once: true });
  byId("other").addEventListener("change", showParameters);
  byId("find-parameter").addEventListener("input", filter);
}

async function parametersOf(id) {
  const response = await fetch(`/calculations/${id}/parameters.json`).catch(() => null);
  return response?.ok ? response.json() : null;
}

async function showParameters() {
  const own = await parametersOf(jobId);
  const otherId = byId("other").value.trim();
  const other = otherId ? await parametersOf(otherId) : null;
  byId("parameter-words").textContent = !own ? "The parameters cannot be read." : otherId && !other ? `Calculation ${otherId} has none to compare with.` : "";
  const names = [...new Set([...Object.keys(own ?? {}), ...Object.keys(other ?? {})])].sort();
  const shown = other ? names.filter((name) => own[name] !== other[name]) : names;
  byId("other-head").textContent = other ? `Calculation ${otherId}` : "";
  byId("parameters").replaceChildren(...shown.map((name) => element("tr", {},
    element("th", { text: name, scope: "row" }), element("td", { text: own?.[name] ?? "" }), ...(other ? [element("td", { text: other[name] ?? "" })] : []))));
  filter();
}

function filter() {
  const text = byId("find-parameter").value.toLowerCase();
  for (const row of byId("parameters").children) row.hidden = !row.textContent.toLowerCase().includes(text);
}
