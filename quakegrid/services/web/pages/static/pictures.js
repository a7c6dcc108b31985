// The pictures of a calculation: which there are, what is chosen, and the one that is shown.
// What is shown stands in the address (#picture=hazard-map&imt=1), so that it can be sent to somebody.

import { byId, element, save, tell } from "/static/common.js";
import { asCsv, draw } from "/static/charts.js";
import { combined } from "/static/comparisons.js";

let ownId = 0;
let base = "";
let kinds = [];
let chosen = {};
let running = 0;

/** Show the pictures of a calculation that has results. */
export async function showPictures(jobId) {
  if (base) return;
  ownId = jobId;
  base = `/calculations/${jobId}/pictures`;
  const response = await fetch(`${base}.json`);
  if (!response.ok) {
    base = "";
    return;
  }
  kinds = await response.json();
  if (!kinds.length) return;
  byId("pictures").hidden = false;
  readAddress();
  await show();
}

function readAddress() {
  const asked = Object.fromEntries(new URLSearchParams(location.hash.slice(1)));
  const kind = kinds.some((each) => each.kind === asked.picture) ? asked.picture : kinds[0].kind;
  chosen = { ...asked, picture: kind };
}

function choose(changes) {
  chosen = { ...chosen, ...changes };
  history.replaceState(null, "", `#${new URLSearchParams(chosen)}`);
  show();
}

function drawTabs() {
  byId("picture-kinds").replaceChildren(...kinds.map((each) => {
    const button = element("button", { text: each.label, "aria-pressed": String(each.kind === chosen.picture) });
    button.addEventListener("click", () => choose({ picture: each.kind }));
    return button;
  }));
}

function choiceBox(choice) {
  const options = choice.options.map(([value, text]) => element("option", { value, text }));
  const select = element("select", {}, ...options);
  select.value = choice.value;
  select.addEventListener("change", () => choose({ [choice.name]: select.value }));
  return element("label", {}, `${choice.label} `, select);
}

async function show() {
  drawTabs();
  running += 1;
  const mine = running;
  const { picture, with: otherId, ...rest } = chosen;
  const place = byId("picture");
  place.setAttribute("aria-busy", "true");
  const query = new URLSearchParams(rest);
  const [answer, other] = await Promise.all([ask(`${base}/${picture}.json?${query}`),
    otherId ? ask(`/calculations/${encodeURIComponent(otherId)}/pictures/${picture}.json?${query}`) : null]);
  if (mine !== running) return; // something else was chosen meanwhile
  place.removeAttribute("aria-busy");
  tell("picture", answer.error ? `The picture cannot be drawn: ${answer.error}` : "");
  if (answer.error) return;
  const both = other === null ? answer : other.error ? other.error : combined(answer, other, ownId, otherId);
  tell("comparison", typeof both === "string" ? `It cannot be compared: ${both}` : "");
  const drawn = typeof both === "string" ? answer : both;
  const focused = document.activeElement?.closest("#picture-choices label")?.textContent.split(" ")[0];
  byId("picture-choices").replaceChildren(...answer.choices.map(choiceBox), otherBox(), saveButton(drawn));
  draw(place, drawn, pickSite());
  if (focused) [...byId("picture-choices").querySelectorAll("label")].find((each) => each.textContent.startsWith(focused))?.querySelector("select")?.focus();
}

async function ask(address) {
  const response = await fetch(address).catch(() => null);
  if (!response) return { error: "the web service does not answer" };
  return response.json().catch(() => ({ error: `the service answered ${response.status}` }));
}

function otherBox() {
  const box = element("input", { inputmode: "numeric", size: "6", placeholder: "none", value: chosen.with ?? "" });
  box.addEventListener("change", () => {
    const { with: _, ...rest } = chosen;
    chosen = rest;
    choose(box.value.trim() ? { with: box.value.trim() } : {});
  });
  return element("label", {}, "Compare with calculation ", box);
}

/** A click on a site of a map leads to its curves. */
function pickSite() {
  const hasCurves = kinds.some((each) => each.kind === "hazard-curves");
  if (chosen.picture !== "hazard-map" || !hasCurves) return undefined;
  return (site) => choose({ picture: "hazard-curves", site: String(site) });
}

function saveButton(picture) {
  const button = element("button", { text: "Save as CSV" });
  button.addEventListener("click", () => save(new Blob([asCsv(picture)], { type: "text/csv" }), `${picture.title}.csv`));
  return button;
}

addEventListener("hashchange", () => {
  if (!kinds.length) return;
  readAddress();
  show();
});
