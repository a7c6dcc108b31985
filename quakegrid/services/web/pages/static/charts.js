// Draws pictures: lines, points on a map, bars, cells. Each has a table behind it, and can be read with keys.

import { element } from "/static/common.js";
import { colour, colourScale, number, scale, titled } from "/static/scales.js";

const SVG = "http://www.w3.org/2000/svg";
const KINDS_OF_LINES = 8;
const MOST_TABLE_ROWS = 500;

function svg(tag, attributes = {}, ...children) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

const words = (x, y, text, attributes = {}) => svg("text", { x, y, ...attributes }, text);

/** The drawing area of a figure that is `width` wide, and its margins. */
function area(width, { left = 74, right = 14, top = 12, bottom = 46, ratio = 0.58, most = 440 } = {}) {
  const height = Math.round(Math.min(most, Math.max(240, width * ratio)));
  return { width, height, left, right: width - right, top, bottom: height - bottom };
}

function axisAcross(box, axis, found) {
  const parts = found.minor.map((value) => svg("line", { class: "minor", x1: found.place(value), x2: found.place(value), y1: box.top, y2: box.bottom }));
  for (const value of found.ticks) {
    const x = found.place(value);
    parts.push(svg("line", { class: "grid", x1: x, x2: x, y1: box.top, y2: box.bottom }));
    parts.push(words(x, box.bottom + 17, number(value), { "text-anchor": "middle" }));
  }
  parts.push(words((box.left + box.right) / 2, box.bottom + 38, titled(axis), { class: "title", "text-anchor": "middle" }));
  return parts;
}

function axisUp(box, axis, found) {
  const parts = found.minor.map((value) => svg("line", { class: "minor", x1: box.left, x2: box.right, y1: found.place(value), y2: found.place(value) }));
  for (const value of found.ticks) {
    const y = found.place(value);
    parts.push(svg("line", { class: "grid", x1: box.left, x2: box.right, y1: y, y2: y }));
    parts.push(words(box.left - 7, y + 4, number(value), { "text-anchor": "end" }));
  }
  const middle = (box.top + box.bottom) / 2;
  parts.push(words(14, middle, titled(axis), { class: "title", "text-anchor": "middle", transform: `rotate(-90 14 ${middle})` }));
  return parts;
}

const frame = (box) => svg("rect", { class: "frame", x: box.left, y: box.top, width: box.right - box.left, height: box.bottom - box.top });

// ---- lines

function drawLines(picture, width) {
  const box = area(width);
  const all = (name) => picture.series.flatMap((series) => series[name]);
  const across = scale(all("x"), picture.x.is_log, box.left, box.right);
  const up = scale(all("y"), picture.y.is_log, box.bottom, box.top, { startsAtZero: true });
  const marks = [];
  const lines = picture.series.map((series, index) => {
    const places = series.x.map((x, at) => [across.place(x), up.place(series.y[at])]);
    series.x.forEach((x, at) =>
      marks.push({ x: places[at][0], y: places[at][1], group: index, text: `${series.name}: ${number(series.y[at])} at ${number(x)}${picture.x.unit ? ` ${picture.x.unit}` : ""}` }));
    const style = `series line-${index % KINDS_OF_LINES}${index >= KINDS_OF_LINES ? " dashed" : ""}`;
    return svg("g", { class: style }, svg("polyline", { points: places.map((place) => place.join(",")).join(" ") }), ...(series.x.length <= 40 ? places.map(([x, y]) => svg("circle", { cx: x, cy: y, r: 2.2 })) : []));
  });
  return { box, marks, parts: [...axisAcross(box, picture.x, across), ...axisUp(box, picture.y, up), frame(box), ...lines] };
}

function legendOfLines(picture) {
  return element("ul", { className: "legend" }, ...picture.series.map((series, index) =>
    element("li", {}, swatch(index), series.name)));
}

function swatch(index) {
  const style = `series line-${index % KINDS_OF_LINES}${index >= KINDS_OF_LINES ? " dashed" : ""}`;
  return svg("svg", { width: 22, height: 8, "aria-hidden": "true", class: "swatch" }, svg("g", { class: style }, svg("line", { x1: 0, x2: 22, y1: 4, y2: 4 })));
}

// ---- points on a map

