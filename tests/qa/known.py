"""Exported files that differ between two runs of the plain engine itself or belong to no output, and why.

Runs that differ distribute their tasks otherwise, or their tasks end in another order. All other files are
compared row by row, and numbers within the relative tolerance of `exports.RTOL`.
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
        engine: with this version alone; empty for all.
    """

    case: str
    file: str
    rule: Rule
    reason: str
    engine: str = ""


KNOWN = (
    Known(
        "*",
        "risk_by_event*.csv",
        Rule(has_order=False),
        "The engine sorts by loss; events with the same loss stay in the order in which their tasks ended.",
    ),
    Known(
        "event_based_damage/case_16/*",
        "avg_risk-*.csv",
        Rule(rtol=1e-4),
        "The engine adds up all events in single precision, in the order in which their ground motion came. "
        "Runs of the plain engine with and without its processpool differ, too.",
    ),
    Known(
        "disagg/case_1/*",
        "mean_rates_by_src-*.csv",
        Rule(rtol=1e-4),
        "The rates of engine 3.24 depend a little on the number of tasks: the plain engine gives 5.83381E-02 "
        "for one and 5.83389E-02 for four.",
        engine="3.24",
    ),
    Known(
        "scenario_damage/case_3/*",
        "sitemesh.csv",
        Rule(is_remnant=True),
        "Engine 3.23 cannot export the ground motion here. It has written this file before it fails.",
        engine="3.23",
    ),
    Known(
        "scenario_risk/case_2/*",
        "sitemesh.csv",
        Rule(is_remnant=True),
        "As in scenario_damage/case_3.",
        engine="3.23",
    ),
)


def rule_of(engine: str, job_file: str, file: str) -> Rule:
    """How to compare an exported file.

    Args:
        engine: its version, as 3.24.1.
        job_file: the calculation's, below the test data.
        file: its name without the calculation's number.
    """
    for each in KNOWN:
        is_of_engine = not each.engine or engine.startswith(f"{each.engine}.")
        if is_of_engine and fnmatch.fnmatch(job_file, each.case) and fnmatch.fnmatch(file, each.file):
            return each.rule
    return Rule()
