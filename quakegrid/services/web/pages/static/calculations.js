import { byId, element, follow, jobOfRow, megabytes, moment, progress, seconds, tell } from "/static/common.js";

const jobs = new Map();
const older = new Map(); // those that are not followed any more, as they were when they were asked for
const PAGE = 200;
const chosen = new Set(); // ids of those that are to be compared: two
let sessions = new Map();
let tagged = null; // ids of those with the chosen tag, or null for all

function took(job) {
  if (job.stop_s) return seconds(job.stop_s - job.start_s);
  return job.is_running ? seconds(Date.now() / 1000 - job.start_s) : "";
}

function row(job) {
  const session = sessions.get(job.id);
  const state = element("td", { text: job.state, className: `state ${job.state}` });
  if (job.state_reason) state.title = job.state_reason;
  const box = element("input", { type: "checkbox", "aria-label": `Compare calculation ${job.id}`, "data-key": `box ${job.id}` });
  box.checked = chosen.has(job.id);
  box.addEventListener("change", () => choose(job.id, box.checked));
  return element(
    "tr", {},
    element("td", {}, box),
    element("td", {}, element("a", { text: String(job.id), href: `/calculations/${job.id}`, "data-key": `link ${job.id}` })),
    state,
    element("td", {}, ...(session ? [progress(session)] : [])),
    element("td", { text: job.description }),
    element("td", { text: job.calculation_mode }),
    element("td", { text: job.user_name }),
    element("td", { text: moment(job.start_s) }),
    element("td", { text: took(job), className: "number" }),
    element("td", { text: megabytes(job.size_mb), className: "number" }),
  );
}

function isWanted(job) {
  const text = byId("find").value.toLowerCase();
  const state = byId("state").value;
  const words = `${job.id} ${job.description} ${job.user_name} ${job.calculation_mode}`.toLowerCase();
  return words.includes(text) && (!state || job.state === state) && (!tagged || tagged.has(job.id));
}

function draw() {
  const wanted = [...new Map([...older, ...jobs]).values()].filter(isWanted).sort((one, other) => other.id - one.id);
  const focused = document.activeElement?.dataset.key;
  byId("jobs").replaceChildren(...wanted.map(row));
  if (focused) byId("jobs").querySelector(`[data-key="${focused}"]`)?.focus({ preventScroll: true });
  byId("none").hidden = wanted.length > 0;
}

/** Choose a calculation to be compared, or not; of three the one that was chosen first is let go. */
function choose(id, isChosen) {
  if (isChosen) chosen.add(id);
  else chosen.delete(id);
  if (chosen.size > 2) chosen.delete(chosen.values().next().value);
  const [one, other] = [...chosen].sort((first, second) => first - second);
  byId("compare").hidden = chosen.size < 2;
  byId("compare").textContent = `Compare ${one} and ${other}`;
  byId("compare").href = `/calculations/${one}/compare/${other}`;
  byId("compare-words").textContent = chosen.size === 1 ? "Choose another one to compare it with." : "";
  draw();
}

const connected = (isConnected) =>
  tell("dbserver", isConnected ? "" : "The dbserver does not answer; the list is as it was last.");

follow("/live/jobs", {
  jobs: (data) => {
    jobs.clear();
    for (const job of data.jobs) jobs.set(job.id, job);
    byId("older").hidden = jobs.size < PAGE;
    connected(data.is_connected);
    draw();
  },
  job: (job) => { jobs.set(job.id, job); draw(); },
  gone: (job) => { jobs.delete(job.id); older.delete(job.id); draw(); },
  connection: (data) => connected(data.is_connected),
});
follow("/live/fleet", {
  fleet: (fleet) => {
    sessions = new Map(fleet.sessions.flatMap((session) => session.job_ids.map((id) => [id, session])));
    draw();
  },
});
async function rows(query) {
  const response = await fetch(`/v1/calc/list?${query}`).catch(() => null);
  tell("list", response?.ok ? "" : "The dbserver does not answer; try again.");
  return response?.ok ? response.json() : null;
}

async function showOlder() {
  const found = await rows(`limit=${PAGE}&offset=${jobs.size + older.size}`);
  if (!found) return;
  for (const row of found) older.set(row.id, jobOfRow(row));
  byId("older").hidden = found.length < PAGE;
  draw();
}

async function chooseTag() {
  const tag = byId("tag").value;
  const found = tag ? await rows(`limit=1000&filter_by_tag=${encodeURIComponent(tag)}`) : null;
  if (tag !== byId("tag").value) return; // another one was chosen meanwhile
  tagged = found && new Set(found.map((row) => row.id));
  for (const row of found ?? []) if (!jobs.has(row.id)) older.set(row.id, jobOfRow(row));
  draw();
}

async function listTags() {
  const answer = await fetch("/v1/calc/list_tags").then((response) => response.json()).catch(() => null);
  const chosen = byId("tag").value;
  byId("tag").replaceChildren(element("option", { value: "", text: "any" }), ...(answer?.tags ?? []).map((tag) => element("option", { text: tag })));
  byId("tag").value = chosen;
}

byId("older").addEventListener("click", showOlder);
byId("tag").addEventListener("input", chooseTag);
listTags();
byId("find").addEventListener("input", draw);
byId("state").addEventListener("input", draw);
setInterval(draw, 1000);
