"""Compares what the plain engine and QuakeGrid made of a job file: equal, refused by both, or different."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

# Our reasons are cut; so much of the engine's words must be in them.
COMPARED_CHARS = 800


class Outcome(StrEnum):
    """What came of a job file."""

    EQUAL = "equal"
    REFUSED = "refused by both with the same words"
    DIFFERENT = "different"
    REFUSED_BY_ONE = "refused by one"


GOOD = (Outcome.EQUAL, Outcome.REFUSED)


@dataclass(frozen=True, slots=True)
class End:
    """How one run of a job file ended.

    Args:
        reason: why it failed; empty if it is complete.
        not_exported: its outputs that could not be exported, by their keys.
        seconds: wall time.
    """

    reason: str = ""
    not_exported: tuple[str, ...] = ()
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of a job file, and what differs."""

    name: str
    outcome: Outcome
    differences: tuple[str, ...] = ()


def judge(name: str, plain: End, ours: End, differences: Sequence[str]) -> Verdict:
    """Compare two runs of a job file.

    Args:
        name: of the job file.
        plain: of the plain engine; its reason has the kind of the error and its words.
        ours: of QuakeGrid.
        differences: between the exported files.
    """
    if bool(plain.reason) != bool(ours.reason):
        who, why = ("the plain engine", plain.reason) if plain.reason else ("QuakeGrid", ours.reason)
        return Verdict(name, Outcome.REFUSED_BY_ONE, (f"only {who}: {why}",))
    found = list(differences)
    if not _is_same_reason(plain.reason, ours.reason):
        found.append(f"the plain engine says: {plain.reason}; QuakeGrid says: {ours.reason}")
    if set(plain.not_exported) != set(ours.not_exported):
        found.append(f"not exported: {sorted(plain.not_exported)} and {sorted(ours.not_exported)}")
    if found:
        return Verdict(name, Outcome.DIFFERENT, tuple(found))
    return Verdict(name, Outcome.REFUSED if plain.reason else Outcome.EQUAL)


def _is_same_reason(plain: str, ours: str) -> bool:
    """Whether our reason has all the words of the plain engine's."""
    words = bare(plain)[:COMPARED_CHARS] or plain.partition(":")[0]  # an error without words has its kind
    return words in bare(ours) or words in ours


def bare(words: str) -> str:
    """The last words of an error, on one line, without the kind of error in front of them.

    Datastores have other numbers and folders on each side.
    """
    if '  File "' in words:  # the engine repeats the traceback of a task
        words = words.strip().rpartition("\n")[2]
    words = re.sub(r"\S*/oqdata/calc_\d+", "calc_N", " ".join(words.split()))
    return re.sub(r"^(\w+(Error|Exit|File|Exception|Warning): ?)+", "", words)


def without_places(words: str, places: Mapping[str, str]) -> str:
    """Words with other names for folders that differ between the two."""
    for place, name in sorted(places.items(), key=lambda item: -len(item[0])):
        words = words.replace(place, name)
    return words
