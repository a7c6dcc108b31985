"""As whom a person's processes run on a node."""

from __future__ import annotations

import pytest

from quakegrid.errors import StateError
from services.agent.rules.persons import Account, AgentRights, decide

ROOT, SERVICE = 0, 900
ANNA = Account("anna", 1001, 1001, "/home/anna", (1001, 2000))
WORKER = Account("quakegrid-worker", 901, 901, "/nonexistent")
RENUMBERED = Account("anna", 1007, 1007, "/home/anna")
AS_SERVICE = Account("quakegrid", SERVICE, SERVICE, "/var/lib/quakegrid")
AS_ROOT = Account("root", ROOT, 0, "/root")
AS_AGENT = None


def rights(uid: int = SERVICE, *, is_able: bool = True, worker: Account | None = WORKER) -> AgentRights:
    """An agent."""
    return AgentRights(uid, is_able, "quakegrid-worker", worker)


TABLE = {
    "a person with the same account": (("anna", 1001, ANNA), rights(), ANNA),
    "an account with another number": (("anna", 1001, RENUMBERED), rights(), WORKER),
    "an account of another node only": (("anna", 1001, None), rights(), WORKER),
    "a person whose number nobody knows": (("anna", None, ANNA), rights(), WORKER),
    "a program that holds the authkey": (("", None, None), rights(), WORKER),
    "root, by an agent that is not root": (("root", ROOT, AS_ROOT), rights(), WORKER),
    "the services' account": (("quakegrid", SERVICE, AS_SERVICE), rights(), WORKER),
    "an agent that may not change users": (("anna", 1001, ANNA), rights(is_able=False), AS_AGENT),
    "such an agent without the account": (("anna", 1001, None), rights(is_able=False, worker=None), AS_AGENT),
    "a person, by root's agent": (("anna", 1001, ANNA), rights(ROOT), ANNA),
    "root, by root's agent": (("root", ROOT, AS_ROOT), rights(ROOT), AS_AGENT),
    "a name that root tells, by root's agent": (("anna", None, ANNA), rights(ROOT), AS_AGENT),
    "another number, by root's agent": (("anna", 1001, RENUMBERED), rights(ROOT), WORKER),
}


@pytest.mark.parametrize("case", TABLE.values(), ids=TABLE.keys())
def test_who_becomes_what(case: tuple[tuple[str, int | None, Account | None], AgentRights, Account]) -> None:
    """A person's own account only where name and number are the same; root and services never."""
    person, agent, expected = case

    assert decide(*person, agent) == expected


REFUSED = {
    "no such account": (
        ("anna", 1001, None),
        rights(worker=None),
        "this node has no account anna; as root",
    ),
    "another number": (
        ("anna", 1001, RENUMBERED),
        rights(worker=None),
        "the number 1007 here, and 1001 where",
    ),
    "number unknown": (("anna", None, ANNA), rights(worker=None), "anna is no account of a node"),
    "nobody's": (("", None, None), rights(worker=None), "what holds the authkey is no account"),
    "root": (("root", ROOT, AS_ROOT), rights(worker=None), "never run as root"),
    "the services'": (("quakegrid", SERVICE, AS_SERVICE), rights(worker=None), "never run as quakegrid"),
    "root's agent": (("anna", 1001, None), rights(ROOT, worker=None), "this node has no account anna"),
    "root as the account for others": (("anna", 1001, None), rights(worker=AS_ROOT), "name another one"),
    "the services' as well": (("anna", 1001, None), rights(worker=AS_SERVICE), "is root or the services'"),
}


@pytest.mark.parametrize("case", REFUSED.values(), ids=REFUSED.keys())
def test_refusals_say_why(case: tuple[tuple[str, int | None, Account | None], AgentRights, str]) -> None:
    """Nobody's processes run as an account that was not meant for them."""
    person, agent, words = case

    with pytest.raises(StateError, match=words) as refused:
        decide(*person, agent)

    assert "[agent] worker_user" in str(refused.value)
