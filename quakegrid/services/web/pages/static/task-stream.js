// A row for each worker, and along it a bar for each task, or cells where the tasks are too many for bars.

const SVG = "http://www.w3.org/2000/svg";
export const ENDS = ["", "done", "lost", "not wanted any more"];
const LOST = 2;
const [LEFT, TOP, FOOT, LEAST_ROW, MOST_ROW] = [9, 4, 22, 4, 18];
const MOST_HEIGHT = 640;

function part(tag, attributes = {}, text = "") {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, String(value));
  if (text) made.textContent = text;
  return made;
}

/** 0.0123 s, 4.2 s, 3 min 12 s. */
export function shortSeconds(value) {
  if (value < 10) return `${Number(value.toPrecision(2))} s`;
  if (value < 60) return `${value.toFixed(1)} s`;
  const whole = Math.round(value);
  return whole < 3600 ? `${Math.floor(whole / 60)} min ${whole % 60} s` : `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
}

function niceStep(rough) {
  const power = 10 ** Math.floor(Math.log10(rough));
  const digit = rough / power;
  return (digit > 5 ? 10 : digit > 2 ? 5 : digit > 1 ? 2 : 1) * power;
}

/**
 * Draw what each worker did.
 *
 * @param place element to draw into; it keeps the focus.
 * @param found the answer of the service.
 * @param say called with words on what is pointed at.
 * @param move called with a change of the time that is looked at.
 */
export function drawStream(place, found, say, move) {
  const width = Math.max(280, place.clientWidth || 900);
  const rowHeight = Math.max(LEAST_ROW, Math.min(MOST_ROW, Math.floor(MOST_HEIGHT / Math.max(1, found.rows.length))));
  const bottom = TOP + rowHeight * found.rows.length;
  const span = Math.max(found.to_s - found.from_s, 1e-6);
  const x = (at) => LEFT + ((at - found.from_s) / span) * (width - LEFT - 4);
  const at = (place_x) => found.from_s + ((place_x - LEFT) / (width - LEFT - 4)) * span;
  const label = `${found.bars ? found.bars.length : found.counts.attempts} tasks on ${found.counts.workers} workers, from ${shortSeconds(found.from_s)} to ${shortSeconds(found.to_s)}; the table has their numbers`;
  const svg = part("svg", { class: "chart stream", width, height: bottom + FOOT, viewBox: `0 0 ${width} ${bottom + FOOT}`, role: "img", tabindex: "0", "aria-label": label });
  svg.append(part("rect", { class: "frame", x: LEFT, y: TOP, width: width - LEFT - 4, height: Math.max(1, bottom - TOP) }));
  const step = niceStep(span / Math.max(2, width / 110));
  for (let tick = Math.ceil(found.from_s / step) * step; tick <= found.to_s; tick += step) {
    svg.append(part("line", { class: "grid", x1: x(tick), x2: x(tick), y1: TOP, y2: bottom }));
    svg.append(part("text", { x: x(tick), y: bottom + 15, "text-anchor": "middle" }, shortSeconds(tick)));
  }
  const gap = rowHeight > 6 ? 1 : 0;
  for (const [row, begin, end, colour, how, task, memory] of found.bars ?? []) {
    const [from, to] = [Math.max(x(begin), LEFT), Math.min(x(end), width - 4)];
    const bar = part("rect", { class: `task line-${colour}${how === LOST ? " lost" : how > LOST ? " dropped" : ""}`, x: from.toFixed(2), y: TOP + row * rowHeight, width: Math.max(0.6, to - from).toFixed(2), height: rowHeight - gap });
    const where = found.rows[row];
    bar.words = `${found.colours[colour] ?? "others"}, task ${task} on ${where.nodes.join(", ")} (${where.worker_id}): ${shortSeconds(end - begin)} from ${shortSeconds(begin)} on, ${ENDS[how]}${memory ? `, worker's most memory ${Math.round(memory / 2 ** 20)} MB` : ""}`;
    svg.append(bar);
  }
  for (const [row, first, after, colour, tenths] of found.cells ?? []) {
    const [from, to] = [x(found.from_s + first * found.column_s), x(Math.min(found.to_s, found.from_s + after * found.column_s))];
    const cell = part("rect", { class: `task line-${colour}`, x: from.toFixed(2), y: TOP + row * rowHeight, width: Math.max(0.6, to - from).toFixed(2), height: rowHeight - gap, "fill-opacity": (0.15 + 0.085 * tenths).toFixed(2) });
    const where = found.rows[row];
    cell.words = `${found.colours[colour] ?? "others"} on ${where.nodes.join(", ")} (${where.worker_count > 1 ? `${where.worker_count} workers from ` : ""}${where.worker_id}): busy ${tenths * 10} % of the time from ${shortSeconds(found.from_s + first * found.column_s)} to ${shortSeconds(found.from_s + after * found.column_s)}`;
    svg.append(cell);
  }
  listen(svg, at, say, move);
  const hadFocus = place.contains(document.activeElement);
  place.replaceChildren(svg);
  if (hadFocus) svg.focus();
}

const KEYS = { "+": { factor: 0.5 }, "=": { factor: 0.5 }, "-": { factor: 2 }, ArrowLeft: { by: -0.25 }, ArrowRight: { by: 0.25 }, 0: { all: true }, Home: { all: true } };

function listen(svg, at, say, move) {
  svg.addEventListener("pointerover", (event) => { if (event.target.words) say(event.target.words); });
  svg.addEventListener("keydown", (event) => {
    const change = event.ctrlKey || event.metaKey || event.altKey ? null : KEYS[event.key];
    if (!change) return;
    event.preventDefault();
    move(change);
  });
  const timeOf = (event) => at(event.clientX - svg.getBoundingClientRect().left);
  let begun = null;
  svg.addEventListener("pointerdown", (event) => { begun = event.pointerType === "mouse" ? { at: timeOf(event), x: event.clientX } : null; });
  svg.addEventListener("pointerup", (event) => {
    if (begun && Math.abs(event.clientX - begun.x) > 8) move({ window: [begun.at, timeOf(event)].sort((one, other) => one - other) });
    begun = null;
  });
  svg.addEventListener("dblclick", (event) => move({ factor: 0.5, at: timeOf(event) }));
}
