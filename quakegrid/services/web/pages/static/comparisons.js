// Two pictures of the same kind as one: lines side by side, maps and cells by their differences.

const differs = (axis, id) => ({ ...axis, label: `${axis.label}, less that of calculation ${id}`, is_log: false });
const minus = (one, other) => (one === null || other === null || other === undefined ? null : one - other);

/** The picture of a calculation, compared with that of another; or words why it cannot be. */
export function combined(own, other, ownId, otherId) {
  const title = `${own.title}, compared with calculation ${otherId}`;
  if (own.shape === "lines") {
    const named = (picture, id) => picture.series.map((series) => ({ ...series, name: `${id}: ${series.name}` }));
    return { ...own, title, series: [...named(own, ownId), ...named(other, otherId)] };
  }
  if (own.shape === "bars") {
    const theirs = new Map(other.names.map((name, at) => [name, other.heights[at]]));
    const names = [...new Set([...own.names, ...other.names])];
    const ours = new Map(own.names.map((name, at) => [name, own.heights[at]]));
    return {
      ...own, title,
      names: names.flatMap((name) => [`${name} (${ownId})`, `${name} (${otherId})`]),
      heights: names.flatMap((name) => [ours.get(name) ?? 0, theirs.get(name) ?? 0]),
    };
  }
  if (own.shape === "points") {
    const places = new Map(other.lon.map((lon, at) => [`${lon} ${other.lat[at]}`, other.values[at]]));
    const values = own.lon.map((lon, at) => minus(own.values[at], places.get(`${lon} ${own.lat[at]}`)));
    if (values.every((value) => value === null)) return `calculation ${otherId} has no site of this one`;
    return { ...own, title, value: differs(own.value, otherId), values };
  }
  const isSame = String(own.columns) === String(other.columns) && String(own.rows) === String(other.rows);
  if (!isSame) return `calculation ${otherId} has other bins`;
  return { ...own, title, value: differs(own.value, otherId), values: own.values.map((column, at) => column.map((value, up) => minus(value, other.values[at][up]))) };
}
