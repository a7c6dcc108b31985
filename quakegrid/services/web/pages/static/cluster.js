import { byId, counted, element, follow, gigabytes, progress, tell } from "/static/common.js";
import { showEvents } from "/static/events.js";

const MOST_CORES = 256;
const COLOURS = 8;
const boxes = new Map();
let mayOperate = false;
let sessions = new Map();

const colourOf = (sessionId) => `line-${Number(sessionId) % COLOURS}`;

/** What a session is for people: its calculations, or its number. */
const called = (session) => (session.job_ids.length ? `calculation ${session.job_ids.join(", ")}` : `session ${session.session_id}${session.is_of_others ? " of somebody else" : ""}`);

/** A square for each core: those with a worker in the colour of its session, paler where it does not work. */
function cores(node) {
  const owners = Object.entries(node.shares ?? {}).flatMap(([id, count]) => Array(count).fill(id));
  return Array.from({ length: Math.min(node.core_count, MOST_CORES) }, (_, index) => {
    const owner = owners[index];
    const state = owner === undefined ? "" : index < node.running_count ? ` busy ${colourOf(owner)}` : ` has-worker ${colourOf(owner)}`;
    return element("span", { className: `core${state}` });
  });
}

function coreWords(node) {
  if (!node.is_up) return "not there";
  const shares = Object.entries(node.shares ?? {}).map(([id, count]) => `${counted(count, "worker")} of ${sessions.has(Number(id)) ? called(sessions.get(Number(id))) : `session ${id}`}`);
  return `${node.running_count} of ${counted(node.core_count, "core")} at work${shares.length ? `; ${shares.join(", ")}` : ""}`;
}

function memory(node) {
  const sample = node.sample;
  if (!sample?.memory_total_bytes) return [];
  const { memory_used_bytes: used, memory_total_bytes: total, soft_percent: soft, hard_percent: hard } = sample;
  const words = `${gigabytes(used)} of ${gigabytes(total)}; no new tasks from ${Math.round(soft)} % on, workers end above ${Math.round(hard)} %`;
  const meter = element("meter", { min: "0", max: String(total), value: String(used), high: String((total * soft) / 100), optimum: "0", "aria-label": `Memory of ${node.node || node.host}`, title: words });
  return [meter, element("div", { text: `Memory ${words}`, className: node.is_short_of_memory ? "failed" : "soft" }), element("div", { text: `Load ${sample.load_average.toFixed(1)}`, className: "soft" })];
}

/** A box whose parts are changed in place, so that who uses a button with the keyboard stays there. */
function newBox(host) {
  const parts = Object.fromEntries(["title", "cores", "words", "memory", "state", "versions", "left"].map((name) => [name, element(name === "title" ? "h2" : "div", { className: ["state", "versions"].includes(name) ? "soft" : "" })]));
  parts.cores.className = "cores";
  parts.cores.setAttribute("role", "img");
  const tools = element("div", { className: "tools operate" });
  const buttons = { drain: "Drain", start: "Start", restart: "Restart", cores: "Cores ..." };
  for (const [what, text] of Object.entries(buttons)) {
    buttons[what] = element("button", { text, "aria-label": `${text.replace(" ...", "")}: ${host}` });
    buttons[what].addEventListener("click", () => ask(host, what));
    tools.append(buttons[what]);
  }
  const section = element("section", {}, ...Object.values(parts), tools);
  return { section, parts, tools, buttons, node: null };
}

function drawBox(node) {
  if (!boxes.has(node.host)) boxes.set(node.host, newBox(node.host));
  const box = boxes.get(node.host);
  const { section, parts, tools, buttons } = box;
  box.node = node;
  section.className = node.is_up ? "node" : "node down";
  const words = coreWords(node);
  parts.title.textContent = node.node || node.host;
  parts.cores.setAttribute("aria-label", words);
  parts.cores.replaceChildren(...cores(node));
  parts.words.textContent = words;
  parts.memory.replaceChildren(...memory(node));
  parts.state.textContent = node.is_stopped ? "drained: it takes no new tasks" : node.state;
  parts.versions.textContent = node.version ? `QuakeGrid ${node.version}${node.engine_version ? `, engine ${node.engine_version}` : ""}` : "";
  parts.left.replaceChildren(...node.left_out.map((each) =>
    element("div", { text: `left out by ${sessions.has(each.session_id) ? called(sessions.get(each.session_id)) : `session ${each.session_id}`}: ${each.differences.join(", ")}`, className: "failed" })));
  tools.hidden = !mayOperate || !node.version;
  buttons.drain.hidden = node.is_stopped;
  buttons.start.hidden = !node.is_stopped;
  return section;
}