function mapBox(picture, width) {
  const range = (values) => values.reduce(([low, high], value) => [Math.min(low, value), Math.max(high, value)], [Infinity, -Infinity]);
  const [west, east] = range(picture.lon);
  const [south, north] = range(picture.lat);
  const narrow = Math.cos(((south + north) / 2) * (Math.PI / 180)) || 1;
  const margin = Math.max((east - west) * narrow, north - south, 0.02) * 0.06;
  const span = { across: (east - west) * narrow + 2 * margin, up: north - south + 2 * margin };
  const outer = area(width, { right: 86, ratio: 0.72, most: 520 });
  const inside = { across: outer.right - outer.left, up: outer.bottom - outer.top };
  const zoom = Math.min(inside.across / span.across, inside.up / span.up);
  const middle = [(west + east) / 2, (south + north) / 2];
  const place = (lon, lat) => [
    (outer.left + outer.right) / 2 + (lon - middle[0]) * narrow * zoom,
    (outer.top + outer.bottom) / 2 - (lat - middle[1]) * zoom,
  ];
  return { box: outer, place, reach: { west: middle[0] - inside.across / 2 / zoom / narrow, east: middle[0] + inside.across / 2 / zoom / narrow, south: middle[1] - inside.up / 2 / zoom, north: middle[1] + inside.up / 2 / zoom } };
}

const inside = (found, low, high) => ({ ...found, ticks: found.ticks.filter((value) => value >= low && value <= high) });

function drawPoints(picture, width) {
  const { box, place, reach } = mapBox(picture, width);
  const shades = colourScale(picture.values);
  const places = picture.lon.map((lon, at) => place(lon, picture.lat[at]));
  const side = pointSide(places, box);
  const dots = places.map(([x, y], at) => ({ x, y, fill: picture.values[at] === null ? "none" : colour(shades.place(picture.values[at])) }));
  const across = inside(scale([reach.west, reach.east], false, box.left, box.right), reach.west, reach.east);
  const up = inside(scale([reach.south, reach.north], false, box.bottom, box.top), reach.south, reach.north);
  const middle = [(reach.west + reach.east) / 2, (reach.south + reach.north) / 2];
  across.place = (lon) => place(lon, middle[1])[0];
  up.place = (lat) => place(middle[0], lat)[1];
  const marks = places.map(([x, y], at) => ({ x, y, group: 0, index: at, text: `${number(picture.values[at])}${picture.value.unit ? ` ${picture.value.unit}` : ""} at ${picture.lon[at]}, ${picture.lat[at]}` }));
  const axes = [...axisAcross(box, { label: "Longitude", unit: "°" }, across), ...axisUp(box, { label: "Latitude", unit: "°" }, up)];
  const shape = (dot) => svg("rect", { x: dot.x - side / 2, y: dot.y - side / 2, width: side, height: side, rx: side < 9 ? 0 : side / 2, fill: dot.fill });
  return { box, marks, parts: [...axes, frame(box), ...dots.filter((dot) => dot.fill !== "none").map(shape), ...colourBar(box, picture.value, shades)] };
}

/** How large points are: as far apart as they lie on average, if they fill the map. */
function pointSide(places, box) {
  const size = Math.sqrt(((box.right - box.left) * (box.bottom - box.top)) / Math.max(1, places.length));
  return Math.max(2, Math.min(18, size * 0.72));
}

function colourBar(box, axis, shades) {
  const [x, top, bottom] = [box.right + 16, box.top + 22, box.bottom];
  const steps = 24;
  const high = (bottom - top) / steps;
  const bands = Array.from({ length: steps }, (_, index) =>
    svg("rect", { x, y: bottom - (index + 1) * high, width: 12, height: high + 0.6, fill: colour((index + 0.5) / steps) }));
  const values = shades.isLog ? [shades.low, Math.sqrt(shades.low * shades.high), shades.high] : [shades.low, (shades.low + shades.high) / 2, shades.high];
  const labels = [...new Set(values)].map((value) => words(x + 17, bottom - shades.place(value) * (bottom - top) + 4, number(Number(value.toPrecision(3)))));
  return [...bands, ...labels, words(x, box.top + 10, axis.unit ? `[${axis.unit}]` : "", { class: "title" })];
}

// ---- bars

function drawBars(picture, width) {
  const longest = Math.max(...picture.names.map((name) => name.length), 4);
  const left = Math.min(width * 0.38, Math.max(70, longest * 7.2 + 16));
  const count = picture.names.length;
  const high = Math.max(18, Math.min(34, 300 / Math.max(1, count)));
  const box = { width, left, right: width - 74, top: 8, bottom: 8 + count * high, height: count * high + 54 };
  const across = scale(picture.heights, false, box.left, box.right, { startsAtZero: true });
  const marks = [];
  const bars = picture.names.flatMap((name, index) => {
    const y = box.top + index * high;
    const value = picture.heights[index] ?? 0;
    const end = across.place(value);
    marks.push({ x: end, y: y + high / 2, group: 0, text: `${name}: ${number(value)}${picture.value.unit ? ` ${picture.value.unit}` : ""}` });
    return [
      svg("rect", { class: "bar", x: box.left, y: y + high * 0.14, width: Math.max(0, end - box.left), height: high * 0.72 }),
      words(box.left - 8, y + high / 2 + 4, shortened(name, (left - 16) / 7.2), { "text-anchor": "end" }),
      words(end + 6, y + high / 2 + 4, number(value), { class: "value" }),
    ];
  });
  return { box, marks, parts: [...axisAcross(box, picture.value, across), ...bars] };
}

