"""The rights of other users, for a process that is nobody special; `tests/people` has the rest."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import pytest

from quakegrid.services.agent.linux import user_rights
from quakegrid.services.agent.linux.user_rights import NO_RIGHTS, UserRights

BOTH = "00000000000000c0"
MISSING = "0000000000000040"


def status(folder: Path, effective: str, ambient: str) -> Path:
    """A status as the kernel shows it."""
    path = folder / "status"
    path.write_text(f"Name:\tagent: 1\nCapEff:\t{effective}\nCapAmb:\t{ambient}\n")
    return path


def test_an_agent_needs_both_capabilities_for_itself_and_its_template(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ambient ones come along to a program that it starts."""
    monkeypatch.setattr(os, "geteuid", lambda: 900)

    assert user_rights.is_able(status(tmp_path, BOTH, BOTH))
    assert not user_rights.is_able(status(tmp_path, BOTH, MISSING))
    assert not user_rights.is_able(status(tmp_path, MISSING, BOTH))


def test_root_needs_no_ambient_capabilities(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel gives root's programs what root has; in a container that may be less."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)

    assert user_rights.is_able(status(tmp_path, BOTH, "0"))
    assert not user_rights.is_able(status(tmp_path, MISSING, "0"))


def test_on_another_kind_of_machine_nobody_changes_users(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The numbers of the system calls are not known there."""
    monkeypatch.setattr(user_rights, "_MACHINE", "pdp11")

    assert not user_rights.is_able(status(tmp_path, BOTH, BOTH))
    assert platform.machine() in user_rights._CALLS


def test_rights_of_root_are_never_taken() -> None:
    """Whatever is asked for."""
    rights = UserRights(is_able=True, taken=[0, 5])

    assert rights.taken == {5}
    with pytest.raises(ValueError, match="root"):
        rights.add(0)


def test_rights_are_for_accounts_that_were_noted() -> None:
    """Nobody else's can be taken by mistake."""
    rights = UserRights(is_able=True, taken=[os.geteuid() + 5])

    with pytest.raises(PermissionError), rights.acting_as(os.geteuid() + 6):
        pass
    with pytest.raises(PermissionError), NO_RIGHTS.acting_as(os.geteuid() + 5):
        pass
    with pytest.raises(PermissionError), NO_RIGHTS.in_group(os.getegid()):
        pass
    with rights.acting_as(os.geteuid()):  # its own it has
        pass


def test_own_processes_are_signalled_as_ever() -> None:
    """No rights are taken where none are needed."""
    sent: list[int] = []

    NO_RIGHTS.signal(os.getpid(), lambda: sent.append(1))
    with NO_RIGHTS.reading(os.getpid()):
        assert user_rights.owner_of(os.getpid()) == (os.getuid(), os.getgid())

    assert sent == [1]


def test_a_process_that_is_gone_belongs_to_root() -> None:
    """So nobody takes any rights for it."""
    assert user_rights.owner_of(1 << 22) == (0, 0)

    def refuse() -> None:
        raise PermissionError

    with pytest.raises(PermissionError):
        UserRights(is_able=True).signal(1 << 22, refuse)
