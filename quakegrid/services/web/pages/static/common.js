// What all pages share: elements, words for numbers, and streams that come back by themselves.

export const byId = (id) => document.getElementById(id);

/** Make an element; text is never read as HTML. */
export function element(tag, { text = "", className = "", ...attributes } = {}, ...children) {
  const made = document.createElement(tag);
  if (text !== "") made.textContent = text;
  if (className) made.className = className;
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

export const seconds = (value) => {
  if (value === null || !Number.isFinite(value)) return "";
  const whole = Math.max(0, Math.round(value));
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
};

export const moment = (value) => (value ? new Date(value * 1000).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" }) : "");

export const megabytes = (value) =>
  value === null || value < 0 ? "" : value > 0 && value < 1 / 1024 ? "under 1 kB" : value < 1 ? `${Math.round(value * 1024)} kB` : value < 1024 ? `${value.toFixed(1)} MB` : `${(value / 1024).toFixed(1)} GB`;

export const gigabytes = (bytes) => `${(bytes / 2 ** 30).toFixed(bytes < 10 * 2 ** 30 ? 1 : 0)} GB`;

/** A number of things: "1 task", "2 tasks". */
export const counted = (count, word) => `${count} ${word}${count === 1 ? "" : "s"}`;

/** Give something to the person as a file. */
export function save(content, name) {
  const address = URL.createObjectURL(content);
  element("a", { href: address, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(address), 1000);
}

/** A calculation as pages know it, of a row of the engine's list. */
export const jobOfRow = (row) => ({
  id: row.id, description: row.description, state: row.status, state_reason: "", user_name: row.owner,
  calculation_mode: row.calculation_mode, is_running: row.is_running, hazard_calculation_id: row.parent_id,
  start_s: Date.parse(row.start_time.replace(", ", "T").replace(" UTC", "Z")) / 1000, stop_s: null,
  size_mb: row.size_mb, host: "",
});

const troubles = new Map();

/** Say that something does not work, or that it does again (empty text). */
export function tell(what, text) {
  if (text) troubles.set(what, text);
  else troubles.delete(what);
  const box = byId("trouble");
  box.textContent = [...troubles.values()].join(" ");
  box.hidden = troubles.size === 0;
}

/** Follow server-sent events; the browser opens the stream again where it broke off. */
export function follow(address, handlers) {
  const source = new EventSource(address);
  source.onopen = () => tell(address, "");
  source.onerror = () => {
    tell(address, "The web service does not answer; this page goes on when it does.");
    document.dispatchEvent(new Event("stream-lost"));
  };
  for (const [kind, handle] of Object.entries(handlers)) {
    source.addEventListener(kind, (message) => handle(JSON.parse(message.data), source));
  }
  return source;
}

/** The share of tasks that are done, of what the broker knows of a session, and what time the others need. */
export function progress(session) {
  const left = session.queued_count + session.running_count;
  const all = session.done_count + left;
  const bar = element("progress", { max: Math.max(1, all), value: session.done_count });
  bar.title = `${session.done_count} of ${counted(all, "task")} so far`;
  bar.setAttribute("aria-label", bar.title);
  const isKnown = left > 0 && session.done_rate_hz > 0;
  const words = isKnown ? `${session.done_count} of ${all}, about ${seconds(left / session.done_rate_hz)} left of these` : left ? `${session.done_count} of ${all}` : "";
  return element("span", { className: "progress" }, bar, element("span", { text: words, className: "soft" }));
}

for (const link of document.querySelectorAll("nav a")) {
  if (location.pathname.startsWith(link.getAttribute("href"))) link.setAttribute("aria-current", "page");
}
