"""Pictures of risk: loss curves, losses by tag, damage states."""

from __future__ import annotations

from typing import Any

import numpy as np
from openquake.baselib import hdf5
from openquake.baselib.general import decode

from quakegrid.engine.web.pictures import shapes
from quakegrid.engine.web.pictures.hazard import in_years
from quakegrid.engine.web.pictures.shapes import MOST_OPTIONS, Axis, Choices, Picture

TOTAL = "all assets"
# What exceedance probabilities count.
KINDS = {
    "loss": "any loss",
    "loss_ep": "any loss",
    "loss_aep": "sum of a year",
    "loss_oep": "largest of a year",
}


def loss_curves(store: Any, choices: Choices) -> Picture:
    """Losses by return period, of all assets or of a group; a line for each statistic and kind."""
    group = store["agg_curves-stats"]
    loss_types = sorted(group)
    loss_type = loss_types[choices.index("loss", "Loss", [words(each) for each in loss_types])]
    data = group[loss_type]
    axes = hdf5.get_shape_descr(data.attrs["json"])
    names = _group_names(store, data.shape[0])
    chosen = choices.index("group", "Assets", names)
    values = data[_group_id(chosen, data.shape[0])]
    kinds = [str(each) for each in axes["ep_fields"]]
    series = {
        ", ".join(part for part in (str(stat), KINDS.get(kind, kind) if len(kinds) > 1 else "") if part): (
            axes["return_period"],
            values[s, :, k],
        )
        for s, stat in enumerate(axes["stat"])
        for k, kind in enumerate(kinds)
    }
    title = f"Loss curves, {words(loss_type)}, {names[chosen]}"
    return shapes.lines(title, (Axis("Return period", "years", is_log=True), _loss(store, loss_type)), series)


def asset_loss_curves(store: Any, choices: Choices) -> Picture:
    """The loss curve of one asset, as classical risk has it."""
    data = store["loss_curves-stats"]
    statistics = [str(each) for each in decode(data.attrs["stat"])] if "stat" in data.attrs else ["mean"]
    loss_types = list(data.dtype.names)
    loss_type = loss_types[choices.index("loss", "Loss", [words(each) for each in loss_types])]
    assets = [each.decode() for each in store["assetcol"]["id"][:MOST_OPTIONS]]
    asset = choices.index("asset", "Asset", assets)
    found = data[asset][:]
    series = {
        name: (found[number][loss_type]["losses"], found[number][loss_type]["poes"])
        for number, name in enumerate(statistics[: len(found)])
    }
    years = store["oqparam"].risk_investigation_time or store["oqparam"].investigation_time
    axes = (_loss(store, loss_type), Axis(f"Probability of exceedance{in_years(years)}", is_log=True))
    return shapes.lines(f"Loss curve of asset {assets[asset]}, {words(loss_type)}", axes, series)


def losses_by_tag(store: Any, choices: Choices) -> Picture:
    """Mean losses of assets, summed up by the values of a tag."""
    assets = store["assetcol"]
    kind = "stats" if "avg_losses-stats" in store else "rlzs"
    group = store[f"avg_losses-{kind}"]
    loss_types = sorted(group)
    loss_type = loss_types[choices.index("loss", "Loss", [words(each) for each in loss_types])]
    tags = [name for name in assets.tagcol.tagnames if name != "id"]
    tag = tags[choices.index("tag", "By", tags)]
    losses = group[loss_type][:]
    column = losses[:, 0] if kind == "stats" else losses.mean(axis=1)
    return _by_tag(store, assets, tag, loss_type, column)


def _by_tag(store: Any, assets: Any, tag: str, loss_type: str, losses: Any) -> Picture:
    names = [str(each) for each in getattr(assets.tagcol, tag)]
    sums = np.bincount(assets[tag], weights=losses, minlength=len(names))
    heights = {name: float(height) for name, height in zip(names, sums, strict=True) if name != "?" or height}
    title = f"Mean losses, {words(loss_type)}, by {tag}"
    return shapes.bars(title, tag, _loss(store, loss_type), heights)


def damages(store: Any, choices: Choices) -> Picture:
    """Mean numbers of assets in each state of damage."""
    data = store["damages-stats"]
    fields = [name for name in data.dtype.names if "-" in name]
    loss_types = list(dict.fromkeys(name.partition("-")[0] for name in fields))
    loss_type = loss_types[choices.index("loss", "Loss", [words(each) for each in loss_types])]
    states = ["no_damage", *decode(list(store.get_attr("crm", "limit_states")))]
    found = data[:, 0]
    heights = {
        state.replace("_", " "): float(found[f"{loss_type}-{state}"].sum())
        for state in states
        if f"{loss_type}-{state}" in fields
    }
    title = f"Mean damage, {words(loss_type)}"
    return shapes.bars(title, "State", Axis("Number of buildings"), heights, is_sorted=False)


def words(loss_type: str) -> str:
    """A kind of loss, for people."""
    return loss_type.replace("_", " ").replace("+", " + ")


def _group_names(store: Any, count: int) -> list[str]:
    """What groups of assets are called: all of them first, which upstream stores last."""
    if "agg_keys" not in store:
        return [TOTAL]
    keys = [", ".join(each.split("\t")) for each in decode(store["agg_keys"][: min(count - 1, MOST_OPTIONS)])]
    return [TOTAL, *keys]


def _group_id(chosen: int, count: int) -> int:
    return count - 1 if chosen == 0 else chosen - 1


def _loss(store: Any, loss_type: str) -> Axis:
    """The axis of a kind of loss, in the units of the exposure."""
    units = _units(store)
    return Axis(f"Loss, {words(loss_type)}", units.get(loss_type.partition("+")[0], ""))


def _units(store: Any) -> dict[str, str]:
    try:
        exposure = store["exposure"]
        found = exposure.cost_calculator.units
    except (KeyError, AttributeError):
        return {}
    return {str(name): str(text) for name, text in dict(found).items()}