const SURE = {
  drain: (name) => `Drain ${name}? It takes no new tasks; those that it runs end first. Calculations wait if no other node serves.`,
  start: (name) => `Let ${name} serve again?`,
  restart: (name) => `Restart the workers of ${name}? Its tasks end first, then it loads the engine anew.`,
};

async function ask(host, what) {
  const node = boxes.get(host).node;
  const name = node.node || host;
  let body;
  if (what === "cores") {
    const text = prompt(`How many of its ${node.all_core_count} cores may ${name} give? Workers above that end after their task.`, String(node.core_count));
    if (text === null) return;
    body = JSON.stringify({ core_count: Number(text.trim() || NaN) });
  } else if (!confirm(SURE[what](name))) return;
  byId("order-words").textContent = `${name} is being told ...`;
  const response = await fetch(`/cluster/nodes/${encodeURIComponent(host)}/${what}`, { method: "POST", body }).catch(() => null);
  const answer = await response?.json().catch(() => ({ error: `the service answered ${response.status}` }));
  const reason = !response ? "the web service does not answer" : response.ok ? "" : answer.error;
  tell("order", reason ? `This did not work: ${reason}` : "");
  byId("order-words").textContent = reason ? "" : `${name} was told.`;
}

function sessionRow(session) {
  const jobs = session.job_ids.map((id) => element("a", { text: String(id), href: `/calculations/${id}` }));
  const ahead = session.ahead_job_ids.length === session.ahead_count ? session.ahead_job_ids.join(", ") : counted(session.ahead_count, "calculation");
  const behind = session.ahead_count ? `, behind ${ahead}` : "";
  const state = session.wait_reason ? `${session.state}: ${session.wait_reason}` : session.state + behind;
  return element(
    "tr", {},
    element("td", {}, ...(jobs.length ? jobs : [called(session)])),
    element("td", { text: session.user_name }),
    element("td", { text: state }),
    element("td", { text: String(session.core_count), className: "number" }),
    element("td", { text: `${session.busy_worker_count} of ${session.worker_count}`, className: "number" }),
    element("td", {}, progress(session)),
    element("td", { text: String(session.queued_count), className: "number" }),
    element("td", { text: session.done_rate_hz.toFixed(1), className: "number" }),
  );
}

function limitWords({ jobs = 0, jobs_of_person: ofPerson = 0, cores_of_person: coresOf = 0 } = {}) {
  const parts = [jobs ? `${counted(jobs, "calculation")} at once` : "", ofPerson ? `${counted(ofPerson, "calculation")} of a person at once` : "",
    coresOf ? `${counted(coresOf, "core")} for a person` : ""].filter(Boolean);
  return parts.length ? `At most ${parts.join(", ")}.` : "";
}

function draw(fleet) {
  sessions = new Map(fleet.sessions.map((session) => [session.session_id, session]));
  const up = fleet.nodes.filter((node) => node.is_up);
  const total = (name) => up.reduce((sum, node) => sum + node[name], 0);
  byId("summary").textContent =
    `${up.length} of ${counted(fleet.nodes.length, "node")} ${fleet.nodes.length === 1 ? "is" : "are"} up; ${total("running_count")} of ${counted(total("core_count"), "core")} at work. QuakeGrid ${fleet.version}`;
  const shown = fleet.nodes.map(drawBox);
  const hosts = new Set(fleet.nodes.map((node) => node.host));
  for (const host of [...boxes.keys()].filter((each) => !hosts.has(each))) boxes.delete(host);
  const isSame = byId("nodes").childElementCount === shown.length && shown.every((section, at) => byId("nodes").children[at] === section);
  if (!isSame) byId("nodes").replaceChildren(...shown);
  const working = fleet.sessions.filter((session) => session.worker_count > 0);
  byId("legend").replaceChildren(...working.map((session) =>
    element("li", { className: colourOf(session.session_id) }, element("span", { className: "core busy" }), ` ${called(session)}`)));
  byId("sessions").replaceChildren(...[...fleet.sessions].sort(inOrder).map(sessionRow));
  byId("idle").hidden = fleet.sessions.length > 0;
  byId("limits").textContent = limitWords(fleet.limits);
}

/** Those that execute, then the queue in its order. */
const inOrder = (one, other) => one.ahead_count - other.ahead_count || one.session_id - other.session_id;

let newest = null;
follow("/live/fleet", {
  fleet: (fleet) => {
    tell("broker", fleet.is_connected ? "" : "The broker does not answer; this is what it said last.");
    newest = fleet;
    draw(fleet);
  },
});
showEvents();
const rights = await fetch("/cluster/rights.json").then((response) => response.json()).catch(() => null);
mayOperate = Boolean(rights?.may_operate);
if (newest) draw(newest);
