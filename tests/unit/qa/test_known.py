"""Files that are not compared as all others."""

from __future__ import annotations

from tests.engine.exports import Rule
from tests.qa import known


def test_known_file_has_its_rule_and_all_others_the_usual_one() -> None:
    """By job file and exported file."""
    job_file, file = "event_based_damage/case_16/job.ini", "avg_risk-rlz-000.csv"

    assert known.rule_of("3.26.2", job_file, file) == Rule(rtol=1e-4)
    assert known.rule_of("3.26.2", "event_based_damage/case_15/job.ini", file) == Rule()
    assert known.rule_of("3.26.2", job_file, "risk_by_event.csv") == Rule(has_order=False)
    assert known.rule_of("3.26.2", job_file, "events.csv") == Rule()


def test_rule_may_hold_for_one_version_of_the_engine() -> None:
    """All others stay strict."""
    job_file, file = "scenario_damage/case_3/job.ini", "sitemesh.csv"

    assert known.rule_of("3.23.5", job_file, file) == Rule(is_remnant=True)
    assert known.rule_of("3.24.1", job_file, file) == Rule()
    assert known.rule_of("3.230.1", job_file, file) == Rule()


def test_every_known_file_has_a_reason() -> None:
    """In a sentence at least."""
    assert all(each.reason.endswith(".") for each in known.KNOWN)
