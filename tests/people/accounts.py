"""The accounts and groups of a machine for tests."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

HOMES = Path("/home")
# Who may submit calculations on the machine.
USERS_GROUP, USERS_GID = "qg-users", 6200


@dataclass(frozen=True, slots=True)
class Account:
    """An account, with a group of the same name and number.

    Args:
        name: of the account.
        uid: its number.
        is_user: whether it is a member of the group that may submit calculations.
    """

    name: str
    uid: int
    is_user: bool = False

    @property
    def home(self) -> Path:
        """Its home on the machine."""
        return HOMES / self.name


SERVICE = Account("qg-service", 6101)
ANNA = Account("qg-anna", 6102, is_user=True)
BEN = Account("qg-ben", 6103, is_user=True)
OPERATOR = Account("qg-oper", 6104, is_user=True)
# May log in, and may not use the cluster.
STRANGER = Account("qg-stranger", 6105)
# Runs what belongs to nobody on the machine.
WORKER = Account("qg-worker", 6106)
ACCOUNTS = (SERVICE, ANNA, BEN, OPERATOR, STRANGER, WORKER)


def passwd(accounts: Iterable[Account], present: str) -> str:
    """The text of /etc/passwd with these accounts behind those that are there."""
    lines = [f"{each.name}:x:{each.uid}:{each.uid}::{each.home}:/bin/sh" for each in accounts]
    return "\n".join([present.rstrip("\n"), *lines, ""])


def group(accounts: Iterable[Account], present: str) -> str:
    """The text of /etc/group with the groups of these accounts behind those that are there."""
    accounts = list(accounts)
    members = ",".join(each.name for each in accounts if each.is_user)
    lines = [f"{each.name}:x:{each.uid}:" for each in accounts]
    return "\n".join([present.rstrip("\n"), *lines, f"{USERS_GROUP}:x:{USERS_GID}:{members}", ""])
