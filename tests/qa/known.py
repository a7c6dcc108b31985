"""Exported files that differ between two runs of the plain engine itself, and why.

Such runs distribute their tasks otherwise, or their tasks end in another order. All other files are compared
row by row, and numbers within the relative tolerance of `exports.RTOL`.
"""

from __future__ import annotations

import fnmatch
from dataclasses import dataclass

from tests.engine.exports import Rule


@dataclass(frozen=True, slots=True)
class Known:
    """Files that are compared by a rule of their own.

    Args:
        case: pattern of job files.
        file: pattern of exported files.
        rule: how to compare them.
        reason: why they may differ.
    """

    case: str
    file: str
    rule: Rule
    reason: str


KNOWN = (
    Known(
        "event_based_damage/case_16/*",
        "avg_risk-*.csv",
        Rule(rtol=1e-4),
        "The engine adds up all events in single precision, in the order in which their ground motion came. "
        "Runs of the plain engine with and without its processpool differ, too.",
    ),
)


def rule_of(job_file: str, file: str) -> Rule:
    """How to compare an exported file."""
    for each in KNOWN:
        if fnmatch.fnmatch(job_file, each.case) and fnmatch.fnmatch(file, each.file):
            return each.rule
    return Rule()
