"""Who the peers of a lane are, what is sent to them and what is refused.

Knows names and their proofs (`transport/lane_names.py`), and counts refusals; decides nothing about tasks.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Container, Sequence

from quakegrid.errors import PeerError
from quakegrid.machine import service_logs
from quakegrid.services.lane import codec
from quakegrid.services.lane.payloads import Frame
from quakegrid.services.lane.tasks.events import Peer, SessionId
from quakegrid.transport import lane_names
from quakegrid.transport.fast_zmq import zmq
from quakegrid.transport.lane_names import DriverName, PeerName

log = logging.getLogger("quakegrid.lane")
# The first are logged each; of later ones each whose number is a power of two.
_LOGGED_COUNT = 100
# Workers that tell what they have before their session is open here.
MAX_TURNED_AWAY = 100_000
# As `lane_sockets.send_frames`, by the lane's ROUTER.
SendFrames = Callable[[Sequence[Frame]], None]


class Peers:
    """The peers of one lane.

    Args:
        token_key: of `lane_keys.token_key`.
        send_frames: sends the frames of a message; the first one names the peer.
    """

    def __init__(self, token_key: bytes, send_frames: SendFrames) -> None:
        self._token_key, self._send_frames = token_key, send_frames
        # Those of open sessions; read for each message.
        self.known: dict[Peer, PeerName] = {}
        # Workers whose session was not open when they told what they have.
        self._turned_away: dict[int, set[Peer]] = {}
        self._turned_away_count = 0
        self.refused_count = 0
        self.unsent_count = 0

    def recognise(self, peer: Peer, open_ids: Container[SessionId]) -> PeerName:
        """Who a peer is that is not known yet; it is if its session is open.

        Raises:
            PeerError: its name proves nothing.
        """
        who = lane_names.read_name(peer, self._token_key)
        if who.session_id in open_ids:
            self.known[peer] = who
        return who

    def driven_session(self, peer: Peer) -> SessionId | None:
        """The session whose driver a peer proves to be; None if it is anybody else."""
        if not peer.startswith(lane_names.DRIVER_PREFIX):
            return None
        try:
            who = lane_names.read_name(peer, self._token_key)
        except PeerError:
            return None
        return SessionId(who.session_id) if isinstance(who, DriverName) else None

    def forget_session(self, session_id: SessionId) -> None:
        """A session was closed."""
        self.known = {peer: who for peer, who in self.known.items() if who.session_id != session_id}

    def send(self, peer: Peer, frames: Sequence[Frame]) -> bool:
        """Send a message; returns whether the peer is there."""
        try:
            self._send_frames([peer, *frames])
        except zmq.ZMQError as exc:
            # The peer is gone, or will say hello again; a worker's tasks come back with its agent's report.
            self.unsent_count += 1
            if service_logs.is_logged(self.unsent_count, _LOGGED_COUNT):
                name = lane_names.shown(peer)
                log.warning("peer_unreachable count=%d peer=%s reason=%s", self.unsent_count, name, exc)
            return False
        return True

    def refuse(
        self, peer: Peer, reason: str, *, is_unknown_session: bool = False, is_join: bool = False
    ) -> None:
        """Tell a peer that its message was not taken, and why.

        Args:
            peer: that is refused; it has proven its name if its session is unknown.
            reason: for people.
            is_unknown_session: the peer may be right, and the broker has not named its session yet.
            is_join: the message was a driver's join.
        """
        if is_unknown_session and peer.startswith(lane_names.WORKER_PREFIX):
            self._turn_away(peer)
        self.refused_count += 1
        if service_logs.is_logged(self.refused_count, _LOGGED_COUNT):
            name = lane_names.shown(peer)
            log.warning("message_refused count=%d peer=%s reason=%.300s", self.refused_count, name, reason)
        self.send(peer, [codec.refused(reason, is_unknown_session=is_unknown_session, is_join=is_join)])

    def take_turned_away(self, session_id: SessionId) -> set[Peer]:
        """The workers of a session that were refused as it was not open here; they are told nothing."""
        found = self._turned_away.pop(session_id, set())
        self._turned_away_count -= len(found)
        return found

    def _turn_away(self, peer: Peer) -> None:
        session_id = lane_names.read_name(peer, self._token_key).session_id
        found = self._turned_away.setdefault(session_id, set())
        self._turned_away_count += peer not in found
        found.add(peer)
        if self._turned_away_count > MAX_TURNED_AWAY:  # of sessions that are over, no doubt
            self._turned_away.clear()
            self._turned_away_count = 0
