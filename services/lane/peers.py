"""Who the peers of a lane are, and what is refused to them.

Knows names and their proofs (`transport/lane_names.py`), and counts refusals; decides nothing about tasks.
"""

from __future__ import annotations

import logging
from collections.abc import Container

from quakegrid.machine import service_logs
from quakegrid.transport import lane_names
from quakegrid.transport.lane_names import DriverName, WorkerName
from services.lane.tasks.events import Peer, SessionId

log = logging.getLogger("quakegrid.transport.lane_sockets")
# The first are logged each; of later ones each whose number is a power of two.
_LOGGED_COUNT = 100


class Peers:
    """The peers of one lane.

    Args:
        token_key: of `security.token_key`.
    """

    def __init__(self, token_key: bytes) -> None:
        self._token_key = token_key
        # Those of open sessions; read for each message.
        self.known: dict[Peer, DriverName | WorkerName] = {}
        self.refused_count = 0
        self.unsent_count = 0

    def recognise(self, peer: Peer, open_ids: Container[SessionId]) -> DriverName | WorkerName:
        """Who a peer is that is not known yet; it is if its session is open.

        Raises:
            PeerError: its name proves nothing.
        """
        who = lane_names.read_name(peer, self._token_key)
        if who.session_id in open_ids:
            self.known[peer] = who
        return who

    def forget_session(self, session_id: SessionId) -> None:
        """A session was closed."""
        self.known = {peer: who for peer, who in self.known.items() if who.session_id != session_id}

    def count_refusal(self, peer: Peer, reason: str) -> None:
        """A message was refused."""
        self.refused_count += 1
        if service_logs.is_logged(self.refused_count, _LOGGED_COUNT):
            name = lane_names.shown(peer)
            log.warning("message_refused count=%d peer=%s reason=%.300s", self.refused_count, name, reason)

    def count_unsent(self, peer: Peer, reason: object) -> None:
        """A message was not sent: its peer is gone, or does not read."""
        self.unsent_count += 1
        if service_logs.is_logged(self.unsent_count, _LOGGED_COUNT):
            name = lane_names.shown(peer)
            log.warning("peer_unreachable count=%d peer=%s reason=%s", self.unsent_count, name, reason)
