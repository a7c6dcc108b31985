"""Checks of people: facts in, findings out."""

from __future__ import annotations

from dataclasses import replace

import pytest

from quakegrid.doctor import accounts
from quakegrid.doctor.checks import cluster_checks, node_checks, people_checks
from quakegrid.doctor.checks.cluster_checks import SharedFolder
from quakegrid.doctor.checks.findings import Finding, Severity
from quakegrid.doctor.checks.people_checks import Asked
from quakegrid.doctor.facts import (
    AccountFacts,
    AuthkeyFacts,
    CredentialFacts,
    NodeFacts,
    PeopleFacts,
    PortFacts,
    Visit,
)

DAY_S = 86_400.0
NOW_S = 1_800_000_000.0
PEOPLE = PeopleFacts(
    is_known=True,
    group="quakegrid-users",
    has_group=True,
    worker_user="quakegrid-worker",
    has_worker_user=True,
    changes_users=True,
    identity="authkey",
)
NODE = NodeFacts(node="n1", machine="boot n1", people=PEOPLE, authkey=AuthkeyFacts(43, False, "f", "f"))


def having(**uids: int) -> NodeFacts:
    """A node with these accounts."""
    return replace(NODE, accounts=tuple(AccountFacts(name, uid) for name, uid in uids.items()))


def compared(**nodes: NodeFacts) -> list[Finding]:
    """What is said of the accounts of nodes."""
    return list(people_checks.check_accounts(nodes, "m"))


def test_same_numbers_are_fine() -> None:
    """Of one person or many; of nobody nothing is said."""
    (one,) = compared(n1=having(anna=7), n2=having(anna=7))
    (two,) = compared(n1=having(anna=7, ben=8), n2=having(anna=7, ben=8))

    assert (one.severity, one.what) == (Severity.OK, "1 person has the same number on all nodes")
    assert two.what == "2 people have the same number on all nodes"
    assert compared(n1=NODE, n2=NODE) == []


def test_different_numbers_break_what_runs_as_the_person() -> None:
    """The first is named, with all that it has where; others are counted."""
    (found,) = compared(
        n1=having(anna=7, ben=1, cleo=5), n2=having(anna=8, ben=2, cleo=5), n3=having(anna=8, ben=-1, cleo=5)
    )

    assert found.severity is Severity.BREAKS
    assert found.what == "anna has different numbers: 7 on n1, 8 on n2, n3; so have 1 others"
    assert "usermod --uid" in found.remedy


def test_different_numbers_are_a_note_where_all_run_as_one_account() -> None:
    """Only files in shared folders are concerned."""
    plain = replace(PEOPLE, changes_users=False)

    (found,) = compared(n1=replace(having(anna=7), people=plain), n2=replace(having(anna=8), people=plain))

    assert found.severity is Severity.NOTE


def test_missing_account_is_a_note() -> None:
    """The account for others takes its place."""
    many = {f"n{number}": having(anna=-1, ben=8, cleo=9) for number in range(2, 9)}

    (found,) = compared(n1=having(anna=7, ben=8, cleo=-1), **many)

    assert found.severity is Severity.NOTE
    assert found.what.startswith("anna has no account on n2, n3, n4, n5, n6 and 2 others; 1 others have none")
    assert (
        compared(
            n1=replace(having(anna=7), people=PeopleFacts()),
            n2=replace(having(anna=-1), people=PeopleFacts()),
        )
        == []
    )


def test_people_without_any_account_are_no_finding() -> None:
    """Such as a person who uses the cluster from elsewhere: the account for others is meant for them."""
    assert [each.severity for each in compared(n1=having(anna=-1), n2=having(anna=-1))] == [Severity.OK]


@pytest.mark.parametrize(
    ("changes", "user_count", "check", "word"),
    [
        ({"changes_users": False}, 2, "accounts", "no CAP_SETUID, and 2 people"),
        ({"has_group": False}, 1, "people_group", "no group quakegrid-users"),
        ({"has_worker_user": False}, 1, "worker_user", "no account quakegrid-worker"),
    ],
)
def test_node_that_is_not_prepared_is_a_note(
    changes: dict[str, bool], user_count: int, check: str, word: str
) -> None:
    """With the command that helps."""
    facts = replace(NODE, people=replace(PEOPLE, **changes))  # type: ignore[arg-type]

    (found,) = people_checks.check_people(facts, user_count, "n1")

    assert (found.check, found.severity) == (check, Severity.NOTE)
    assert word in found.what
    assert found.remedy


