import { byId, element, follow, jobOfRow, megabytes, moment, progress, seconds, tell } from "/static/common.js";
import { showActions } from "/static/actions.js";
import { showPictures } from "/static/pictures.js";
import { offerParameters, showReport } from "/static/report.js";
import { drawStages, endStages, takeLines, takeStages } from "/static/stages.js";

const jobId = Number(location.pathname.split("/").at(-1));
const LEVELS = { DEBUG: 0, INFO: 1, WARNING: 2, ERROR: 3, CRITICAL: 3 };
const MOST_LINES = 5000;
const REPORT_MS = 10_000;
const LAST_REPORT_MS = 1000;
let job = null;
let session = null;

function drawFacts() {
  if (!job) return;
  byId("title").textContent = `Calculation ${job.id}: ${job.description}`;
  document.title = `${job.id} ${job.state} - QuakeGrid`;
  const facts = [
    ["State", element("span", { text: job.state, className: `state ${job.state}` })],
    ["Why", job.state_reason],
    ["Tasks", session ? progress(session) : ""],
    ["Workers", session ? `${session.busy_worker_count} of ${session.worker_count} at work` : ""],
    ["Mode", job.calculation_mode],
    ["User", job.user_name],
    ["Started", moment(job.start_s)],
    ["Took", job.stop_s || job.is_running ? seconds((job.stop_s ?? Date.now() / 1000) - job.start_s) : ""],
    ["Starts from", job.hazard_calculation_id ? element("a", { text: String(job.hazard_calculation_id), href: `/calculations/${job.hazard_calculation_id}` }) : ""],
    ["Size", megabytes(job.size_mb)],
    ["Node", job.host],
  ].filter(([, value]) => value !== "" && value !== null);
  byId("facts").replaceChildren(...facts.map(([name, value]) =>
    element("div", { className: name === "Why" ? "wide" : "" }, element("dt", { text: name }), element("dd", {}, value))));
  byId("abort").hidden = !job.is_running;
  showActions(job);
}

function isWanted(line) {
  const text = byId("find").value.toLowerCase();
  return LEVELS[line.dataset.level] >= Number(byId("level").value) && line.textContent.toLowerCase().includes(text);
}

function addLines(lines) {
  takeLines(lines);
  const box = byId("log");
  const made = lines.map(([time, level, , message]) => {
    const line = element("div", { text: `${time.slice(11, 19)} ${message}`, className: level });
    line.dataset.level = level;
    line.hidden = !isWanted(line);
    return line;
  });
  box.append(...made);
  while (box.childElementCount > MOST_LINES) box.firstElementChild.remove();
  if (byId("follow").checked) box.scrollTop = box.scrollHeight;
}

function filter() {
  for (const line of byId("log").children) line.hidden = !isWanted(line);
}

async function findJob() {
  const response = await fetch(`/v1/calc/${jobId}/status`);
  if (!response.ok) {
    byId("title").textContent = response.status === 404 ? `There is no calculation ${jobId}.` : "This did not work.";
    return;
  }
  const row = await response.json();
  job ??= jobOfRow(row);
  take(job);
}

function take(found) {
  if (found.id !== jobId) return;
  const isNew = job?.state !== found.state || !reported;
  job = found;
  drawFacts();
  if (isNew) tellReport();
  if (!job.is_running) endStages(job.state);
  if (["complete", "shared"].includes(job.state)) {
    drawOutputs();
    offerParameters(jobId);
  }
}

let reported = 0;
let changes = false;

/** Ask for the report at each change of state, and now and then while it runs. */
async function tellReport() {
  reported = Date.now();
  changes = await showReport(job);
}

function outputRow(output) {
  const links = output.outtypes.map((kind) =>
    element("a", { text: kind, href: `/v1/calc/result/${output.id}?export_type=${kind}`, download: "" }));
  return element(
    "tr", {},
    element("td", { text: output.name }),
    element("td", { text: megabytes(output.size_mb), className: "number" }),
    element("td", {}, ...links),
  );
}

async function drawOutputs() {
  if (!byId("results").hidden) return;
  byId("results").hidden = false;
  const response = await fetch(`/v1/calc/${jobId}/results`);
  const answer = await response.json().catch(() => ({ error: `the service answered ${response.status}` }));
  if (!response.ok) {
    tell("outputs", response.status === 404 ? "" : `The outputs cannot be listed: ${answer.error}`);
    byId("results").hidden = true;
    return;
  }
  tell("outputs", "");
  showPictures(jobId);
  const whole = element("tr", {}, element("td", { text: "Datastore" }), element("td", { text: megabytes(job.size_mb), className: "number" }),
    element("td", {}, element("a", { text: "hdf5", href: `/v1/calc/${jobId}/datastore`, download: "" })));
  byId("outputs").replaceChildren(...answer.map(outputRow), whole);
}

follow("/live/jobs", {
  jobs: (data) => {
    const found = data.jobs.find((each) => each.id === jobId);
    if (found) take(found);
    else if (data.is_connected) findJob();
  },
  job: take,
});
follow("/live/fleet", {
  fleet: (fleet) => {
    session = fleet.sessions.find((each) => each.job_ids.includes(jobId)) ?? null;
    // The engine names no calculation where it reads a model.
    const isAlone = session?.job_ids.length === 1;
    takeStages(session?.stages.filter((each) => each.job_id === jobId || (isAlone && each.job_id === 0)) ?? []);
    drawFacts();
  },
});
follow(`/live/log/${jobId}`, {
  lines: addLines,
  end: (data, source) => { source.close(); tell("log", ""); },
  broken: () => tell("log", "The log broke off; it goes on when the dbserver answers."),
});
byId("find").addEventListener("input", filter);
byId("level").addEventListener("input", filter);
byId("abort").addEventListener("click", async () => {
  if (!confirm(`Abort calculation ${jobId}? What it has computed is lost.`)) return;
  const response = await fetch(`/v1/calc/${jobId}/abort`, { method: "POST" });
  const answer = await response.json().catch(() => ({ error: `the service answered ${response.status}` }));
  tell("abort", answer.error ? `It was not aborted: ${answer.error}` : "");
});
setInterval(() => {
  if (!job?.is_running) {
    if (changes && Date.now() - reported > LAST_REPORT_MS) tellReport(); // the session ends after its job
    return;
  }
  drawFacts();
  drawStages();
  if (Date.now() - reported > REPORT_MS) tellReport();
}, 1000);
