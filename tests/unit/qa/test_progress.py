"""What a run of the QA data counts."""

from __future__ import annotations

import pytest

from tests.qa.progress import Progress
from tests.qa.verdicts import Outcome, Verdict


def test_outcomes_are_counted_and_told_when_they_differ(capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever is not equal, or refused alike, makes the run fail."""
    progress = Progress(5)
    progress.add(Verdict("a/job.ini", Outcome.EQUAL))
    progress.add(Verdict("b/job.ini", Outcome.REFUSED))
    assert progress.exit_code == 0
    for name, outcome in (("c/job.ini", Outcome.DIFFERENT), ("d/job.ini", Outcome.REFUSED_BY_ONE)):
        progress.add(Verdict(name, outcome, ("curves.csv: row 2",)))

    figures = progress.figures("3.26.2 whole")

    assert progress.exit_code == 1
    assert [(figure.name, figure.value) for figure in figures[:3]] == [
        ("3.26.2 whole: equal", 1),
        ("3.26.2 whole: refused alike", 1),
        ("3.26.2 whole: different", 2),
    ]
    assert [figure.is_short for figure in figures] == [False, False, True, False]
    assert capsys.readouterr().out.count("row 2") == 2
