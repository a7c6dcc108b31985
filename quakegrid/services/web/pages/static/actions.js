// What a person does with a calculation: continue with risk, share, remove, tag.

import { byId, element, tell } from "/static/common.js";

let job = null;
let tags = null;

/** Offer what a calculation allows in its state. */
export function showActions(found) {
  job = found;
  const hasEnded = !job.is_running;
  const isComplete = ["complete", "shared"].includes(job.state);
  byId("continue").hidden = !isComplete;
  byId("continue").href = `/calculations?continue=${job.id}`;
  byId("share").hidden = !isComplete;
  byId("share").textContent = job.state === "shared" ? "Share no more" : "Share";
  byId("remove").hidden = !hasEnded;
  if (tags === null) readTags();
}

/** Ask for something; what it says, or null after telling why not. */
async function ask(what, path, method = "GET") {
  const response = await fetch(path, { method }).catch(() => null);
  const answer = await response?.json().catch(() => ({ error: `the service answered ${response.status}` }));
  const reason = !response ? "the web service does not answer" : response.ok && !answer.error ? "" : answer.error;
  tell(what, reason ? `This did not work: ${reason}` : "");
  return reason ? null : answer;
}

async function readTags() {
  tags = [];
  const row = await ask("tags", `/v1/calc/${job.id}/status`);
  tags = (row?.tags ?? "").split(",").map((tag) => tag.trim().replace(/★$/, "").trim()).filter(Boolean);
  drawTags();
  const known = await ask("tags", "/v1/calc/list_tags");
  byId("all-tags").replaceChildren(...(known?.tags ?? []).map((tag) => element("option", { value: tag })));
}

function drawTags() {
  byId("tags").replaceChildren(...tags.map((tag) => {
    const remove = element("button", { text: "×", "aria-label": `Remove tag ${tag}` });
    remove.addEventListener("click", () => change("remove_tag", tag));
    return element("span", { className: "chip" }, tag, remove);
  }));
}

async function change(what, tag) {
  const name = encodeURIComponent(tag);
  if (what === "add_tag") {
    const known = await ask("tags", "/v1/calc/list_tags");
    if (!(known?.tags ?? []).includes(tag) && !(await ask("tags", `/v1/calc/create_tag/${name}`))) return;
  }
  if (await ask("tags", `/v1/calc/${job.id}/${what}/${name}`)) await readTags();
}

byId("tag-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const tag = byId("tag").value.trim();
  if (!tag) return;
  byId("tag").value = "";
  change("add_tag", tag);
});
byId("share").addEventListener("click", () =>
  ask("share", `/v1/calc/${job.id}/${job.state === "shared" ? "unshare" : "share"}`, "POST"));
byId("remove").addEventListener("click", async () => {
  if (!confirm(`Remove calculation ${job.id}, its results and its inputs? This cannot be undone.`)) return;
  if (await ask("remove", `/v1/calc/${job.id}/remove`, "POST")) location.assign("/calculations");
});
