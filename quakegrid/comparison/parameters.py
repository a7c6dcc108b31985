"""Which parameters of two calculations differ."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ParameterDifference:
    """A parameter that two calculations do not have in common; None where one does not have it."""

    name: str
    left: str | None
    right: str | None


# What differs between any two calculations, and changes no result.
OWN = frozenset({"export_dir", "description", "exports", "hazard_calculation_id", "inputs", "base_path"})


def differing(
    left: Mapping[str, str], right: Mapping[str, str], without: frozenset[str] = OWN
) -> list[ParameterDifference]:
    """The parameters that differ, by name.

    Args:
        left: name to value, of one calculation.
        right: of the other.
        without: names that are left out.
    """
    names = sorted((left.keys() | right.keys()) - without)
    found = (ParameterDifference(name, left.get(name), right.get(name)) for name in names)
    return [each for each in found if each.left != each.right]
