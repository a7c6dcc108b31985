"""Records of the audit log: what a call was about, and peers that are refused again and again."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from quakegrid.access import audits
from quakegrid.access.audits import About, AuditRecord, RefusalCounts
from quakegrid.access.principals import SERVICE, Principal, PrincipalRole
from quakegrid.api.v1 import fleet_pb2, jobs_pb2, nodes_pb2, people_pb2, tags_pb2

ANNA = Principal(PrincipalRole.USER, "anna")
REFUSED = AuditRecord(
    1.0, "user", "ben", About("Jobs.DeleteJob", job_id=7), "PERMISSION_DENIED", "10.0.0.7", "dbserver"
)


@pytest.mark.parametrize(
    ("method", "request_", "about"),
    [
        (
            "api.v1.Jobs/DeleteJob",
            jobs_pb2.DeleteJobRequest(job_id=7, user_name="anna"),
            About("Jobs.DeleteJob", job_id=7, told="anna"),
        ),
        (
            "api.v1.Fleet/ForgetNode",
            fleet_pb2.ForgetNodeRequest(host="n1"),
            About("Fleet.ForgetNode", node="n1"),
        ),
        (
            "api.v1.Fleet/StopNodes",
            fleet_pb2.StopNodesRequest(force=True),
            About("Fleet.StopNodes", detail="force True"),
        ),
        (
            "api.v1.Nodes/SetCores",
            nodes_pb2.SetCoresRequest(core_count=4),
            About("Nodes.SetCores", detail="core_count 4"),
        ),
        (
            "api.v1.Tags/AddTag",
            tags_pb2.AddTagRequest(job_id=7, name="good\nest"),
            About("Tags.AddTag", job_id=7, detail="good?est"),
        ),
        (
            "api.v1.People/IssueCredential",
            people_pb2.IssueCredentialRequest(name="anna", role=2, is_only=True),  # type: ignore[arg-type]
            About("People.IssueCredential", person="anna", detail="operator, is_only True"),
        ),
        (
            "api.v1.People/RevokeCredentials",
            people_pb2.RevokeCredentialsRequest(name="anna"),
            About("People.RevokeCredentials", person="anna"),
        ),
        ("internal.v1.EngineCalls/CallStream", iter(()), About("EngineCalls.CallStream")),
    ],
)
def test_request_says_what_it_is_about(method: str, request_: Any, about: About) -> None:
    """By the fields that requests have in common."""
    assert audits.about_request(f"/quakegrid.{method}", request_) == about


@pytest.mark.parametrize(
    ("action", "args", "about"),
    [
        ("del_calc", [7, "anna", True], About("engine.del_calc", job_id=7, detail="anna, True", told="anna")),
        ("del_calc", ["7"], About("engine.del_calc", job_id=7, told="anna")),
        ("del_calc", ["x"], About("engine.del_calc", detail="x", told="anna")),
        ("DELETE FROM job WHERE x", [], About("engine.sql", detail="DELETE FROM job WHERE x", told="anna")),
        (
            "create_job",
            ["/data/anna/oqdata", "classical", "Case 1", "anna", None, "n1"],
            About("engine.create_job", detail="classical, Case 1", told="anna"),
        ),
        ("delete_tag", ["old"], About("engine.delete_tag", detail="old", told="anna")),
        (
            "DELETE FROM job WHERE id in (?X)",
            [[1, 2], None],
            About("engine.sql", detail="DELETE FROM job WHERE id in (?X), [1, 2]", told="anna"),
        ),
    ],
)
def test_action_of_the_engine_says_what_it_is_about(action: str, args: list[Any], about: About) -> None:
    """By its arguments."""
    assert audits.is_audited(action)
    assert audits.about_action(action, args, "anna") == about


def test_refused_action_is_told_with_its_job() -> None:
    """Also of one that is left out where it is allowed."""
    assert audits.about_action("update_job", [7, {"status": "x"}], "") == About("engine.update_job", job_id=7)


@pytest.mark.parametrize("action", ["log", "finish", "get_job", "SELECT 1", "update_job"])
def test_action_that_jobs_do_themselves_is_left_out(action: str) -> None:
    """Nobody asked for it, and there are many."""
    assert not audits.is_audited(action)


def test_told_name_counts_only_from_a_service() -> None:
    """A person's certificate says who they are, whatever their request says."""
    about = About("Fleet.AbortJob", job_id=7, told="ben")

    of_service = record(SERVICE, about)
    of_person = record(ANNA, about)
    of_nobody = record(None, about)

    assert (of_service.role, of_service.name, of_service.about.told) == ("service", "", "ben")
    assert (of_person.role, of_person.name, of_person.about.told) == ("user", "anna", "")
    assert (of_nobody.role, of_nobody.name, of_nobody.about.told) == ("", "", "")


