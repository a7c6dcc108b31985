"""Who counts as one person, where one may have only so much at once."""

from __future__ import annotations

import pytest
from starlette.requests import Request

from quakegrid.services.web.access.peers import Peer
from quakegrid.services.web.api import calculations
from quakegrid.services.web.callers import Caller, Way


def person(caller: Caller, address: str) -> str:
    """Whoever asks from an address."""
    state = {"caller": caller, "peer": Peer(address, is_secure=True)}
    return calculations.person_of(Request({"type": "http", "state": state}))


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        ("192.0.2.1", "192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("2001:db8::1", "2001:db8::2", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("", "", True),
    ],
)
def test_visitors_without_a_name_are_told_apart(one: str, other: str, is_same: bool) -> None:
    """One would take the places of all otherwise; of an address of version 6 anybody chooses one half."""
    visitor = Caller(None, "anonymous", way=Way.NOBODY)

    assert (person(visitor, one) == person(visitor, other)) is is_same


def test_person_with_a_name_is_one_wherever_they_are() -> None:
    """And is no visitor, whatever the name is."""
    anna = Caller(None, "anna", way=Way.COOKIE)

    assert person(anna, "192.0.2.1") == person(anna, "2001:db8::1") == "anna"
    visitor = Caller(None, "anonymous", way=Way.NOBODY)
    assert person(visitor, "192.0.2.1") != person(Caller(None, "anonymous", way=Way.TOKEN), "192.0.2.1")
