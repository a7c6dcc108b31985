import { byId, counted, element, megabytes, moment, seconds, tell } from "/static/common.js";
import { showEvents } from "/static/events.js";

const WORDS = { breaks: "Makes calculations fail", slows: "Makes calculations slow", note: "To know" };
const MARK = { breaks: "failed", slows: "executing", note: "soft" };

function finding(each) {
  const parts = [element("strong", { text: WORDS[each.severity] ?? each.severity, className: MARK[each.severity] ?? "" }), element("p", { text: `${each.node ? `${each.node}: ` : ""}${each.what}` })];
  if (each.breaks) parts.push(element("p", { text: `Effect: ${each.breaks}`, className: "soft" }));
  if (each.remedy) parts.push(element("p", { text: `What to do: ${each.remedy}` }));
  return element("article", { className: "node finding" }, ...parts);
}

function drawFindings(doctor) {
  tell("doctor", doctor ? "" : "The doctor could not look at this cluster; `quakegrid doctor` says why.");
  const found = doctor?.findings ?? [];
  const bad = found.filter((each) => each.severity !== "ok");
  const fine = found.filter((each) => each.severity === "ok");
  byId("findings").replaceChildren(...(bad.length || !doctor ? bad.map(finding) : [element("p", { text: "Nothing would break or slow a calculation.", className: "complete" })]));
  byId("fine-box").hidden = fine.length === 0;
  byId("fine-words").textContent = `${counted(fine.length, "check")} ${fine.length === 1 ? "was" : "were"} fine`;
  byId("fine").replaceChildren(...fine.map((each) => element("li", { text: `${each.node ? `${each.node}: ` : ""}${each.what}` })));
}

function drawServices(status) {
  const services = status?.services ?? [];
  byId("services").replaceChildren(...services.map((each) => element("tr", {},
    element("td", { text: each.service }), element("td", { text: each.is_up ? each.trouble || "runs" : "does not run", className: each.is_up && !each.trouble ? "complete" : "failed" }), element("td", { text: each.address ?? "" }),
    element("td", { text: each.pid ? String(each.pid) : "" }), element("td", { text: each.version ?? "" }))));
}

/** How old the last copy is; a database that was never copied is a risk. */
function backupWords(database) {
  const age = database.backup_time ? Date.now() / 1000 - Date.parse(database.backup_time) / 1000 : null;
  if (age === null) return "none is known; `quakegrid db backup FILE` makes one";
  return `${age > 2 * 86400 ? `${Math.floor(age / 86400)} days` : seconds(age)} ago, ${megabytes(database.backup_bytes / 2 ** 20)}`;
}

/** Credentials and certificates by their end, and the audit log: for those who look after the cluster. */
async function showPeople() {
  const response = await fetch("/cluster/people.json").catch(() => null);
  tell("people", response?.ok || response?.status === 403 ? "" : "The credentials and the audit log cannot be shown; examine again.");
  if (!response?.ok) return;
  const { people, nodes, audit } = await response.json();
  byId("people-box").hidden = byId("audit-box").hidden = false;
  const rows = [...people.map((each) => [each.name, each.role, each]), ...nodes.map((each) => [each.host, "node", each])];
  byId("no-people").hidden = rows.length > 0;
  byId("people-table").hidden = rows.length === 0;
  byId("people").replaceChildren(...rows.map(([name, role, each]) => element("tr", {},
    element("td", { text: name }), element("td", { text: role }), element("td", { text: each.is_soon ? "ends soon" : each.state, className: each.is_soon ? "failed" : each.state === "valid" ? "complete" : "soft" }), element("td", { text: moment(each.end_s) }))));
  byId("audit").replaceChildren(...audit.map((each) => element("tr", {},
    element("td", { text: moment(each.time_s) }), element("td", { text: each.role === each.who ? each.who : `${each.who} (${each.role})` }), element("td", { text: each.action }),
    element("td", { text: [each.job_id ? `job ${each.job_id}${each.owner && each.owner !== each.who ? ` of ${each.owner}` : ""}` : "", each.about].filter(Boolean).join(", ") }),
    element("td", { text: each.count > 1 ? `${each.outcome} × ${each.count}` : each.outcome, className: each.outcome === "OK" ? "" : "failed" }), element("td", { text: each.service }))));
  findAudit();
}

function findAudit() {
  const text = byId("find-audit").value.toLowerCase();
  for (const row of byId("audit").children) row.hidden = !row.textContent.toLowerCase().includes(text);
}

function drawDatabase(database) {
  const facts = database ? [
    ["File", database.path], ["Size", megabytes(database.file_bytes / 2 ** 20)], ["Calculations", String(database.job_count)],
    ["Lines of logs", String(database.log_line_count)], ["Logs are kept", database.log_retention_days ? `${database.log_retention_days} days` : "for ever"],
    ["SQLite", database.sqlite_version], ["Last backup", backupWords(database)],
  ] : [["", "The dbserver does not tell of its database."]];
  byId("database").replaceChildren(...facts.map(([name, value]) => element("div", { className: ["File", "Last backup"].includes(name) ? "wide" : "" }, element("dt", { text: name }), element("dd", { text: value }))));
}

/** When the certificates end that browsers and programs are shown. */
function drawCertificates(certificates) {
  byId("certificates-box").hidden = certificates.length === 0;
  byId("certificates").replaceChildren(...certificates.map((each) => element("tr", {},
    element("td", { text: each.what }), element("td", { text: each.end_s === null ? "with the authkey" : moment(each.end_s), className: each.is_soon ? "failed" : "" }),
    element("td", { text: each.is_soon ? "ends soon: put another one where [web] certificate says" : each.is_renewed ? "renews itself" : "", className: "soft" }))));
}

async function examine() {
  byId("again").disabled = true;
  byId("when").textContent = "The nodes are being examined ...";
  const response = await fetch("/cluster/health.json").catch(() => null);
  byId("again").disabled = false;
  tell("health", response?.ok ? "" : response?.status === 403 ? "This page is for whoever looks after the cluster." : "The web service does not answer; examine again when it does.");
  byId("when").textContent = "";
  if (!response?.ok) return;
  const found = await response.json();
  byId("when").textContent = `Examined ${moment(found.time_s)}.`;
  drawFindings(found.doctor);
  drawServices(found.services);
  drawDatabase(found.database);
  drawCertificates(found.certificates);
}

byId("again").addEventListener("click", () => { examine(); showPeople(); });
byId("find-audit").addEventListener("input", findAudit);
examine();
showPeople();
showEvents();
