"""Calculations that are sent over the web never run as root for somebody else."""

from __future__ import annotations

import pytest

from quakegrid import errors
from services.web.callers import Caller
from services.web.starts import check_account


@pytest.mark.parametrize(("caller_id", "own_id"), [(0, 0), (0, 900), (900, 900)])
def test_calculation_runs_as_no_more_than_its_person_may(caller_id: int, own_id: int) -> None:
    """The agent gives it an account of its own, or it is root who asks."""
    check_account(Caller(caller_id, "anna"), own_id)


def test_calculation_of_a_person_does_not_run_as_the_service() -> None:
    """The account for all others could not read what the person has sent."""
    with pytest.raises(errors.NotAllowedError, match="start yours with `quakegrid run`"):
        check_account(Caller(1001, "anna"), 900)


def test_calculation_of_another_person_never_runs_as_root() -> None:
    """The agent believes the name that root tells, and runs what it asks for as root."""
    with pytest.raises(errors.NotAllowedError, match="run as root, as which your calculation would run"):
        check_account(Caller(1001, "anna"), 0)