@pytest.mark.parametrize(
    ("peer", "machine"),
    [
        ("ipv4:10.0.0.7:51514", "10.0.0.7"),
        ("ipv6:%5B::1%5D:51514", "::1"),
        ("ipv6:[fe80::1]:7", "fe80::1"),
        ("uid 1000", "uid 1000"),
        ("unix:/run/x\n", "unix:/run/x?"),
    ],
)
def test_peer_is_a_machine(peer: str, machine: str) -> None:
    """Its port changes with each connection."""
    assert audits.machine_of(peer) == machine


def test_texts_are_cut() -> None:
    """A tag may be as long as a message."""
    assert len(audits.plain("x" * 10_000)) == audits.LONGEST_TEXT


def test_huge_number_is_no_job() -> None:
    """The database could not hold it."""

    class Request:
        job_id = 2**70

    assert audits.about_request("/quakegrid.api.v1.Jobs/GetJob", Request()).job_id == 0


def test_role_that_is_none_is_left_out() -> None:
    """The servicer refuses it."""
    request = people_pb2.IssueCredentialRequest(name="anna")

    assert audits.about_request("/quakegrid.api.v1.People/IssueCredential", request).detail == ""


def test_lost_records_are_a_record() -> None:
    """With their number."""
    assert audits.lost(7, "broker", 5.0) == AuditRecord(
        5.0, "service", "", About(audits.LOST), audits.OK, "", "broker", 7
    )


def test_first_refusals_of_a_peer_are_records_at_once() -> None:
    """Whatever they are about, so that one sees what was tried."""
    counts = RefusalCounts()

    written = [counts.take(REFUSED, float(second)) for second in range(audits.ROWS_PER_WINDOW)]

    assert written == [REFUSED] * audits.ROWS_PER_WINDOW
    assert list(counts.due(1e9)) == []
    assert counts.next_deadline_s() is None


def test_flood_of_refusals_makes_few_records() -> None:
    """A million in ten minutes are ten records and one for each minute, and none is forgotten."""
    counts = RefusalCounts()
    total, records = 1_000_000, []

    for number in range(total):
        now_s = 600.0 * number / total
        deadline_s = counts.next_deadline_s()
        if deadline_s is not None and deadline_s <= now_s:
            records += counts.due(now_s)
        if (record := counts.take(REFUSED, now_s)) is not None:
            records.append(record)
    records += counts.flush()

    assert sum(record.count for record in records) == total
    assert len(records) <= audits.ROWS_PER_WINDOW + 600 / audits.WINDOW_S
    assert counts.next_deadline_s() is None


def test_calm_window_is_forgotten() -> None:
    """The next refusal of the peer is a record again."""
    counts = RefusalCounts()
    for _ in range(audits.ROWS_PER_WINDOW + 3):
        counts.take(REFUSED, 0.0)

    (held,) = counts.due(audits.WINDOW_S)
    assert held == replace(REFUSED, count=3)
    assert list(counts.due(2 * audits.WINDOW_S)) == []
    assert counts.take(REFUSED, 2 * audits.WINDOW_S) == REFUSED


def test_many_peers_share_what_is_left() -> None:
    """A stranger with many addresses takes no more memory than the limit."""
    counts = RefusalCounts()
    records = [
        record
        for number in range(10 * audits.MOST_PEERS)
        if (record := counts.take(replace(REFUSED, peer=f"10.0.{number}"), 0.0)) is not None
    ]

    assert len(records) == audits.MOST_PEERS + audits.ROWS_PER_WINDOW
    assert records[-1].peer == "several addresses"
    (held,) = counts.flush()
    assert held.count == 9 * audits.MOST_PEERS - audits.ROWS_PER_WINDOW


def test_flush_of_calm_windows_is_nothing() -> None:
    """All that they had was written."""
    counts = RefusalCounts()
    counts.take(REFUSED, 0.0)

    assert list(counts.flush()) == []


def test_window_that_still_runs_is_left() -> None:
    """It may get more."""
    counts = RefusalCounts()
    for _ in range(audits.ROWS_PER_WINDOW + 1):
        counts.take(REFUSED, 0.0)

    assert list(counts.due(audits.WINDOW_S - 1)) == []


def record(principal: Principal | None, about: About) -> AuditRecord:
    """The record of a call from somewhere."""
    return audits.record_of(principal, about, audits.OK, time_s=1.0, peer="ipv4:10.0.0.7:5", service="broker")
