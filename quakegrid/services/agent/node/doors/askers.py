"""Who asks at the agent's unix socket: the account of the peer, as the kernel says, not as the peer says."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from quakegrid.errors import StateError
from quakegrid.settings.agent_accounts import account_name

_CREDENTIALS = struct.Struct("3i")  # of SO_PEERCRED: pid, uid, gid
# Where `getpass.getuser` looks for a name, in its order.
_NAME_VARIABLES = ("LOGNAME", "USER", "LNAME", "USERNAME")
# Of one account that is neither root nor the agent's own: each holds descriptors, and has a driver.
MAX_COMMAND_LINES = 256


@dataclass(frozen=True, slots=True)
class Asker:
    """The account that a command line runs as.

    Args:
        uid: its number on this node.
        gid: of its primary group when it connected.
        name: of the account; "uid-N" if this node has no account with the number.
    """

    uid: int
    gid: int
    name: str

    @property
    def is_trusted(self) -> bool:
        """Whether it may tell another person's name: root and the agent's own user can read the authkey."""
        return self.uid in (os.getuid(), 0)


class AskerCounts:
    """Counts the connections of each account."""

    def __init__(self) -> None:
        self._uids: dict[int, int] = {}  # by the descriptor of the connection

    def enter(self, number: int, asker: Asker) -> None:
        """Count a connection.

        Raises:
            StateError: the account has too many, so that others would find no room.
        """
        self._uids[number] = asker.uid
        if not asker.is_trusted and list(self._uids.values()).count(asker.uid) > MAX_COMMAND_LINES:
            raise StateError(
                f"{asker.name} has {MAX_COMMAND_LINES} command lines here already; wait until one ends"
            )

    def leave(self, number: int) -> None:
        """A connection has ended."""
        self._uids.pop(number, None)


@dataclass(frozen=True, slots=True)
class Person:
    """For whom a driver works.

    Args:
        name: of the person.
        account_id: number of the person's account on this node; None if another account tells the name.
    """

    name: str
    account_id: int | None


def of(connection: socket.socket) -> Asker:
    """The account at the other end of a connection of a unix socket, as it was when it connected."""
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    _pid, uid, gid = _CREDENTIALS.unpack(credentials)
    return Asker(uid, gid, account_name(uid) or f"uid-{uid}")


def person_of(asker: Asker, environ: Mapping[str, str]) -> Person:
    """For whom a command line works.

    Args:
        asker: its account.
        environ: its environment. A name in it counts only if the asker is trusted.
    """
    told = next(filter(None, (environ.get(name) for name in _NAME_VARIABLES)), "") if asker.is_trusted else ""
    if told in ("", asker.name):
        return Person(asker.name, asker.uid)
    return Person(told, None)


# Commands of `oq` that start no calculation, and may need more than what is one's own.
_CARING_COMMANDS = ("abort", "db", "dbserver", "dump", "importcalc", "purge", "reset", "restore", "workers")


def cares_for_cluster(asker: Asker, request: Mapping[str, Any]) -> bool:
    """Whether a command line asks for a command that is for those who look after the cluster, as one of them.

    Args:
        asker: its account.
        request: `argv` and `mode`.
    """
    return (
        asker.is_trusted
        and request["mode"] == "oq"
        and request["argv"][:1] in ([name] for name in _CARING_COMMANDS)
    )
