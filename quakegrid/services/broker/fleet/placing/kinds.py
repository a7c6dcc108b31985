"""Which nodes are of one kind: those that the same sessions leave out or avoid.

Pure. Found anew only when a node begins or ceases to fit a session.
"""

from __future__ import annotations

from collections.abc import Iterable

from quakegrid.services.broker.fleet.cores import CoreTable, Kind
from quakegrid.services.broker.fleet.state import FleetSession


class Kinds:
    """Keeps the kinds of a fleet's nodes up to date.

    Args:
        cores: of the nodes, where the kinds are entered.
    """

    def __init__(self, cores: CoreTable) -> None:
        self._cores = cores
        # Sessions that leave nodes out or avoid them, with the versions that the kinds were found for.
        self._versions: dict[int, int] = {}

    def update(self, sessions: Iterable[FleetSession]) -> None:
        """Find the kinds, if anything has changed since they were found.

        Args:
            sessions: that may have workers.
        """
        choosy = [session for session in sessions if session.unfit_count]
        versions = {session.session_id: session.fit_version for session in choosy}
        if versions == self._versions:
            return
        self._versions = versions
        without: dict[str, list[int]] = {}
        for session in choosy:
            for host in {**session.left_out, **dict.fromkeys(session.avoided)}:
                without.setdefault(host, []).append(session.session_id)
        kinds: dict[Kind, Kind] = {}
        found = {host: frozenset(session_ids) for host, session_ids in without.items()}
        self._cores.divide({host: kinds.setdefault(kind, kind) for host, kind in found.items()})