def test_node_of_one_person_or_of_an_older_quakegrid_is_left_alone() -> None:
    """The cluster of one's own, and an agent that tells nothing; root is told by another check."""
    plain = replace(PEOPLE, changes_users=False)

    assert list(people_checks.check_people(replace(NODE, people=plain), 1, "n1")) == []
    assert list(people_checks.check_people(replace(NODE, people=PeopleFacts()), 9, "n1")) == []
    assert list(people_checks.check_people(replace(NODE, people=plain, is_root=True), 9, "n1")) == []
    assert [each.severity for each in people_checks.check_people(NODE, 9, "n1")] == [Severity.OK]


def test_each_node_says_how_it_proves_itself() -> None:
    """By the authkey, also of an older agent, or by a certificate that is renewed in time."""
    certified = replace(PEOPLE, identity="certificate", identity_end_s=NOW_S + 20 * DAY_S)
    ending = replace(certified, identity_end_s=NOW_S + 3 * DAY_S)

    said = [
        found
        for people in (PEOPLE, PeopleFacts(), certified, ending)
        for found in people_checks.check_identity(replace(NODE, people=people), NOW_S, "n1")
    ]

    assert [each.severity for each in said] == [Severity.OK, Severity.OK, Severity.OK, Severity.NOTE]
    assert "authkey" in said[0].what
    assert "authkey" in said[1].what
    assert "certificate of its own, until 2027-02-04" in said[2].what
    assert "ends on 2027-01-18" in said[3].what


def test_node_with_a_certificate_needs_no_authkey() -> None:
    """Nothing is said of the key that it does not have."""
    facts = replace(NODE, authkey=AuthkeyFacts(), people=replace(PEOPLE, identity="certificate"))

    assert list(node_checks.check_authkey(facts, "n1")) == []


def test_credentials_that_end_soon_are_told() -> None:
    """The first to end is the first named."""
    found = (
        CredentialFacts("anna", NOW_S + 10 * DAY_S),
        CredentialFacts("ben", NOW_S + 2 * DAY_S),
        CredentialFacts("cleo", NOW_S + 100 * DAY_S),
    )

    (note,) = people_checks.check_credentials(found, NOW_S, "m")
    (calm,) = people_checks.check_credentials(found[2:], NOW_S, "m")

    assert note.what == "credentials end soon: ben on 2027-01-17, anna on 2027-01-25"
    assert "`quakegrid user renew ben`" in note.remedy
    assert calm.severity is Severity.OK
    assert list(people_checks.check_credentials((), NOW_S, "m")) == []


def test_cluster_is_checked_as_a_whole() -> None:
    """The master's own rights, those of a command as root, are not those of an agent."""
    master = replace(having(anna=7), node="m", machine="boot m")
    visit = Visit("10.0.0.1", PortFacts("agent", "10.0.0.1", 1909), having(anna=8))
    plain = replace(visit, facts=replace(having(anna=8), people=replace(PEOPLE, changes_users=False)))
    own = replace(visit, facts=replace(having(anna=7), machine="boot m"))
    asked = Asked(("anna", "ben"), (CredentialFacts("anna", NOW_S),), NOW_S)

    def said(*visits: Visit) -> set[tuple[str, Severity]]:
        found = cluster_checks.check_cluster(master, visits, SharedFolder(), asked)
        return {(each.check, each.severity) for each in found}

    assert ("accounts", Severity.BREAKS) in said(visit)
    assert ("accounts", Severity.NOTE) in said(plain)
    assert ("accounts", Severity.BREAKS) not in said(plain)
    assert ("credentials", Severity.NOTE) in said(own)
    assert "accounts" not in {check for check, _ in said(own)}
    assert said() >= {("credentials", Severity.NOTE)}


@pytest.mark.parametrize(
    ("line", "is_able"),
    [("00000000000000c0", True), ("0000000000000080", False), ("000001ffffffffff", True), ("0", False)],
)
def test_rights_of_a_process_are_read(line: str, is_able: bool) -> None:
    """CAP_SETGID is bit 6, CAP_SETUID bit 7."""
    assert accounts.changes_users(f"Name:\tx\nCapEff:\t{line}\n") is is_able


def test_accounts_of_this_machine_are_looked_up() -> None:
    """Root is always 0; names that no account can have are none."""
    found = accounts.look_up(["root", "nobody-has-this", "a\0b"])

    assert found == (AccountFacts("root", 0), AccountFacts("nobody-has-this"), AccountFacts("a\0b"))
    assert len(accounts.look_up(["root"] * 1000)) == accounts.MOST_NAMES
