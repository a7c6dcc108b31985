import { byId, element, megabytes, moment, tell } from "/static/common.js";

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
  byId("fine-words").textContent = `${fine.length} checks were fine`;
  byId("fine").replaceChildren(...fine.map((each) => element("li", { text: `${each.node ? `${each.node}: ` : ""}${each.what}` })));
}

function drawServices(status) {
  const services = status?.services ?? [];
  byId("services").replaceChildren(...services.map((each) => element("tr", {},
    element("td", { text: each.service }), element("td", { text: each.is_up ? each.trouble || "runs" : "does not run", className: each.is_up && !each.trouble ? "complete" : "failed" }), element("td", { text: each.address ?? "" }),
    element("td", { text: each.pid ? String(each.pid) : "" }), element("td", { text: each.version ?? "" }))));
}

function drawDatabase(database) {
  const facts = database ? [
    ["File", database.path], ["Size", megabytes(database.file_bytes / 2 ** 20)], ["Calculations", String(database.job_count)],
    ["Lines of logs", String(database.log_line_count)], ["Logs are kept", database.log_retention_days ? `${database.log_retention_days} days` : "for ever"],
    ["SQLite", database.sqlite_version],
  ] : [["", "The dbserver does not tell of its database."]];
  byId("database").replaceChildren(...facts.map(([name, value]) => element("div", { className: name === "File" ? "wide" : "" }, element("dt", { text: name }), element("dd", { text: value }))));
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
}

byId("again").addEventListener("click", examine);
examine();
