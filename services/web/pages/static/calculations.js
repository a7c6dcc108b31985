import { byId, element, follow, megabytes, moment, progress, seconds, tell } from "/static/common.js";

const jobs = new Map();
let sessions = new Map();

function took(job) {
  if (job.stop_s) return seconds(job.stop_s - job.start_s);
  return job.is_running ? seconds(Date.now() / 1000 - job.start_s) : "";
}

function row(job) {
  const session = sessions.get(job.id);
  const state = element("td", { text: job.state, className: `state ${job.state}` });
  if (job.state_reason) state.title = job.state_reason;
  return element(
    "tr", {},
    element("td", {}, element("a", { text: String(job.id), href: `/calculations/${job.id}` })),
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
  return words.includes(text) && (!state || job.state === state);
}

function draw() {
  const wanted = [...jobs.values()].filter(isWanted).sort((one, other) => other.id - one.id);
  byId("jobs").replaceChildren(...wanted.map(row));
  byId("none").hidden = wanted.length > 0;
}

const connected = (isConnected) =>
  tell("dbserver", isConnected ? "" : "The dbserver does not answer; the list is as it was last.");

follow("/live/jobs", {
  jobs: (data) => {
    jobs.clear();
    for (const job of data.jobs) jobs.set(job.id, job);
    connected(data.is_connected);
    draw();
  },
  job: (job) => { jobs.set(job.id, job); draw(); },
  gone: (job) => { jobs.delete(job.id); draw(); },
  connection: (data) => connected(data.is_connected),
});
follow("/live/fleet", {
  fleet: (fleet) => {
    sessions = new Map(fleet.sessions.flatMap((session) => session.job_ids.map((id) => [id, session])));
    draw();
  },
});
byId("find").addEventListener("input", draw);
byId("state").addEventListener("input", draw);
setInterval(draw, 1000);