const shortened = (name, most) => (name.length > most ? `${name.slice(0, Math.max(1, Math.floor(most) - 1))}…` : name);

// ---- cells

function drawCells(picture, width) {
  const longest = Math.max(...picture.rows.map((name) => name.length));
  const box = area(width, { left: Math.min(width * 0.34, longest * 7 + 44), right: 86, bottom: 82, ratio: 0.6 });
  const shades = colourScale(picture.values.flat());
  const [wide, high] = [(box.right - box.left) / picture.columns.length, (box.bottom - box.top) / picture.rows.length];
  const marks = [];
  const cells = picture.values.flatMap((column, across) => column.map((value, up) => {
    const [x, y] = [box.left + across * wide, box.bottom - (up + 1) * high];
    marks.push({ x: x + wide / 2, y: y + high / 2, group: up, text: `${picture.columns[across]}, ${picture.rows[up]}: ${number(value)}` });
    return svg("rect", { x, y, width: Math.max(0, wide - 1), height: Math.max(0, high - 1), fill: value ? colour(shades.place(value)) : "none", class: "cell" });
  }));
  const every = Math.max(1, Math.ceil(26 / wide));
  const names = picture.columns.flatMap((name, at) => (at % every ? [] : [words(box.left + (at + 0.5) * wide, box.bottom + 14, name, { "text-anchor": "end", transform: `rotate(-30 ${box.left + (at + 0.5) * wide} ${box.bottom + 14})` })]));
  const rows = picture.rows.flatMap((name, at) => (at % Math.max(1, Math.ceil(15 / high)) ? [] : [words(box.left - 7, box.bottom - (at + 0.5) * high + 4, name, { "text-anchor": "end" })]));
  const middle = (box.top + box.bottom) / 2;
  const titles = [
    words((box.left + box.right) / 2, box.height - 6, titled(picture.x), { class: "title", "text-anchor": "middle" }),
    words(14, middle, titled(picture.y), { class: "title", "text-anchor": "middle", transform: `rotate(-90 14 ${middle})` }),
  ];
  return { box, marks, parts: [...cells, ...names, ...rows, ...titles, frame(box), ...colourBar(box, picture.value, shades)] };
}

const SHAPES = { lines: drawLines, points: drawPoints, bars: drawBars, cells: drawCells };

// ---- the table behind a picture

function tableRows(picture) {
  const with_ = (axis) => titled(axis);
  if (picture.shape === "lines") return [["Line", with_(picture.x), with_(picture.y)], picture.series.flatMap((series) => series.x.map((x, at) => [series.name, x, series.y[at]]))];
  if (picture.shape === "points") return [["Longitude [°]", "Latitude [°]", with_(picture.value)], picture.lon.map((lon, at) => [lon, picture.lat[at], picture.values[at]])];
  if (picture.shape === "bars") return [[picture.label, with_(picture.value)], picture.names.map((name, at) => [name, picture.heights[at]])];
  return [[with_(picture.x), with_(picture.y), with_(picture.value)], picture.values.flatMap((column, across) => column.map((value, up) => [picture.columns[across], picture.rows[up], value]))];
}

/** The numbers of a picture as text for other programs. */
export function asCsv(picture) {
  const [head, rows] = tableRows(picture);
  const cell = (value) => (typeof value === "string" ? `"${value.replaceAll('"', '""')}"` : value ?? "");
  return [head, ...rows].map((row) => row.map(cell).join(",")).join("\n");
}

function table(picture) {
  const [head, rows] = tableRows(picture);
  const shown = rows.slice(0, MOST_TABLE_ROWS);
  const cell = (value) => (typeof value === "string" ? element("td", { text: value }) : element("td", { text: number(value), className: "number" }));
  const made = element("table", {},
    element("caption", { text: rows.length > shown.length ? `The first ${shown.length} of ${rows.length} rows; the CSV has all.` : picture.title }),
    element("thead", {}, element("tr", {}, ...head.map((text) => element("th", { text, scope: "col" })))),
    element("tbody", {}, ...shown.map((row) => element("tr", {}, ...row.map(cell)))));
  return element("div", { className: "scroll table-behind", tabindex: "0", role: "region", "aria-label": `Numbers of: ${picture.title}` }, made);
}

// ---- reading a picture with the pointer or with keys

