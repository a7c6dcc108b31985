"""The shapes of pictures: lines, a map, bars, a grid of cells. Each is plain JSON that a page draws.

Depends on numpy only. A picture is bounded: what is more than a screen shows is thinned or summed up, and its
note says so.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

# Of a map; more are not told apart.
MOST_POINTS = 20_000
MOST_LINES = 30
MOST_BARS = 25
MOST_OPTIONS = 2_000
DIGITS = 5

Picture = dict[str, Any]
Numbers = Any


@dataclass(frozen=True, slots=True)
class Axis:
    """An axis, or the colours of a map.

    Args:
        label: what it shows.
        unit: of its numbers; empty for none.
        is_log: whether equal ratios are equally far apart.
    """

    label: str
    unit: str = ""
    is_log: bool = False

    def as_json(self) -> dict[str, Any]:
        """As pages read it."""
        return {"label": self.label, "unit": self.unit, "is_log": self.is_log}


@dataclass(frozen=True, slots=True)
class PictureChoice:
    """What can be chosen for a picture.

    Args:
        name: of the parameter.
        label: for people.
        options: value and label of each.
        value: the chosen one.
    """

    name: str
    label: str
    options: Sequence[tuple[str, str]]
    value: str

    def as_json(self) -> dict[str, Any]:
        """As pages read it."""
        options = [list(each) for each in self.options[:MOST_OPTIONS]]
        return {"name": self.name, "label": self.label, "options": options, "value": self.value}


@dataclass(slots=True)
class Choices:
    """Choices of one picture, each with a value: the asked one, or the first.

    Args:
        asked: parameter to value, as a page sends them.
    """

    asked: Mapping[str, str]
    made: list[PictureChoice] = field(default_factory=list)

    def index(self, name: str, label: str, labels: Iterable[object], first: int = 0) -> int:
        """Let one of a list be chosen; its position.

        Args:
            name: of the parameter.
            label: for people.
            labels: of the list.
            first: the position that counts where none was asked for, or none of the list.
        """
        options = [(str(number), str(text)) for number, text in enumerate(labels)]
        asked = self.asked.get(name, "")
        is_known = asked.isascii() and asked.isdigit() and len(asked) < 10 and int(asked) < len(options)
        value = str(int(asked)) if is_known else str(min(first, max(0, len(options) - 1)))
        if len(options) > 1:
            self.made.append(PictureChoice(name, label, options, value))
        return int(value)

    def as_json(self) -> list[dict[str, Any]]:
        """As pages read them."""
        return [choice.as_json() for choice in self.made]


def lines(title: str, axes: tuple[Axis, Axis], series: Mapping[str, tuple[Numbers, Numbers]]) -> Picture:
    """Lines over one pair of axes; points that a logarithmic axis cannot have are left out."""
    found = []
    for name, (xs, ys) in list(series.items())[:MOST_LINES]:
        points = [
            (x, y)
            for x, y in zip(_numbers(xs), _numbers(ys), strict=True)
            if _fits(x, axes[0]) and _fits(y, axes[1])
        ]
        found.append({"name": name, "x": [x for x, _ in points], "y": [y for _, y in points]})
    note = f"the first {MOST_LINES} of {len(series)} lines" if len(series) > MOST_LINES else ""
    return _picture("lines", title, note) | {
        "x": axes[0].as_json(),
        "y": axes[1].as_json(),
        "series": found,
    }


def points(title: str, value: Axis, lons: Numbers, lats: Numbers, values: Numbers) -> Picture:
    """Coloured points on a map."""
    step = max(1, math.ceil(len(lons) / MOST_POINTS))
    note = f"every {step}th of {len(lons)} sites" if step > 1 else ""
    return _picture("points", title, note) | {
        "value": value.as_json(),
        "lon": [round(float(lon), 5) for lon in lons[::step]],
        "lat": [round(float(lat), 5) for lat in lats[::step]],
        "values": _numbers(values[::step]),
    }


def bars(
    title: str, label: str, value: Axis, heights: Mapping[str, float], *, is_sorted: bool = True
) -> Picture:
    """Bars, the longest first unless their order means something; small ones are summed up."""
    pairs = [(name, float(height)) for name, height in heights.items()]
    if is_sorted:
        pairs.sort(key=lambda pair: -pair[1])
    rest = pairs[MOST_BARS:]
    note = ""
    if rest and is_sorted:
        pairs = [*pairs[:MOST_BARS], (f"{len(rest)} others", sum(height for _, height in rest))]
        note = f"{len(rest)} smaller ones are summed up"
    return _picture("bars", title, note) | {
        "label": label,
        "value": value.as_json(),
        "names": [name for name, _ in pairs],
        "heights": _numbers([height for _, height in pairs]),
    }


def cells(
    title: str, axes: tuple[Axis, Axis, Axis], names: tuple[Sequence[str], Sequence[str]], values: Numbers
) -> Picture:
    """A grid of coloured cells.

    Args:
        title: of the picture.
        axes: across, up, and of the colours.
        names: of the columns and the rows.
        values: shape (columns, rows).
    """
    across, up, colour = axes
    return _picture("cells", title) | {
        "x": across.as_json(),
        "y": up.as_json(),
        "value": colour.as_json(),
        "columns": list(names[0]),
        "rows": list(names[1]),
        "values": [_numbers(column) for column in values],
    }


def _picture(shape: str, title: str, note: str = "") -> Picture:
    return {"shape": shape, "title": title, "note": note}


def _numbers(values: Numbers) -> list[float | None]:
    """Plain numbers of a few digits; None for what is none."""
    return [_number(value) for value in np.asarray(values, dtype=float).tolist()]


def _number(value: float) -> float | None:
    return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None


def _fits(value: float | None, axis: Axis) -> bool:
    return value is not None and (value > 0 or not axis.is_log)
