"""Draws the pictures of calculations, as the web pages show them, into files: lines, maps, bars, cells.

A picture is numbers, as the engine's side of QuakeGrid makes them. Uses matplotlib, which comes with the
engine; imports it only when a figure is drawn.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from quakegrid import errors

FORMATS = ("png", "svg", "pdf")
# A map with more points has small ones.
_MANY_POINTS = 400


def draw(picture: dict[str, Any], path: Path) -> None:
    """Draw a picture into a file, whole or not at all; its suffix says the format.

    Args:
        picture: as `engine/web/pictures/shapes.py` makes it.
        path: is replaced if it exists.
    Raises:
        EngineMissingError: matplotlib is not installed.
        OSError: the file cannot be written.
    """
    try:
        from matplotlib.figure import Figure  # noqa: PLC0415 - heavy, and not always there
    except ImportError:
        raise errors.EngineMissingError(
            "figures need matplotlib, which comes with the engine: pip install matplotlib; "
            "--json prints the numbers without it"
        ) from None
    figure = Figure(figsize=(8.0, 5.2), layout="constrained", dpi=150)
    panel = figure.subplots()
    _SHAPES[picture["shape"]](figure, panel, picture)
    note = picture.get("note", "")
    panel.set_title(picture["title"] + (f"\n({note})" if note else ""))
    part = path.with_name(f".{path.name}.part")
    try:
        figure.savefig(part, format=path.suffix[1:])
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def label(axis: dict[str, Any]) -> str:
    """What an axis shows, with its unit."""
    return f"{axis['label']} ({axis['unit']})" if axis["unit"] else str(axis["label"])


def _lines(_figure: Any, panel: Any, picture: dict[str, Any]) -> None:
    for series in picture["series"]:
        panel.plot(series["x"], series["y"], marker="o", markersize=3, label=series["name"])
    for axis, of_axis in (("x", panel.set_xscale), ("y", panel.set_yscale)):
        if picture[axis]["is_log"]:
            of_axis("log")
    panel.set_xlabel(label(picture["x"]))
    panel.set_ylabel(label(picture["y"]))
    panel.grid(visible=True, which="both", alpha=0.3)
    if len(picture["series"]) > 1:
        panel.legend()


def _points(figure: Any, panel: Any, picture: dict[str, Any]) -> None:
    size = 12 if len(picture["lon"]) > _MANY_POINTS else 60
    dots = panel.scatter(picture["lon"], picture["lat"], c=_plain(picture["values"]), s=size, cmap="YlOrRd")
    dots.set_edgecolor("0.4")
    dots.set_linewidth(0.3)
    figure.colorbar(dots, label=label(picture["value"]))
    panel.set_xlabel("Longitude (°)")
    panel.set_ylabel("Latitude (°)")
    middle = (min(picture["lat"]) + max(picture["lat"])) / 2 if picture["lat"] else 0.0
    panel.set_aspect(1 / max(0.1, math.cos(math.radians(middle))), adjustable="datalim")


def _bars(_figure: Any, panel: Any, picture: dict[str, Any]) -> None:
    panel.barh(picture["names"], _plain(picture["heights"]))
    panel.invert_yaxis()
    panel.set_ylabel(picture["label"])
    panel.set_xlabel(label(picture["value"]))
    panel.grid(visible=True, axis="x", alpha=0.3)


def _cells(figure: Any, panel: Any, picture: dict[str, Any]) -> None:
    rows = list(zip(*map(_plain, picture["values"]), strict=True))  # a row for each of `rows`
    image = panel.imshow(rows, origin="lower", aspect="auto", cmap="YlOrRd")
    figure.colorbar(image, label=label(picture["value"]))
    for names, ticks, of_axis in (
        (picture["columns"], panel.set_xticks, "x"),
        (picture["rows"], panel.set_yticks, "y"),
    ):
        ticks(range(len(names)), names, rotation=60 if of_axis == "x" else 0, fontsize=7)
    panel.set_xlabel(label(picture["x"]))
    panel.set_ylabel(label(picture["y"]))


def _plain(values: list[float | None]) -> list[float]:
    """Numbers; what is none leaves a gap."""
    return [math.nan if value is None else value for value in values]


_SHAPES: dict[str, Callable[[Any, Any, dict[str, Any]], None]] = {
    "lines": _lines,
    "points": _points,
    "bars": _bars,
    "cells": _cells,
}