function reader(drawing, marks, box, say, onPick) {
  const ring = svg("circle", { class: "ring", r: 6, visibility: "hidden" });
  const label = svg("text", { class: "tip", visibility: "hidden" });
  const back = svg("rect", { class: "tip-back", visibility: "hidden", rx: 4 });
  drawing.append(ring, back, label);
  let current = -1;
  const hide = () => [ring, label, back].forEach((part) => part.setAttribute("visibility", "hidden"));
  const show = (index) => {
    const mark = marks[index];
    if (!mark) return;
    current = index;
    label.textContent = mark.text;
    const size = label.getComputedTextLength?.() || mark.text.length * 7;
    const x = Math.min(Math.max(mark.x - size / 2, 8), box.width - size - 8);
    const y = mark.y > 46 ? mark.y - 16 : mark.y + 30;
    for (const [part, attributes] of [[ring, { cx: mark.x, cy: mark.y }], [label, { x, y }], [back, { x: x - 6, y: y - 15, width: size + 12, height: 21 }]]) {
      for (const [name, value] of Object.entries({ ...attributes, visibility: "visible" })) part.setAttribute(name, value);
    }
  };
  const nearest = (event) => {
    const bounds = drawing.getBoundingClientRect();
    const [x, y] = [((event.clientX - bounds.left) / bounds.width) * box.width, ((event.clientY - bounds.top) / bounds.height) * box.height];
    let [best, least] = [-1, 40 ** 2];
    marks.forEach((mark, index) => {
      const far = (mark.x - x) ** 2 + (mark.y - y) ** 2;
      if (far < least) [best, least] = [index, far];
    });
    return best;
  };
  drawing.addEventListener("pointermove", (event) => { const index = nearest(event); if (index < 0) hide(); else show(index); });
  drawing.addEventListener("pointerleave", hide);
  drawing.addEventListener("blur", hide);
  drawing.addEventListener("click", (event) => { const index = nearest(event); if (index >= 0) onPick?.(marks[index].index); });
  drawing.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1, Home: -marks.length, End: marks.length }[event.key];
    const group = { ArrowUp: 1, ArrowDown: -1 }[event.key];
    if (event.key === "Enter" && marks[current]) onPick?.(marks[current].index);
    if (step === undefined && group === undefined) return;
    event.preventDefault();
    if (step !== undefined) show(Math.min(marks.length - 1, Math.max(0, current + step)));
    else show(inGroup(marks, current, group));
    say(marks[current]?.text ?? "");
  });
}

/** The mark of another line that lies nearest. */
function inGroup(marks, current, step) {
  const from = marks[Math.max(0, current)];
  const groups = [...new Set(marks.map((mark) => mark.group))].sort((one, other) => one - other);
  const group = groups[(groups.indexOf(from.group) + step + groups.length) % groups.length];
  let best = Math.max(0, current);
  let least = Infinity;
  marks.forEach((mark, index) => {
    const far = Math.abs(mark.x - from.x);
    if (mark.group === group && far < least) [best, least] = [index, far];
  });
  return best;
}

const isEmpty = (picture) => tableRows(picture)[1].length === 0;

/** Draw a picture into an element, as wide as that is, again when its width changes. */
export function draw(place, picture, onPick) {
  const canvas = element("div", { className: "canvas" });
  const spoken = element("p", { className: "unseen", "aria-live": "polite" });
  const figure = element("figure", { className: "picture" },
    element("figcaption", { text: picture.title }), canvas,
    ...(picture.shape === "lines" && picture.series.length > 1 ? [legendOfLines(picture)] : []),
    ...(picture.note ? [element("p", { text: `Shown: ${picture.note}.`, className: "soft" })] : []),
    spoken);
  const behind = element("details", {}, element("summary", { text: "Numbers as a table" }));
  behind.addEventListener("toggle", () => { if (behind.open && behind.childElementCount === 1) behind.append(table(picture)); });
  place.replaceChildren(figure, behind);
  if (isEmpty(picture)) {
    canvas.append(element("p", { text: "There is no value above 0 to draw here; choose another site or intensity.", className: "soft" }));
    return;
  }
  const again = () => {
    const { box, parts, marks } = SHAPES[picture.shape](picture, Math.max(280, Math.floor(canvas.clientWidth)));
    const drawing = svg("svg", { viewBox: `0 0 ${box.width} ${box.height}`, width: box.width, height: box.height, class: "chart", tabindex: "0", role: "img", "aria-label": summary(picture) }, ...parts);
    canvas.replaceChildren(drawing);
    reader(drawing, marks, box, (text) => { spoken.textContent = text; }, onPick);
  };
  again();
  let width = canvas.clientWidth;
  new ResizeObserver(() => {
    if (canvas.clientWidth === width || !canvas.isConnected) return;
    width = canvas.clientWidth;
    again();
  }).observe(canvas);
}

function summary(picture) {
  const count = tableRows(picture)[1].length;
  const across = picture.shape === "lines" ? `, ${titled(picture.y)} over ${titled(picture.x)}` : "";
  return `${picture.title}${across}; ${count} values. Arrow keys read them one by one; a table follows.`;
}
