"""A lane for tests of its drivers: it answers as the test says, and schedules nothing.

It listens on a loopback port of the cluster's settings, with the cluster's keys. It hears and says real
messages, encoded and decoded.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from quakegrid.settings import lane_secrets
from quakegrid.settings.config import Settings
from quakegrid.transport import lane_sockets
from quakegrid.transport.fast_zmq import zmq
from quakegrid.transport.keys import lane_keys
from quakegrid.wire.v1 import lane_pb2

WAIT_S = 20.0
_LOOK_MS = 5


@dataclass(frozen=True, slots=True)
class LaneReply:
    """A message of the lane's, and the frames of its payload."""

    message: lane_pb2.LaneMessage
    payload: Sequence[bytes] = ()


# What a lane answers to a message and its payload.
Answer = Callable[[lane_pb2.LaneMessage, Sequence[bytes]], Iterable[LaneReply]]


def joined(session_id: int) -> LaneReply:
    """The lane confirms that a driver has joined."""
    return LaneReply(lane_pb2.LaneMessage(joined=lane_pb2.Joined(session_id=session_id)))


def refused(reason: str, *, is_unknown_session: bool = False) -> LaneReply:
    """The lane did not take a message."""
    refusal = lane_pb2.Refused(reason=reason, is_unknown_session=is_unknown_session)
    return LaneReply(lane_pb2.LaneMessage(refused=refusal))


def outcome(
    session_id: int, task_id: int, payload: Sequence[bytes] = (), *, error: str = "", worker_id: str = "w1"
) -> LaneReply:
    """A worker's outcome of a task's first attempt."""
    lease = lane_pb2.Lease(session_id=session_id, task_id=task_id, attempt=1)
    told = lane_pb2.Outcome(lease=lease, worker_id=worker_id, node="node", error=error)
    return LaneReply(lane_pb2.LaneMessage(outcome=told), payload)


def knows_session(message: lane_pb2.LaneMessage, _payload: Sequence[bytes]) -> Iterable[LaneReply]:
    """The answer of a lane that knows the session and has no workers."""
    return [joined(message.join.session_id)] if message.HasField("join") else []


def refuses_session(message: lane_pb2.LaneMessage, _payload: Sequence[bytes]) -> Iterable[LaneReply]:
    """The answer of a lane that does not know the session."""
    return [refused(f"no {message.WhichOneof('body')} here", is_unknown_session=True)]


class FakeLane:
    """A lane on the first of the cluster's lane ports; a context manager.

    Args:
        settings: of the cluster.
        answer: what it answers to each message but probes; may be replaced at any time.
    """

    def __init__(self, settings: Settings, answer: Answer = knows_session) -> None:
        self.answer = answer
        self.endpoint = f"tcp://127.0.0.1:{settings.lane_ports[0]}"
        self.protocol_version = lane_sockets.PROTOCOL_VERSION
        self.heard: queue.SimpleQueue[lane_pb2.LaneMessage] = queue.SimpleQueue()
        # Routing ids of all drivers that said something.
        self.peers: set[bytes] = set()
        secret = lane_secrets.of_broker(settings.state_dir)
        self._public = lane_keys.curve_keys(secret).door.client_public
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._zap = lane_sockets.open_zap(self._context)
        self._router = lane_sockets.bind_router(self._context, self.endpoint, secret)
        self._outgoing: queue.SimpleQueue[LaneReply] = queue.SimpleQueue()
        self._is_over = False
        self._thread = threading.Thread(target=self._run, name="fake-lane")
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """End the thread, and free the port."""
        self._is_over = True
        self._thread.join(WAIT_S)
        self._context.destroy(linger=0)

    def say(self, reply: LaneReply) -> None:
        """Say something to every driver that was heard, without being asked; for any thread."""
        self._outgoing.put(reply)

    def hear(self, body: str) -> lane_pb2.LaneMessage:
        """The next message of this kind; others before it are passed over.

        Raises:
            queue.Empty: there was none in time.
        """
        while True:
            message = self.heard.get(timeout=WAIT_S)
            if message.WhichOneof("body") == body:
                return message

    def _run(self) -> None:
        poller = zmq.Poller()
        for source in (self._zap, self._router):
            poller.register(source, zmq.POLLIN)
        while not self._is_over:
            ready = dict(poller.poll(_LOOK_MS))
            if self._zap in ready:
                lane_sockets.answer_zap(self._zap, self._public)
            if self._router in ready:
                self._take(self._router.recv_multipart(copy=False))
            while not self._outgoing.empty():
                reply = self._outgoing.get()
                for peer in self.peers:
                    self._send(peer, reply)

    def _take(self, frames: list[zmq.Frame]) -> None:
        peer, header = frames[0].bytes, frames[1].bytes
        payload = [bytes(frame.buffer) for frame in lane_sockets.join(frames[2:])]
        self.peers.add(peer)
        if header == lane_sockets.PROBE:
            hello = lane_pb2.Hello(protocol_version=self.protocol_version)
            self._send(peer, LaneReply(lane_pb2.LaneMessage(hello=hello)))
            return
        message = lane_pb2.LaneMessage.FromString(header)
        self.heard.put(message)
        for reply in self.answer(message, payload):
            self._send(peer, reply)

    def _send(self, peer: bytes, reply: LaneReply) -> None:
        frames = lane_sockets.cut_message([reply.message.SerializeToString(), *reply.payload])
        try:
            self._router.send_multipart([peer, *frames])
        except zmq.ZMQError as exc:
            # A driver that has gone hears nothing, as from a real lane.
            if exc.errno != zmq.EHOSTUNREACH:
                raise
