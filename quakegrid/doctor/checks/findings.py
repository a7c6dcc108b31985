"""Findings of a doctor: values that say what is wrong, its effect and how to fix it."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass


class Severity(enum.StrEnum):
    """What a finding means for a calculation, the worst first.

    BREAKS: a calculation fails, or a node that shall take part in it does not.
    """

    BREAKS = "breaks"
    SLOWS = "slows"
    NOTE = "note"
    OK = "ok"


_ORDER = list(Severity)


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check on one node; `breaks` and `remedy` are empty if all is fine."""

    check: str
    severity: Severity
    node: str
    what: str
    breaks: str = ""
    remedy: str = ""


def fine(check: str, node: str, what: str) -> Finding:
    """The finding of a check that found nothing wrong."""
    return Finding(check, Severity.OK, node, what)


def in_order(findings: Iterable[Finding]) -> list[Finding]:
    """The worst first, in their order otherwise."""
    return sorted(findings, key=lambda finding: _ORDER.index(finding.severity))


def would_break(findings: Iterable[Finding]) -> bool:
    """Whether anything would break a calculation."""
    return any(finding.severity is Severity.BREAKS for finding in findings)
