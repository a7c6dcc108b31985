import { byId, element, follow, progress, tell } from "/static/common.js";

const MOST_CORES = 256;

function nodeBox(node) {
  const cores = Array.from({ length: Math.min(node.core_count, MOST_CORES) }, (_, index) =>
    element("span", { className: `core${index < node.running_count ? " busy" : index < node.worker_count ? " has-worker" : ""}` }));
  const words = node.is_up
    ? `${node.running_count} of ${node.core_count} cores at work, ${node.worker_count} workers`
    : "not there";
  const parts = [
    element("h2", { text: node.node || node.host }),
    element("div", { className: "cores", role: "img", "aria-label": words }, ...cores),
    element("div", { text: words }),
    element("div", { text: node.state, className: "soft" }),
    ...node.left_out.map((each) =>
      element("div", { text: `left out by session ${each.session_id}: ${each.differences.join(", ")}`, className: "failed" })),
  ];
  return element("section", { className: node.is_up ? "node" : "node down" }, ...parts);
}

function sessionRow(session) {
  const jobs = session.job_ids.map((id) => element("a", { text: String(id), href: `/calculations/${id}` }));
  return element(
    "tr", {},
    element("td", {}, ...(jobs.length ? jobs : [`session ${session.session_id}`])),
    element("td", { text: session.user_name }),
    element("td", { text: session.state }),
    element("td", { text: `${session.busy_worker_count} of ${session.worker_count}`, className: "number" }),
    element("td", {}, progress(session)),
    element("td", { text: String(session.queued_count), className: "number" }),
    element("td", { text: session.done_rate_hz.toFixed(1), className: "number" }),
  );
}

follow("/live/fleet", {
  fleet: (fleet) => {
    tell("broker", fleet.is_connected ? "" : "The broker does not answer; this is what it said last.");
    const up = fleet.nodes.filter((node) => node.is_up);
    const total = (name) => up.reduce((sum, node) => sum + node[name], 0);
    byId("summary").textContent =
      `${up.length} of ${fleet.nodes.length} nodes are up; ${total("running_count")} of ${total("core_count")} cores at work. QuakeGrid ${fleet.version}`;
    byId("nodes").replaceChildren(...fleet.nodes.map(nodeBox));
    byId("sessions").replaceChildren(...fleet.sessions.map(sessionRow));
    byId("idle").hidden = fleet.sessions.length > 0;
  },
});
