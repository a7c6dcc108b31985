"""One session's files on a lane: questions of its file readers go to its file server, answers come back.

The lane keeps no content. What cannot be passed on is dropped: readers ask again. Only what they ask before
the server is there waits for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from quakegrid.errors import PeerError
from quakegrid.services.lane import codec
from quakegrid.services.lane.blobs import Send
from quakegrid.services.lane.tasks.events import Peer, SessionId
from quakegrid.transport import lane_sockets
from quakegrid.transport.fast_zmq import zmq
from quakegrid.transport.lane_names import FileReaderName, FileServerName
from quakegrid.wire.v1 import lane_pb2

# Readers of one session: a million workers have had their turn.
MAX_READERS = 1_000_000
MAX_PATH_BYTES = 4096
# Questions that wait for the file server; readers whose question is dropped ask again.
MAX_EARLY = 10_000


@dataclass(slots=True)
class SessionFiles:
    """The file readers of one session, and its file server.

    Args:
        session_id: its number.
        send: to a peer of the lane.
    """

    session_id: SessionId
    send: Send
    sent_bytes: int = 0
    _server: Peer | None = None
    _readers: dict[str, Peer] = field(default_factory=dict)
    # The last question of each reader that asked before the server was there.
    _early: dict[str, bytes] = field(default_factory=dict)

    def take(
        self,
        peer: Peer,
        who: FileServerName | FileReaderName,
        message: lane_pb2.LaneMessage,
        arrived: tuple[bytes, Sequence[zmq.Frame]],
    ) -> None:
        """Take one message of a reader or the server.

        Args:
            peer: that sent it.
            who: that is.
            message: decoded.
            arrived: its header and its payload.
        Raises:
            PeerError: it is nothing that the peer says.
        """
        kind = message.WhichOneof("body")
        if kind == "read_file" and isinstance(who, FileReaderName):
            self._ask(peer, who, message.read_file, arrived[0])
        elif kind == "file_content" and isinstance(who, FileServerName):
            self._answer(message.file_content, arrived)
        elif kind == "serve_files" and isinstance(who, FileServerName):
            codec.check_version(message.serve_files.protocol_version, "the file server")
            codec.check_session(message.serve_files.session_id, who)
            self._server = peer
            early, self._early = self._early, {}
            for header in early.values():
                self.send(peer, [header])
        else:
            raise PeerError(f"{kind!r} is nothing that a connection for files says to a lane")

    def _ask(self, peer: Peer, who: FileReaderName, asked: lane_pb2.ReadFile, header: bytes) -> None:
        codec.check_session(asked.session_id, who)
        if asked.worker_id != who.worker_id:
            raise PeerError(f"this connection belongs to worker {who.worker_id}")
        if len(asked.path) > MAX_PATH_BYTES:
            raise PeerError(f"a path has at most {MAX_PATH_BYTES} characters")
        if len(self._readers) >= MAX_READERS:
            self._readers.clear()  # those that live ask again
        self._readers[who.worker_id] = peer
        if self._server is not None:
            self.send(self._server, [header])
        elif len(self._early) < MAX_EARLY:
            self._early[who.worker_id] = header

    def _answer(self, content: lane_pb2.FileContent, arrived: tuple[bytes, Sequence[zmq.Frame]]) -> None:
        reader = self._readers.get(content.worker_id)
        if reader is not None:
            header, frames = arrived
            self.sent_bytes += lane_sockets.payload_bytes(frames) if frames else 0
            self.send(reader, [header, *frames])
