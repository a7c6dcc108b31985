"""All pictures, which of them a calculation has, and one of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from quakegrid import errors
from quakegrid.engine.web.pictures import hazard, risk
from quakegrid.engine.web.pictures.shapes import Choices, Picture


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of picture.

    Args:
        label: for people.
        has: whether a datastore has what it takes.
        make: makes it.
    """

    label: str
    has: Callable[[Any], bool]
    make: Callable[[Any, Choices], Picture]


def _has(*names: str) -> Callable[[Any], bool]:
    return lambda store: any(name in store for name in names)


def _has_spectra(store: Any) -> bool:
    oqparam = store["oqparam"]
    has_maps = _has("hmaps-stats", "hmaps-rlzs")(store)
    return has_maps and len(oqparam.poes) > 0 and len(hazard.spectral_periods(oqparam.imtls)) > 1


def _has_tags(store: Any) -> bool:
    return _has("avg_losses-stats", "avg_losses-rlzs")(store) and len(store["assetcol"].tagcol.tagnames) > 0


KINDS: dict[str, Kind] = {
    "hazard-map": Kind("Hazard map", _has("hmaps-stats", "hmaps-rlzs"), hazard.hazard_map),
    "hazard-curves": Kind("Hazard curves", _has("hcurves-stats", "hcurves-rlzs"), hazard.curves),
    "spectra": Kind("Uniform hazard spectra", _has_spectra, hazard.spectra),
    "disaggregation": Kind(
        "Disaggregation", lambda store: bool(hazard.disaggregated(store)[1]), hazard.disaggregation
    ),
    "ground-motion": Kind("Ground motion", _has("avg_gmf"), hazard.ground_motion),
    "loss-curves": Kind("Loss curves", _has("agg_curves-stats"), risk.loss_curves),
    "asset-loss-curves": Kind("Loss curves of assets", _has("loss_curves-stats"), risk.asset_loss_curves),
    "losses": Kind("Losses by tag", _has_tags, risk.losses_by_tag),
    "damages": Kind("Damage", _has("damages-stats"), risk.damages),
}


def listed(store: Any) -> list[dict[str, str]]:
    """The pictures that a calculation has: kind and label."""
    return [{"kind": name, "label": kind.label} for name, kind in KINDS.items() if kind.has(store)]


def make(store: Any, name: str, asked: Mapping[str, str]) -> Picture:
    """One picture.

    Args:
        store: the datastore.
        name: its kind.
        asked: what was chosen for it.
    Raises:
        NotFoundError: the calculation has no such picture.
    """
    kind = KINDS.get(name)
    if kind is None or not kind.has(store):
        raise errors.NotFoundError(f"this calculation has no picture {name[:80]!a}")
    choices = Choices(asked)
    picture = kind.make(store, choices)
    return picture | {"kind": name, "choices": choices.as_json()}
