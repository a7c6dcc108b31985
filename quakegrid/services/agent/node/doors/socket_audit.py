"""Tells the audit log who asked at the agent's unix socket, by the account that the kernel names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from quakegrid import errors
from quakegrid.access import audits
from quakegrid.access.audits import About
from quakegrid.services.agent.node.doors.askers import Asker
from quakegrid.transport.audited_calls import Auditor

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

    def asked(self, asker: Asker, request: Mapping[str, Any]) -> None:
        """Note a request for a driver that has started.

        Args:
            asker: the account of the command line.
            request: `mode`, `argv` and `environ`.
        """
        environ: Mapping[str, str] = request["environ"]
        told = next(filter(None, map(environ.get, _TOLD)), "") if asker.is_trusted else ""
        whose = f" (for {request['for_person']})" if request.get("for_person") else ""
        about = About(
            f"agent.{request['mode']}",
            detail=audits.plain(" ".join(request["argv"]) + whose),
            told="" if told == asker.name else audits.plain(told),
        )
        self._auditor.note_account(asker.name, asker.uid, about, audits.OK)

    def refused(self, asker: Asker, error: errors.QuakeGridError) -> None:
        """Note a request that was refused."""
        outcome = next((word for kind, word in _OUTCOMES if isinstance(error, kind)), "UNKNOWN")
        about = About("agent.run", detail=audits.plain(str(error)))
        self._auditor.note_account(asker.name, asker.uid, about, outcome)

    def sent_away(self, asker: Asker) -> None:
        """Note somebody who may not ask anything."""
        self._auditor.note_account(asker.name, asker.uid, About("agent.connect"), "PERMISSION_DENIED")
