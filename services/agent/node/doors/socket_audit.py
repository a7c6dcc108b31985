"""Tells the audit log who asked at the agent's unix socket, by the account that the kernel names."""

from __future__ import annotations

import os
import pwd
import socket
import struct
from collections.abc import Mapping
from typing import Any

from quakegrid import errors
from quakegrid.access import audits
from quakegrid.access.audits import About
from quakegrid.transport.audited_calls import Auditor

_CREDENTIALS = struct.Struct("3i")  # of SO_PEERCRED: pid, uid, gid
# Where a command line that runs as the services' user, or as root, says for whom.
_TOLD = ("SUDO_USER", "LOGNAME", "USER")
_OUTCOMES: tuple[tuple[type[errors.QuakeGridError], str], ...] = (
    (errors.NotAllowedError, "PERMISSION_DENIED"),
    (errors.UsageError, "INVALID_ARGUMENT"),
    (errors.StateError, "FAILED_PRECONDITION"),
)


class SocketAudit:
    """Notes what command lines of this machine ask for.

    Args:
        auditor: of this agent.
    """

    def __init__(self, auditor: Auditor) -> None:
        self._auditor = auditor

    def asked(self, connection: socket.socket, request: Mapping[str, Any]) -> None:
        """Note a request for a driver that has started.

        Args:
            connection: of the command line.
            request: `mode`, `argv` and `environ`.
        """
        uid, name = _peer(connection)
        environ: Mapping[str, str] = request["environ"]
        is_trusted = uid in (0, os.getuid())
        told = next(filter(None, map(environ.get, _TOLD)), "") if is_trusted else ""
        about = About(
            f"agent.{request['mode']}",
            detail=audits.plain(" ".join(request["argv"])),
            told="" if told == name else audits.plain(told),
        )
        self._auditor.note_account(name, uid, about, audits.OK)

    def refused(self, connection: socket.socket, error: errors.QuakeGridError) -> None:
        """Note a request that was refused."""
        uid, name = _peer(connection)
        outcome = next((word for kind, word in _OUTCOMES if isinstance(error, kind)), "UNKNOWN")
        self._auditor.note_account(name, uid, About("agent.run", detail=audits.plain(str(error))), outcome)

    def sent_away(self, connection: socket.socket) -> None:
        """Note somebody who may not ask anything."""
        uid, name = _peer(connection)
        self._auditor.note_account(name, uid, About("agent.connect"), "PERMISSION_DENIED")


def _peer(connection: socket.socket) -> tuple[int, str]:
    """The account at the other end: its number and name."""
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    uid = int(_CREDENTIALS.unpack(credentials)[1])
    try:
        return uid, pwd.getpwuid(uid).pw_name
    except KeyError:
        return uid, f"uid-{uid}"
