// Scales, ticks, numbers and colours of charts. No document is touched here.

const SUPERSCRIPT = { "-": "⁻", 0: "⁰", 1: "¹", 2: "²", 3: "³", 4: "⁴", 5: "⁵", 6: "⁶", 7: "⁷", 8: "⁸", 9: "⁹" };

/** A number in few characters: 0.00213, 1 250 000, 3.2·10⁻⁷. */
export function number(value) {
  if (value === null || !Number.isFinite(value)) return "none";
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size >= 1e-4 && size < 1e7) {
    const text = size >= 1e4 ? Math.round(value).toString() : Number(value.toPrecision(4)).toString();
    return size >= 1e4 ? text.replace(/\B(?=(\d{3})+(?!\d))/g, "\u202f") : text;
  }
  const exponent = Math.floor(Math.log10(size));
  const mantissa = Number((value / 10 ** exponent).toPrecision(3));
  const power = `10${[...String(exponent)].map((sign) => SUPERSCRIPT[sign]).join("")}`;
  return mantissa === 1 ? power : `${mantissa}·${power}`;
}

/** A label and its unit. */
export const titled = (axis) => (axis.unit ? `${axis.label} [${axis.unit}]` : axis.label);

const flat = (low, high) => (low === high ? [low === 0 ? 0 : low - Math.abs(low) / 2, high === 0 ? 1 : high + Math.abs(high) / 2] : [low, high]);

/** From numbers to places between `from` and `to`. */
export function scale(values, isLog, from, to, { startsAtZero = false } = {}) {
  const known = values.filter((value) => value !== null && (!isLog || value > 0));
  let [low, high] = known.length ? [Math.min(...known.slice(0, 1)), known[0]] : isLog ? [0.1, 1] : [0, 1];
  for (const value of known) {
    if (value < low) low = value;
    if (value > high) high = value;
  }
  if (isLog) return logScale(low, high, from, to);
  if (startsAtZero) low = Math.min(0, low);
  [low, high] = flat(low, high);
  const step = niceStep((high - low) / Math.max(2, Math.abs(to - from) / 70));
  const [first, last] = [Math.floor(low / step + 1e-9) * step, Math.ceil(high / step - 1e-9) * step];
  const place = (value) => from + ((value - first) / (last - first)) * (to - from);
  const ticks = [];
  for (let at = 0; first + at * step <= last + step / 1e6; at += 1) ticks.push(Number((first + at * step).toPrecision(12)));
  return { place, ticks, minor: [], low: first, high: last, isLog: false };
}

function logScale(low, high, from, to) {
  let [first, last] = [Math.log10(low), Math.log10(high)];
  if (last - first < 0.3) [first, last] = [first - 0.3, last + 0.3];
  const pad = (last - first) * 0.02;
  [first, last] = [first - pad, last + pad];
  const place = (value) => from + ((Math.log10(value) - first) / (last - first)) * (to - from);
  const [ticks, minor] = [[], []];
  const stride = Math.max(1, Math.ceil((last - first) / Math.max(2, Math.abs(to - from) / 45)));
  for (let exponent = Math.floor(first); exponent <= Math.ceil(last); exponent += 1) {
    for (let digit = 1; digit < 10; digit += 1) {
      const value = Number(`${digit}e${exponent}`);
      const at = Math.log10(value);
      if (at < first || at > last) continue;
      const isTick = (digit === 1 && exponent % stride === 0) || (last - first < 1.5 && (digit === 2 || digit === 5));
      (isTick ? ticks : minor).push(value);
    }
  }
  return { place, ticks, minor: last - first > 8 ? [] : minor, low: 10 ** first, high: 10 ** last, isLog: true };
}

function niceStep(rough) {
  const power = 10 ** Math.floor(Math.log10(rough));
  const digit = rough / power;
  return (digit > 5 ? 10 : digit > 2 ? 5 : digit > 1 ? 2 : 1) * power;
}

// Viridis: equal steps look equal, also in grey and to people who see colours differently.
const VIRIDIS = [[68, 1, 84], [71, 44, 122], [59, 81, 139], [44, 113, 142], [33, 144, 141], [39, 173, 129], [92, 200, 99], [170, 220, 50], [253, 231, 37]];

/** The colour at a place between 0 and 1. */
export function colour(place) {
  const at = Math.min(1, Math.max(0, place)) * (VIRIDIS.length - 1);
  const index = Math.min(VIRIDIS.length - 2, Math.floor(at));
  const parts = VIRIDIS[index].map((part, channel) => Math.round(part + (VIRIDIS[index + 1][channel] - part) * (at - index)));
  return `rgb(${parts.join(",")})`;
}

/** From values to places between 0 and 1; logarithmic where they span much. */
export function colourScale(values) {
  const known = values.filter((value) => value !== null);
  const positive = known.filter((value) => value > 0);
  const extreme = (list, pick) => list.reduce((one, other) => pick(one, other), list[0] ?? 0);
  const isLog = positive.length > 0 && positive.length === known.length && extreme(positive, Math.max) / extreme(positive, Math.min) > 50;
  const found = scale(known, isLog, 0, 1);
  const [low, high] = [extreme(known, Math.min), extreme(known, Math.max)];
  const span = found.place(high) - found.place(low) || 1;
  const place = (value) => (isLog && value <= 0 ? 0 : (found.place(value) - found.place(low)) / span);
  return { place, low, high, isLog };
}
