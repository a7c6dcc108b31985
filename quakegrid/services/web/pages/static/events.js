// What happened to the fleet, the newest first; a part of two pages.

import { byId, element, follow } from "/static/common.js";

const MOST = 200;
let events = [];

function line(event) {
  const time = new Date(event.time_s * 1000);
  const at = element("time", { text: time.toLocaleString(undefined, { dateStyle: "short", timeStyle: "medium" }), datetime: time.toISOString(), className: "soft" });
  const words = element("span", { className: event.is_trouble ? "trouble" : "" }, ...linked(event));
  return element("li", {}, at, " ", words);
}

/** The words, in which the first calculation is a link. */
function linked({ words, job_ids: [id] }) {
  const name = `job ${id}`;
  const at = id === undefined ? -1 : words.indexOf(name);
  if (at < 0) return [words];
  return [words.slice(0, at), element("a", { text: name, href: `/calculations/${id}` }), words.slice(at + name.length)];
}

function draw() {
  const shown = byId("only-trouble").checked ? events.filter((event) => event.is_trouble) : events;
  byId("events").replaceChildren(...shown.map(line));
  byId("no-events").hidden = shown.length > 0;
}

/** Show the events as they come. */
export function showEvents() {
  byId("only-trouble").addEventListener("input", draw);
  follow("/live/events", {
    events: (data) => { events = data.events; draw(); },
    event: (event) => { events = [event, ...events].slice(0, MOST); draw(); },
  });
}
