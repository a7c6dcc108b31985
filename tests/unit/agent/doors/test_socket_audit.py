"""Who asks at the agent's socket, for the audit log."""

from __future__ import annotations

import os
import pwd

import pytest

from quakegrid.access.audits import AuditRecord
from quakegrid.services.agent.node.doors.askers import Asker
from quakegrid.services.agent.node.doors.socket_audit import SocketAudit
from quakegrid.transport.audited_calls import Auditor

ACCOUNT = pwd.getpwuid(os.getuid()).pw_name
OWN = Asker(os.getuid(), os.getgid(), ACCOUNT)


class Records(list[AuditRecord]):
    """Keeps what is put."""

    def put(self, record: AuditRecord) -> None:
        """Keep a record."""
        self.append(record)


@pytest.fixture
def records() -> Records:
    """What was noted."""
    return Records()


@pytest.fixture
def audit(records: Records) -> SocketAudit:
    """Of an agent on n1."""
    return SocketAudit(Auditor("agent of n1", records, node="n1", clock=lambda: 5.0))


@pytest.mark.parametrize(
    ("environ", "told"),
    [
        ({}, ""),
        ({"LOGNAME": ACCOUNT}, ""),
        ({"LOGNAME": "anna"}, "anna"),
        ({"SUDO_USER": "ben", "LOGNAME": "anna"}, "ben"),
    ],
)
def test_start_is_noted_with_the_account(
    audit: SocketAudit, records: Records, environ: dict[str, str], told: str
) -> None:
    """And with the name that the agent's own user tells, which nothing proves."""
    audit.asked(OWN, {"mode": "run", "argv": ["engine", "--run", "job.ini"], "environ": environ})

    (found,) = records
    assert (found.role, found.name, found.peer) == ("account", ACCOUNT, f"uid {os.getuid()}")
    assert (found.about.action, found.about.detail, found.about.node) == (
        "agent.run",
        "engine --run job.ini",
        "n1",
    )
    assert (found.about.told, found.outcome, found.service, found.time_s) == (told, "OK", "agent of n1", 5.0)


def test_name_of_another_account_counts_for_nothing(audit: SocketAudit, records: Records) -> None:
    """Whoever is not the agent's user says in vain that they are somebody else; an account needs no name."""
    stranger = Asker(54321, 54321, "uid-54321")

    audit.asked(stranger, {"mode": "oq", "argv": [], "environ": {"LOGNAME": "anna"}})

    (found,) = records
    assert (found.name, found.about.told, found.peer) == ("uid-54321", "", "uid 54321")
