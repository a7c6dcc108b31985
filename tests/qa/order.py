"""Which exported files have rows or columns in an order that no run of the engine need repeat, and why.

For these the plain engine's own order differs between two runs, or between two ways to distribute. All else
is compared row by row.
"""

from __future__ import annotations

import fnmatch
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Unordered:
    """Files whose rows may be in any order.

    Args:
        case: pattern of job files.
        file: pattern of exported files.
        reason: why.
    """

    case: str
    file: str
    reason: str


UNORDERED: tuple[Unordered, ...] = ()


def reason(job_file: str, file: str) -> str:
    """Why the rows of a file may be in any order; empty if they may not."""
    for each in UNORDERED:
        if fnmatch.fnmatch(job_file, each.case) and fnmatch.fnmatch(file, each.file):
            return each.reason
    return ""
