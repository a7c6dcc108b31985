"""Checks of people: their accounts on all nodes, certificates that end, and rights of agents. Pure."""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from quakegrid.doctor.checks.findings import Finding, Severity, fine
from quakegrid.doctor.checks.web_checks import WebDoor
from quakegrid.doctor.facts import CredentialFacts, NodeFacts, PeopleFacts

SOON_DAYS = 14
_DAY_S = 86_400
MOST_NAMED = 5
INSTALL = "run `quakegrid install` again as root, then restart quakegrid-agent"


@dataclass(frozen=True, slots=True)
class Asked:
    """What the doctor knows of people, beside the nodes.

    Args:
        owners: people whose jobs ran of late.
        credentials: the last one of each person.
        now_s: seconds since 1970.
        web: the doors of the master's web service; None without one.
    """

    owners: tuple[str, ...] = ()
    credentials: tuple[CredentialFacts, ...] = ()
    now_s: float = 0.0
    web: WebDoor | None = None


def check_accounts(nodes: Mapping[str, NodeFacts], label: str) -> Iterator[Finding]:
    """Whether people have the same numbers on all nodes, by which files of a shared folder know them.

    Args:
        nodes: facts by the names of nodes, the master's among them.
        label: how findings name the cluster.
    """
    numbers: dict[str, dict[int, list[str]]] = {}
    for node, facts in nodes.items():
        for account in facts.accounts:
            numbers.setdefault(account.name, {}).setdefault(account.uid, []).append(node)
    differing = {name: found for name, found in numbers.items() if len(found.keys() - {-1}) > 1}
    missing = [name for name, found in numbers.items() if -1 in found and len(found) == 2]
    is_theirs = any(facts.people.changes_users for facts in nodes.values())
    if differing:
        yield _differing(differing, label, is_theirs=is_theirs)
    if missing and is_theirs:
        yield _missing(missing, numbers, label)
    if numbers and not differing and not missing:
        yield fine("accounts", label, f"{_count(len(numbers))} the same number on all nodes")


def _differing(found: Mapping[str, Mapping[int, list[str]]], label: str, *, is_theirs: bool) -> Finding:
    name = min(found)
    shown = ", ".join(f"{uid} on {_few(nodes)}" for uid, nodes in sorted(found[name].items()) if uid >= 0)
    others = len(found) - 1
    what = f"{name} has different numbers: {shown}" + (f"; so have {others} others" if others else "")
    breaks = (
        "workers there run as another account, which may not read the person's files, and files in shared "
        "folders belong to somebody else"
        if is_theirs
        else "files in shared folders belong to somebody else there"
    )
    severity = Severity.BREAKS if is_theirs else Severity.NOTE
    remedy = "give accounts the same numbers on all machines: LDAP, or `usermod --uid` and `chown`"
    return Finding("accounts", severity, label, what, breaks, remedy)


def _missing(names: list[str], numbers: Mapping[str, Mapping[int, list[str]]], label: str) -> Finding:
    name = min(names)
    others = len(names) - 1
    what = f"{name} has no account on {_few(numbers[name][-1])}" + (
        f"; {others} others have none on some nodes" if others else ""
    )
    breaks = "their workers there run as the account for others, which reads only what all may read"
    return Finding(
        "accounts", Severity.NOTE, label, what, breaks, "make the account there, with the same number"
    )


def check_people(facts: NodeFacts, user_count: int, label: str) -> Iterator[Finding]:
    """Whether an agent is prepared for several people.

    Args:
        facts: of the node.
        user_count: how many people use the cluster.
        label: how findings name the node.
    """
    people = facts.people
    if not people.is_known or facts.is_root:  # an older agent; and root has a check of its own
        return
    if not people.changes_users:
        if user_count > 1:
            yield Finding(
                "accounts",
                Severity.NOTE,
                label,
                f"its agent has no CAP_SETUID, and {user_count} people use the cluster",
                "all calculations run as one account, and read each other's files",
                INSTALL,
            )
        return
    yield from _check_names(people, label)


def _check_names(people: PeopleFacts, label: str) -> Iterator[Finding]:
    """Whether the group and the account are there that an agent needs that changes users."""
    if not people.has_group:
        yield Finding(
            "people_group",
            Severity.NOTE,
            label,
            f"there is no group {people.group}",
            "nobody but the services' user and root starts calculations there",
            f"`groupadd --system {people.group}`, put people into it, and restart the agent",
        )
    if not people.has_worker_user:
        yield Finding(
            "worker_user",
            Severity.NOTE,
            label,
            f"there is no account {people.worker_user}",
            "calculations of people without an account there get no workers on this node",
            f"`useradd --system {people.worker_user}`, or {INSTALL}",
        )
    if people.has_group and people.has_worker_user:
        yield fine("people_group", label, f"members of {people.group} start calculations as themselves")


def check_identity(facts: NodeFacts, now_s: float, label: str) -> Iterator[Finding]:
    """By what a node proves itself, and whether that ends soon."""
    people = facts.people
    if people.identity != "certificate":
        yield fine("identity", label, "it proves itself with the cluster's authkey")
        return
    end = _day(people.identity_end_s)
    if people.identity_end_s - now_s > SOON_DAYS * _DAY_S:
        yield fine("identity", label, f"it proves itself with a certificate of its own, until {end}")
        return
    yield Finding(
        "identity",
        Severity.NOTE,
        label,
        f"its certificate ends on {end}, and was not renewed",
        "from then on no service lets the node in",
        "see `agentctl logs` there; a new token helps in any case: `quakegrid token create --node`",
    )


def check_credentials(found: Sequence[CredentialFacts], now_s: float, label: str) -> Iterator[Finding]:
    """Whether credentials of people end soon."""
    ending = sorted((each.end_s, each.name) for each in found if each.end_s - now_s <= SOON_DAYS * _DAY_S)
    if not ending:
        if found:
            yield fine("credentials", label, f"no credential ends within {SOON_DAYS} days")
        return
    shown = [f"{name} on {_day(end_s)}" for end_s, name in ending]
    yield Finding(
        "credentials",
        Severity.NOTE,
        label,
        f"credentials end soon: {_few(shown)}",
        "from then on these people are refused",
        f"`quakegrid user renew {ending[0][1]}`, and hand over the file",
    )


def _few(items: Sequence[str]) -> str:
    """The first of many."""
    rest = len(items) - MOST_NAMED
    return ", ".join(items[:MOST_NAMED]) + (f" and {rest} others" if rest > 0 else "")


def _count(number: int) -> str:
    return "1 person has" if number == 1 else f"{number} people have"


def _day(end_s: float) -> str:
    return f"{datetime.datetime.fromtimestamp(end_s, datetime.UTC):%Y-%m-%d}"
