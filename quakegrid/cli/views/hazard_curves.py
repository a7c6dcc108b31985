"""The engine's hazard curve CSVs: read them, draw them.

The file has a `#` line of metadata, then columns lon, lat, depth and a `poe-<level>` column for each level.
Imports matplotlib only to draw.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quakegrid import errors


@dataclass(frozen=True, slots=True)
class HazardCurves:
    """Curves of one intensity measure type at some sites.

    `sites` are (lon, lat), degrees; `levels` ascend, in the unit of `imt`; `poes` has a row a site and a
    column a level: probability of exceedance in `years`.
    """

    imt: str
    years: float
    sites: tuple[tuple[float, float], ...]
    levels: tuple[float, ...]
    poes: tuple[tuple[float, ...], ...]


def read_curves(path: Path) -> HazardCurves:
    """Read one exported file.

    Raises:
        QuakeGridError: it is not a hazard curve CSV of the engine.
    """
    with path.open(newline="", encoding="utf-8") as file:
        metadata = file.readline()
        rows = list(csv.DictReader(file))
    imt = re.search(r"imt='([^']+)'", metadata)
    years = re.search(r"investigation_time=([0-9.eE+-]+)", metadata)
    if not (metadata.startswith("#") and imt and years and rows):
        raise errors.QuakeGridError(f"{path} is not a hazard curve file of the engine")
    columns = [name for name in rows[0] if name.startswith("poe-")]
    return HazardCurves(
        imt=imt[1],
        years=float(years[1]),
        sites=tuple((float(row["lon"]), float(row["lat"])) for row in rows),
        levels=tuple(float(name.removeprefix("poe-")) for name in columns),
        poes=tuple(tuple(float(row[name]) for name in columns) for row in rows),
    )


def unit(imt: str) -> str:
    """The unit of an intensity measure type's levels; empty for those that we do not know."""
    if imt == "PGV":
        return "cm/s"
    return "g" if imt == "PGA" or imt.startswith("SA(") else ""


def draw(curves: Sequence[HazardCurves], path: Path) -> bool:
    """Draw the curves as a PNG, a panel an intensity measure type, logarithmic both ways.

    Returns:
        False when matplotlib is not installed; nothing is written then.
    """
    try:
        from matplotlib.figure import Figure  # noqa: PLC0415 - heavy, and not always there
    except ImportError:
        return False
    figure = Figure(figsize=(5.2 * len(curves), 4.2), layout="constrained", dpi=150)
    panels: list[Any] = list(figure.subplots(1, len(curves), sharey=True, squeeze=False).flat)
    for panel, curve in zip(panels, curves, strict=True):
        for (lon, lat), values in zip(curve.sites, curve.poes, strict=True):
            # A logarithmic axis has no place for zero.
            points = [(level, poe) for level, poe in zip(curve.levels, values, strict=True) if poe > 0]
            if points:
                panel.loglog(*zip(*points, strict=True), marker="o", label=f"{lon:g}°E {lat:g}°N")
        in_unit = f" ({unit(curve.imt)})" if unit(curve.imt) else ""
        panel.set_xlabel(f"Ground motion, {curve.imt}{in_unit}")
        if max(curve.levels) < 20 * min(
            curve.levels
        ):  # within a decade or so there is room for plain numbers
            panel.xaxis.set_major_formatter("{x:g}")
            panel.xaxis.set_minor_formatter("{x:g}")
        panel.grid(visible=True, which="both", alpha=0.3)
        panel.set_title(f"Mean hazard curves, {curve.imt}")
    years = f"{curves[0].years:g} year" + ("" if curves[0].years == 1 else "s")
    panels[0].set_ylabel(f"Probability of exceedance in {years}")
    panels[-1].legend(title="Site")
    figure.savefig(path)
    return True
