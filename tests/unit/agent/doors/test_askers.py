"""Who asks at the agent's unix socket, and for whom."""

from __future__ import annotations

import os
import pwd
import socket

import pytest

from quakegrid.services.agent.node.doors import askers
from quakegrid.services.agent.node.doors.askers import Asker, Person

STRANGER = 4_000_123  # no account has this number


def test_asker_is_the_account_of_the_process_that_connected() -> None:
    """As the kernel says."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)

    with ours, theirs:
        asker = askers.of(ours)

    assert asker == Asker(os.getuid(), os.getgid(), pwd.getpwuid(os.getuid()).pw_name)
    assert asker.is_trusted


def test_asker_without_an_account_has_its_number_for_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container."""

    def no_account(_uid: int) -> pwd.struct_passwd:
        raise KeyError

    monkeypatch.setattr(pwd, "getpwuid", no_account)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)

    with ours, theirs:
        assert askers.of(ours).name == f"uid-{os.getuid()}"


@pytest.mark.parametrize("uid", [0, os.getuid()])
def test_who_can_read_the_key_may_tell_another_name(uid: int) -> None:
    """Such as a service that runs calculations for people; the account stays nobody's."""
    asker = Asker(uid, 7, "root")

    assert askers.person_of(asker, {"LOGNAME": "anna", "USER": "root"}) == Person("anna", None)
    assert askers.person_of(asker, {"LOGNAME": "", "USER": "ben"}) == Person("ben", None)
    assert askers.person_of(asker, {"LOGNAME": "root"}) == Person("root", uid)
    assert askers.person_of(asker, {}) == Person("root", uid)


def test_from_everybody_else_no_name_in_an_environment_counts() -> None:
    """A forged LOGNAME or SUDO_USER changes nothing."""
    asker = Asker(STRANGER, 7, "ben")

    found = askers.person_of(asker, {"LOGNAME": "anna", "USER": "anna", "SUDO_USER": "anna"})

    assert found == Person("ben", STRANGER)
