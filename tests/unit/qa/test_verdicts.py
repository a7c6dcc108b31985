"""What counts as equal, and what as refused with the same words."""

from __future__ import annotations

import pytest

from tests.qa import verdicts
from tests.qa.verdicts import End, Outcome

NAME = "classical/case_01/job.ini"
TASK = 'AttributeError: \n  File "a.py", line 3, in f\n    x\nAttributeError: no such thing'


def outcome(plain: End, ours: End, *differences: str) -> Outcome:
    """What comes of it."""
    return verdicts.judge(NAME, plain, ours, differences).outcome


def test_runs_without_differences_are_equal() -> None:
    """Whatever time they took."""
    assert outcome(End(seconds=1), End(seconds=2)) is Outcome.EQUAL


def test_difference_of_files_is_told() -> None:
    """With its words."""
    verdict = verdicts.judge(NAME, End(), End(), ["a.csv: row 1"])

    assert (verdict.outcome, verdict.differences) == (Outcome.DIFFERENT, ("a.csv: row 1",))


def test_outputs_that_only_one_could_not_export_are_a_difference() -> None:
    """Not in which order they are named."""
    assert outcome(End(not_exported=("a", "b")), End(not_exported=("b", "a"))) is Outcome.EQUAL
    assert outcome(End(not_exported=("a",)), End()) is Outcome.DIFFERENT


@pytest.mark.parametrize(("plain", "ours"), [("ValueError: bad", ""), ("", "ValueError: bad")])
def test_refusal_of_one_is_its_own_outcome(plain: str, ours: str) -> None:
    """Whichever it is."""
    assert outcome(End(plain), End(ours)) is Outcome.REFUSED_BY_ONE


@pytest.mark.parametrize(
    ("plain", "ours"),
    [
        ("ValueError: bad\n value", "ValueError: bad value"),
        ("InvalidFile: a.xml: bad", "cannot read job.ini: InvalidFile: a.xml: bad"),
        ("SystemExit: zero hazard", "zero hazard"),
        ("AssertionError: ", "AssertionError"),
        (TASK, "AttributeError: no such thing"),
        ("KeyError: \"No 'x' in <D a/oqdata/calc_1.hdf5>\"", "\"No 'x' in <D c/d/oqdata/calc_44.hdf5>\""),
        ("ValueError: " + 2000 * "x", "ValueError: " + 900 * "x"),
    ],
)
def test_refusals_with_the_engines_words_are_the_same(plain: str, ours: str) -> None:
    """Also where we cut them, or say something before them."""
    assert outcome(End(plain), End(ours)) is Outcome.REFUSED


@pytest.mark.parametrize(
    ("plain", "ours"),
    [
        ("ValueError: bad", "failed"),
        ("AssertionError: ", "ValueError"),
        ("ValueError: " + 2000 * "x", "ValueError: " + 700 * "x"),
    ],
)
def test_refusals_with_other_words_are_different(plain: str, ours: str) -> None:
    """A person would not know what to mend."""
    assert outcome(End(plain), End(ours)) is Outcome.DIFFERENT


def test_folders_of_a_run_are_taken_out_of_its_words() -> None:
    """The inner one before the one around it."""
    places = {"/tmp/a": "WORK", "/tmp/a/inputs": "INPUTS"}

    assert verdicts.without_places("no /tmp/a/inputs/x, /tmp/a/y", places) == "no INPUTS/x, WORK/y"
