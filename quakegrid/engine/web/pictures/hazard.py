"""Pictures of hazard: curves, spectra, maps, disaggregation, mean ground motion."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from openquake.baselib import hdf5

from quakegrid.engine.web.pictures import shapes
from quakegrid.engine.web.pictures.shapes import Axis, Choices, Picture

# Of intensity measures whose unit is not g.
UNITS = {"PGV": "cm/s", "PGD": "cm", "MMI": "", "IA": "m/s", "CAV": "g s", "RSD": "s", "LSE": ""}
_SPECTRAL = re.compile(r"SA\(([0-9.]+)\)")
# Bins of a disaggregation: what they are, in which unit.
BINS = {
    "Mag": Axis("Magnitude"),
    "Dist": Axis("Distance", "km"),
    "Lon": Axis("Longitude", "°"),
    "Lat": Axis("Latitude", "°"),
    "Eps": Axis("Epsilon"),
    "TRT": Axis("Tectonic region"),
}


def unit(imt: str) -> str:
    """Of an intensity measure."""
    return UNITS.get(imt.partition("(")[0], "g")


def curves(store: Any, choices: Choices) -> Picture:
    """Hazard curves of one site and one intensity measure: a line for each statistic or realization."""
    oqparam = store["oqparam"]
    values, names = _statistics(store, "hcurves")
    imts = list(oqparam.imtls)
    imt = imts[choices.index("imt", "Intensity", imts)]
    most = int(np.argmax(values[:, 0, imts.index(imt), 0]))
    site = choices.index("site", "Site", site_names(store), most)
    axes = (Axis(imt, unit(imt), is_log=True), _probability(oqparam))
    found = values[site, :, imts.index(imt), :]
    series = {name: (oqparam.imtls[imt], found[number]) for number, name in enumerate(names)}
    return shapes.lines(f"Hazard curves, {imt}", axes, series)


def spectra(store: Any, choices: Choices) -> Picture:
    """Uniform hazard spectra of one site: a line for each probability."""
    oqparam = store["oqparam"]
    values, names = _statistics(store, "hmaps")
    periods = spectral_periods(oqparam.imtls)
    most = int(np.argmax(values[:, 0, periods[0][1], 0]))
    site = choices.index("site", "Site", site_names(store), most)
    statistic = choices.index("stat", "Statistic", names)
    found = values[site, statistic]
    series = {
        _poe_words(oqparam, poe): ([s for s, _ in periods], [found[m, p] for _, m in periods])
        for p, poe in enumerate(oqparam.poes)
    }
    axes = (Axis("Period", "s"), Axis("Spectral acceleration", "g"))
    return shapes.lines("Uniform hazard spectra", axes, series)


def spectral_periods(imtls: Any) -> list[tuple[float, int]]:
    """Periods in seconds and positions of spectral accelerations, shortest first; PGA counts as 0 s."""
    found = []
    for position, imt in enumerate(imtls):
        match = _SPECTRAL.fullmatch(imt)
        if match or imt == "PGA":
            found.append((float(match[1]) if match else 0.0, position))
    return sorted(found)


def hazard_map(store: Any, choices: Choices) -> Picture:
    """A map of the ground motion that is exceeded with a probability."""
    oqparam = store["oqparam"]
    values, names = _statistics(store, "hmaps")
    imts = list(oqparam.imtls)
    imt = imts[choices.index("imt", "Intensity", imts)]
    poe = choices.index("poe", "Probability", [_poe_words(oqparam, each) for each in oqparam.poes])
    statistic = choices.index("stat", "Statistic", names)
    lons, lats = _places(store)
    found = values[:, statistic, imts.index(imt), poe]
    title = f"Hazard map, {imt}, {_poe_words(oqparam, oqparam.poes[poe])}"
    return shapes.points(title, Axis(imt, unit(imt)), lons, lats, found)


def ground_motion(store: Any, choices: Choices) -> Picture:
    """A map of the geometric mean of ground motion over all events."""
    imts = list(store["oqparam"].imtls)
    imt = imts[choices.index("imt", "Intensity", imts)]
    lons, lats = _places(store)
    found = store["avg_gmf"][0, :, imts.index(imt)]
    return shapes.points(f"Mean ground motion, {imt}", Axis(imt, unit(imt)), lons, lats, found)


def disaggregation(store: Any, choices: Choices) -> Picture:
    """What contributes to the hazard at one site: by one kind of bins as bars, by two as cells."""
    oqparam, (spec, labels) = store["oqparam"], disaggregated(store)
    label = labels[choices.index("by", "By", [_bin_words(each) for each in labels])]
    site = choices.index("site", "Site", site_names(store))
    imts = list(oqparam.imtls)
    imt = choices.index("imt", "Intensity", imts)
    data = store[f"disagg-{spec}/{label}"][site]
    poes = [_poe_words(oqparam, poe) for poe in oqparam.poes] or ["given level"] * data.shape[-2]
    poe = choices.index("poe", "Probability", poes)
    values = data[..., imt, poe, :].mean(axis=-1)
    parts = label.split("_")
    names = [_bins(store, part, site) for part in parts]
    title = f"Disaggregation by {_bin_words(label)}, {imts[imt]}, {poes[poe]}"
    contribution = Axis("Probability of exceedance")
    if len(parts) == 1:
        heights = dict(zip(names[0], values.tolist(), strict=True))
        return shapes.bars(title, BINS[parts[0]].label, contribution, heights, is_sorted=False)
    axes = (BINS[parts[0]], BINS[parts[1]], contribution)
    return shapes.cells(title, axes, (names[0], names[1]), values)


def disaggregated(store: Any) -> tuple[str, list[str]]:
    """Whether statistics or realizations are stored, and the kinds of bins with one or two dimensions."""
    spec = "stats" if "disagg-stats" in store else "rlzs"
    if f"disagg-{spec}" not in store:
        return spec, []
    found = [label for label in store[f"disagg-{spec}"] if all(part in BINS for part in label.split("_"))]
    return spec, sorted((label for label in found if label.count("_") < 2), key=lambda each: each.count("_"))


def _bin_words(label: str) -> str:
    return " and ".join(BINS[part].label.lower() for part in label.split("_"))


def site_names(store: Any) -> list[str]:
    """Sites by place, as many as can be chosen."""
    lons, lats = _places(store)
    count = min(len(lons), shapes.MOST_OPTIONS)
    return [f"{lons[number]:.4f}, {lats[number]:.4f}" for number in range(count)]


def _places(store: Any) -> tuple[Any, Any]:
    sites = store["sitecol"]
    return sites.lons, sites.lats


def _statistics(store: Any, name: str) -> tuple[Any, list[str]]:
    """Values of all statistics, or of all realizations where there are none; and what these are called."""
    if f"{name}-stats" in store:
        data = store[f"{name}-stats"]
        return data, [str(each) for each in hdf5.get_shape_descr(data.attrs["json"])["stat"]]
    data = store[f"{name}-rlzs"]
    return data, [f"realization {number}" for number in range(data.shape[1])]


def _probability(oqparam: Any) -> Axis:
    years = oqparam.investigation_time
    return Axis(f"Probability of exceedance{in_years(years)}", is_log=True)


def _poe_words(oqparam: Any, poe: float) -> str:
    return f"{poe * 100:.3g} %{in_years(oqparam.investigation_time)}"


def in_years(years: float | None) -> str:
    """Within which time, with a space before it; empty if a calculation has none."""
    if not years:
        return ""
    return " in 1 year" if years == 1 else f" in {years:g} years"


def _bins(store: Any, name: str, site: int) -> list[str]:
    """What the bins of a disaggregation are called: from which number to which, or a name."""
    edges = store[f"disagg-bins/{name}"]
    found = edges[site] if len(edges.shape) == 2 else edges[:]
    if found.dtype.kind == "S":
        return [each.decode() for each in found]
    return [f"{low:.4g} to {high:.4g}" for low, high in zip(np.asarray(found)[:-1], found[1:], strict=True)]
