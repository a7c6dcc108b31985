"""What the demo has computed: a map, curves and losses, read from the engine's CSV files and drawn together.

Each file has a `#` line of metadata, then columns. Imports matplotlib only to draw.
"""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quakegrid.cli.views.hazard_curves import HazardCurves

SHOWN_TOWNS = 4


@dataclass(frozen=True, slots=True)
class Town:
    """A town: degrees, the acceleration of the map there in g, and the mean loss in `HazardCurves.years`."""

    name: str
    lon: float
    lat: float
    acceleration_g: float
    loss: float


@dataclass(frozen=True, slots=True)
class HazardMap:
    """Acceleration in g at each site (lon, lat), in degrees."""

    sites: tuple[tuple[float, float], ...]
    values: tuple[float, ...]

    def near(self, lon: float, lat: float) -> int:
        """The index of the site that is nearest, for a region of some degrees."""
        return min(
            range(len(self.sites)),
            key=lambda index: (self.sites[index][0] - lon) ** 2 + (self.sites[index][1] - lat) ** 2,
        )


def read_map(path: Path) -> HazardMap:
    """Read an exported hazard map with one column of values."""
    rows = _rows(path)
    (column,) = set(rows[0]) - {"lon", "lat"}
    return HazardMap(
        sites=tuple((float(row["lon"]), float(row["lat"])) for row in rows),
        values=tuple(float(row[column]) for row in rows),
    )


def read_towns(path: Path, hazard: HazardMap) -> list[Town]:
    """Read exported mean losses of assets, and add them up for each town, the largest first."""
    losses: dict[str, float] = defaultdict(float)
    places: dict[str, tuple[float, float]] = {}
    for row in _rows(path):
        losses[row["town"]] += float(row["structural"])
        places[row["town"]] = float(row["lon"]), float(row["lat"])
    towns = [
        Town(name, *places[name], hazard.values[hazard.near(*places[name])], loss)
        for name, loss in losses.items()
    ]
    return sorted(towns, key=lambda town: -town.loss)


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        file.readline()
        return list(csv.DictReader(file))


def draw(hazard: HazardMap, curves: HazardCurves, towns: Sequence[Town], path: Path) -> bool:
    """Draw map, curves and losses side by side as a PNG.

    Returns:
        False when matplotlib is not installed; nothing is written then.
    """
    try:
        from matplotlib.figure import Figure  # noqa: PLC0415 - heavy, and not always there
    except ImportError:
        return False
    figure = Figure(figsize=(15, 4.6), layout="constrained", dpi=120)
    left, middle, right = figure.subplots(1, 3, width_ratios=(1.25, 1, 0.9))
    _draw_map(figure, left, hazard, towns)
    _draw_curves(middle, hazard, curves, towns)
    _draw_losses(right, curves, towns)
    figure.savefig(path)
    return True


def _draw_map(figure: Any, panel: Any, hazard: HazardMap, towns: Sequence[Town]) -> None:
    lons, lats = zip(*hazard.sites, strict=True)
    shades = panel.tricontourf(lons, lats, hazard.values, levels=14, cmap="YlOrRd")
    figure.colorbar(shades, ax=panel, label="PGA (g)")
    panel.scatter([town.lon for town in towns], [town.lat for town in towns], s=12, color="black")
    for town in towns:
        panel.annotate(town.name, (town.lon, town.lat), xytext=(4, 3), textcoords="offset points", fontsize=8)
    panel.set_title("PGA with a probability of 10 % in 50 years")
    panel.set_xlabel("Longitude (°E)")
    panel.set_ylabel("Latitude (°N)")


def _draw_curves(panel: Any, hazard: HazardMap, curves: HazardCurves, towns: Sequence[Town]) -> None:
    for town in towns[:SHOWN_TOWNS]:
        poes = curves.poes[hazard.near(town.lon, town.lat)]
        # A logarithmic axis has no place for zero.
        points = [(level, poe) for level, poe in zip(curves.levels, poes, strict=True) if poe > 1e-5]
        panel.loglog(*zip(*points, strict=True), marker="o", markersize=3, label=town.name)
    panel.axhline(0.1, color="grey", linestyle=":", linewidth=1)
    panel.grid(visible=True, which="both", alpha=0.3)
    panel.set_title("Hazard curves")
    panel.set_xlabel("PGA (g)")
    panel.set_ylabel(f"Probability of exceedance in {curves.years:g} years")
    panel.legend()


def _draw_losses(panel: Any, curves: HazardCurves, towns: Sequence[Town]) -> None:
    shown = list(reversed(towns))
    panel.barh([town.name for town in shown], [town.loss / 1e6 for town in shown], color="#9e2a2b")
    panel.set_title(f"Mean loss in {curves.years:g} years")
    panel.set_xlabel("Million EUR")
