"""What is only for whoever looks after the cluster."""

from __future__ import annotations

import os

import pytest

from quakegrid.access.principals import PrincipalRole
from quakegrid.errors import NotAllowedError
from quakegrid.services.web.api import owners
from quakegrid.services.web.callers import Caller, Way, of_account

BEN = Caller(54322, "ben")


def test_those_who_look_after_the_cluster_are_let_in() -> None:
    """Root, the user of the services, operators and admins."""
    owners.check_care(of_account(0, "root"), "delete tags")
    owners.check_care(of_account(os.geteuid(), "service"), "delete tags")
    for role in (PrincipalRole.OPERATOR, PrincipalRole.ADMIN):
        owners.check_care(Caller(None, "otto", role, Way.COOKIE), "delete tags")


def test_another_person_is_refused_with_words() -> None:
    """Who one is."""
    with pytest.raises(NotAllowedError, match="you are ben and may not delete tags"):
        owners.check_care(BEN, "delete tags")
    with pytest.raises(NotAllowedError, match=r"you are ben \(user\) and may not delete tags"):
        owners.check_care(Caller(None, "ben", PrincipalRole.USER, Way.TOKEN), "delete tags")
