"""When a lane that does not know a session is told again."""

from __future__ import annotations

import math

import pytest

from quakegrid import errors
from quakegrid.session.retelling import Retelling


def test_lane_that_refuses_is_told_again_after_a_delay_that_doubles() -> None:
    """Several messages are refused at once: they count once."""
    retelling = Retelling(1.0, 60.0)
    due_s = []

    for now_s in (100.0, 102.0, 105.0):
        retelling.refuse("no", now_s, is_unknown_session=True)
        retelling.refuse("no", now_s + 0.1, is_unknown_session=True)
        due_s.append(retelling.due_s)
        retelling.begin(1, awaits_answer=False)

    assert due_s == [101.0, 104.0, 109.0]
    assert retelling.due_s == math.inf


def test_patience_with_a_lane_begins_anew_when_it_knew_the_session() -> None:
    """So does the delay."""
    retelling = Retelling(1.0, 60.0)
    retelling.refuse("no", 0.0, is_unknown_session=True)
    retelling.begin(1, awaits_answer=False)
    retelling.end(1)

    retelling.refuse("no", 59.0, is_unknown_session=True)

    assert retelling.due_s == 60.0
    retelling.refuse("no", 118.9, is_unknown_session=True)
    with pytest.raises(errors.QuakeGridError, match="the lane refused this session: no"):
        retelling.refuse("no", 119.0, is_unknown_session=True)


def test_refusal_of_a_session_that_the_lane_knows_is_an_error_at_once() -> None:
    """Whatever was wrong with the message, its outcome will not come."""
    with pytest.raises(errors.QuakeGridError, match="a task has a name"):
        Retelling(1.0, 60.0).refuse("a task has a name", 0.0, is_unknown_session=False)


def test_lane_that_confirms_a_join_is_not_told_again_what_it_refused_before() -> None:
    """The refusal answers an earlier telling: it came while the driver told everything once more."""
    retelling = Retelling(1.0, 60.0)
    retelling.refuse("no", 0.0, is_unknown_session=True)
    retelling.begin(2, awaits_answer=False)
    retelling.refuse("no", 0.1, is_unknown_session=True)

    retelling.end(2)

    assert retelling.due_s == math.inf
    assert not retelling.is_due(1000.0, 3)


def test_admission_ends_the_pause_of_what_was_refused() -> None:
    """Once; where nothing was refused it changes nothing."""
    retelling = Retelling(first_s=1.0, patience_s=60.0)
    before = retelling.is_due(0.0, 2)
    retelling.refuse("unknown", 0.0, is_unknown_session=True)

    found = [retelling.is_due(0.5, 1), retelling.is_due(1.0, 1), retelling.is_due(0.5, 2)]
    retelling.begin(2, awaits_answer=False)
    retelling.refuse("unknown", 0.5, is_unknown_session=True)

    assert not before
    assert found == [False, True, True]
    assert not retelling.is_due(0.6, 2)


def test_refusals_before_the_answer_to_a_join_say_nothing() -> None:
    """A lane that refused a message refuses the join behind it, too, if it is to be told again."""
    retelling = Retelling(1.0, 60.0)
    retelling.begin(1, awaits_answer=True)

    retelling.refuse("no", 0.0, is_unknown_session=True)
    before_s = retelling.due_s
    retelling.refuse("no", 5.0, is_unknown_session=True, is_join=True)
    due_s = retelling.due_s
    retelling.begin(1, awaits_answer=True)
    retelling.end(1)
    retelling.refuse("no", 20.0, is_unknown_session=True)

    assert (before_s, due_s, retelling.due_s) == (math.inf, 6.0, 21.0)


def test_error_is_one_also_before_the_answer_to_a_join() -> None:
    """The lane knows the session and does not take the message."""
    retelling = Retelling(1.0, 60.0)
    retelling.begin(1, awaits_answer=True)

    with pytest.raises(errors.QuakeGridError, match="too long"):
        retelling.refuse("too long", 0.0, is_unknown_session=False)
