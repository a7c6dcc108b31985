"""As whom a person's processes run on a node."""

from __future__ import annotations

import pytest

from quakegrid.errors import StateError
from quakegrid.services.agent.rules.persons import Account, AgentRights, decide, number_for

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


MEMBERS = 2000
DAEMON = Account("daemon", 1, 1, "/", (1,))
MEMBER_SERVICE = Account("quakegrid", SERVICE, SERVICE, "/var/lib/quakegrid", (SERVICE, MEMBERS))
MEMBER_ROOT = Account("root", ROOT, 0, "/root", (0, MEMBERS))
TOLD = {
    "a member of the group": (ANNA, MEMBERS, rights(), ANNA),
    "a member, by root's agent": (ANNA, MEMBERS, rights(ROOT), ANNA),
    "somebody without an account": (None, MEMBERS, rights(), WORKER),
    "an account of the system": (DAEMON, MEMBERS, rights(), WORKER),
    "a person where there is no group": (ANNA, None, rights(), WORKER),
    "nobody that root's agent knows": (None, MEMBERS, rights(ROOT), WORKER),
    "the services' account, even as a member": (MEMBER_SERVICE, MEMBERS, rights(), WORKER),
    "root, even as a member": (MEMBER_ROOT, MEMBERS, rights(), WORKER),
    "root as a member, by root's agent": (MEMBER_ROOT, MEMBERS, rights(ROOT), WORKER),
}


@pytest.mark.parametrize("case", TOLD.values(), ids=TOLD.keys())
def test_a_service_gets_accounts_of_members_only(
    case: tuple[Account | None, int | None, AgentRights, Account],
) -> None:
    """Whatever name it tells: never root, never the services' account, never one of the system."""
    found, group_id, agent, expected = case
    name = "anna" if found is None else found.name

    number = number_for(name, found, group_id, agent)

    assert number == expected.uid
    assert decide(name, number, found, agent) == expected


def test_a_service_without_rights_gets_its_own_account() -> None:
    """As on a machine of one's own."""
    assert number_for("anna", ANNA, MEMBERS, rights(is_able=False)) is None


@pytest.mark.parametrize("worker", [None, AS_ROOT, AS_SERVICE])
def test_somebody_without_an_account_is_refused_if_there_is_none_for_others(worker: Account | None) -> None:
    """With what to do."""
    with pytest.raises(StateError, match="anna has no account of this machine") as refused:
        number_for("anna", None, MEMBERS, rights(worker=worker))

    assert "[agent] worker_user" in str(refused.value)
