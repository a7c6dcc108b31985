"""Which parameters and inputs of two calculations differ: on the command line and on the page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

# What a calculation is called, and where its files were: this changes no result. The contents of inputs are
# compared by themselves, but those of the job file are the parameters.
OWN = frozenset({"base_path", "description", "export_dir", "exports", "hdf5path", "inputs", "job_ini"})

# In place of the contents of an input: it is not there any more, its reader may not read it, the disk gave an
# error, or it is not what was read.
GONE, FORBIDDEN, UNREADABLE = "gone", "no permission to read it", "cannot be read"
CHANGED = "changed since the calculation began"
UNKNOWN = frozenset({GONE, FORBIDDEN, UNREADABLE, CHANGED})


@dataclass(frozen=True, slots=True)
class ParameterDifference:
    """A parameter or input that two calculations do not have in common; None where one does not have it."""

    name: str
    left: str | None
    right: str | None


def differing(left: Mapping[str, str], right: Mapping[str, str]) -> list[ParameterDifference]:
    """The parameters that differ, by name; two values are the same if their texts are.

    Args:
        left: name to value, of one calculation.
        right: of the other.
    """
    names = sorted((left.keys() | right.keys()) - OWN)
    found = (ParameterDifference(name, left.get(name), right.get(name)) for name in names)
    return [each for each in found if each.left != each.right]


def differing_inputs(left: Mapping[str, str], right: Mapping[str, str]) -> list[ParameterDifference]:
    """The inputs whose contents differ, by name.

    What is unknown on both sides is among them: nobody knows whether it was the same.

    Args:
        left: name of a file to its contents in few characters, of one calculation.
        right: of the other.
    """
    names = sorted(left.keys() | right.keys())
    found = (ParameterDifference(name, left.get(name), right.get(name)) for name in names)
    return [each for each in found if each.left != each.right or each.left in UNKNOWN]
