"""ZeroMQ sockets of the lanes: CURVE on both ends, and which peers may connect.

A lane, which binds, lets in only peers that prove the cluster's client key (ZAP, RFC 27). A peer, which
connects, proves this key and checks the server's. Does not depend on messages.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence

from quakegrid.errors import PeerError
from quakegrid.transport.fast_zmq import SocketBase, zmq
from quakegrid.transport.keys import lane_keys
from quakegrid.transport.keys.lane_keys import DoorKeys

PROTOCOL_VERSION = 9
# Bytes of outcomes that may be on their way to a driver, and after how many it tells that it has taken them.
FLOW_BYTES = 64 << 20
RECEIPT_BYTES = FLOW_BYTES // 4
# Frames of payloads travel in pieces of this size, the last one shorter. ZeroMQ encrypts a frame as a whole,
# and hears of its peer only when a whole one has come: large frames would not outlive its heartbeats on a
# slow line or a busy machine, however often they are sent.
PIECE_BYTES = 1 << 20
# The largest frame that is received; a larger one ends its connection. ZeroMQ makes room for a frame that is
# announced, which strangers may do before they prove a key. Far above a piece and every header.
LARGEST_FRAME_BYTES = 32 << 20
# A packet between the broker and one of its lanes, over their socket pair.
CONTROL_BYTES = 400_000
_MESSAGE_BYTES = 256  # of a message beside its frames, about
# How many messages of one peer wait here before TCP makes it wait.
_RECEIVED_MESSAGES = 1000
# Messages for one peer that does not read, before the next is dropped: twice the small outcomes that a driver
# may get.
_UNREAD_MESSAGES = 2 * FLOW_BYTES // _MESSAGE_BYTES
ZAP_ENDPOINT = "inproc://zeromq.zap.01"
_HANDSHAKE_TIMEOUT_MS = 5_000
_CONNECT_TIMEOUT_MS = 3_000
# Questions of new connections, before messages have their turn: some 10 ms.
_ANSWERS_AT_ONCE = 200
# If the other end does not answer a heartbeat for so long, it or the link is gone. Peers connect anew, so
# they ask often. A lane only forgets the connection, so it asks its thousands of peers less often.
_HEARTBEAT_MS = 3_000
_LANE_HEARTBEAT_MS = 9_000
_HEARTBEAT_TIMEOUT_MS = 9_000
# The first message on each connection, and the answer to it.
PROBE = b""
# The size of a frame's content; pyzmq does not declare that a frame has one.
frame_bytes: Callable[[zmq.Frame], int] = len  # type: ignore[assignment]
# Plain numbers: operations on enums are slow.
_EVENTS, _POLLIN, _RCVMORE = int(zmq.EVENTS), int(zmq.POLLIN), int(zmq.RCVMORE)
_NOBLOCK, _SNDMORE = int(zmq.NOBLOCK), int(zmq.NOBLOCK | zmq.SNDMORE)

# Of the class that pyzmq's own derives from: its way to send twice takes as long.
_send: Callable[[zmq.Socket[bytes], bytes | memoryview | zmq.Frame, int, bool], object] = SocketBase.send
_COPIED_BYTES = (
    zmq.COPY_THRESHOLD
)  # smaller ones; what pyzmq does for a frame that is not to be copied takes longer


def bind_router(context: zmq.Context[zmq.Socket[bytes]], endpoint: str, secret: str) -> zmq.Socket[bytes]:
    """The ROUTER of a lane; `answer_zap` must run in the same context.

    Raises:
        zmq.ZMQError: the port is taken.
    """
    keys = lane_keys.curve_keys(secret)
    router = context.socket(zmq.ROUTER)
    router.curve_server = True
    router.curve_secretkey = keys.server_secret
    router.curve_publickey = keys.door.server_public
    router.zap_domain = b"quakegrid"
    router.setsockopt(zmq.ROUTER_MANDATORY, 1)
    router.setsockopt(zmq.ROUTER_HANDOVER, 1)
    router.setsockopt(zmq.PROBE_ROUTER, 1)
    _set_common(router)
    router.setsockopt(zmq.HEARTBEAT_IVL, _LANE_HEARTBEAT_MS)
    router.setsockopt(zmq.RCVHWM, _RECEIVED_MESSAGES)
    router.setsockopt(zmq.SNDHWM, _UNREAD_MESSAGES)
    router.bind(endpoint)
    return router


def connect_dealer(
    context: zmq.Context[zmq.Socket[bytes]], endpoint: str, keys: DoorKeys, identity: bytes
) -> zmq.Socket[bytes]:
    """A DEALER that talks to a lane under a name that survives reconnections.

    The first message on each connection is a probe (see `is_probe`): messages that were on the way when the
    last connection broke are lost. Messages that are sent without a connection go out with the next one,
    before the probe is read.
    `zmq.IMMEDIATE` would drop it, but then ZeroMQ ends the process when a connection breaks while a message
    of many frames is read from it (decisions/0006).

    Args:
        context: of the calling process.
        endpoint: such as "tcp://10.0.0.1:1912".
        keys: of the cluster's lanes.
        identity: 1 to 255 bytes, unique on the lane, not starting with a zero byte.
    """
    dealer = context.socket(zmq.DEALER)
    dealer.curve_serverkey = keys.server_public
    dealer.curve_secretkey = keys.client_secret
    dealer.curve_publickey = keys.client_public
    dealer.setsockopt(zmq.ROUTING_ID, identity)
    dealer.setsockopt(zmq.RECONNECT_IVL, 50)
    dealer.setsockopt(zmq.RECONNECT_IVL_MAX, 500)
    _set_common(dealer)
    dealer.connect(endpoint)
    return dealer


def open_zap(context: zmq.Context[zmq.Socket[bytes]]) -> zmq.Socket[bytes]:
    """The socket on which ZeroMQ asks about each new connection; poll it and call `answer_zap`."""
    zap = context.socket(zmq.REP)
    zap.linger = 0
    zap.bind(ZAP_ENDPOINT)
    return zap


def answer_zap(zap: zmq.Socket[bytes], client_public: bytes) -> bool:
    """Answer one question of ZeroMQ: only the cluster's client key may connect; returns whether it may."""
    version, request_id, _domain, _address, _identity, mechanism, *credentials = zap.recv_multipart()
    key = lane_keys.z85_encode(credentials[0]) if mechanism == b"CURVE" and credentials else b""
    is_ours = key == client_public
    code, text = (b"200", b"OK") if is_ours else (b"400", b"unknown key")
    zap.send_multipart([version, request_id, code, text, b"", b""])
    return is_ours


def answer_all_zap(zap: zmq.Socket[bytes], client_public: bytes) -> None:
    """Answer the questions that wait, several at a time: thousands of peers may connect at once."""
    for _ in range(_ANSWERS_AT_ONCE):
        answer_zap(zap, client_public)
        if not has_message(zap):
            return


def has_message(socket: zmq.Socket[bytes]) -> bool:
    """Whether a message has come.

    This takes a system call. Receiving without waiting takes none while there are messages, but raises an
    exception after the last one, which takes as long as three of these looks.
    """
    events = socket.getsockopt(_EVENTS)
    assert isinstance(events, int)
    return bool(events & _POLLIN)


def receive_frames(socket: zmq.Socket[bytes]) -> list[zmq.Frame] | None:
    """The next message, if there is one; never waits. Frames are not copied."""
    return wait_for_frames(socket) if has_message(socket) else None


def receive_announced(socket: zmq.Socket[bytes]) -> list[zmq.Frame] | None:
    """The next message, after a poller has just seen one; saves a system call."""
    with contextlib.suppress(zmq.Again):
        return wait_for_frames(socket, _NOBLOCK)
    return None


def receive_routed(router: zmq.Socket[bytes]) -> tuple[bytes, bytes, list[zmq.Frame]] | None:
    """The next message of a ROUTER, if there is one: its sender, its header, and its payload, not copied.

    Sender and header are copied, which takes a sixth of the time.
    """
    receive = router.recv
    try:
        peer = receive(_NOBLOCK)
    except zmq.Again:
        return None
    header, payload = receive(_NOBLOCK), []
    is_more = router.getsockopt(_RCVMORE)
    while is_more:
        frame = receive(copy=False)
        payload.append(frame)
        is_more = frame.more
    return peer, header, payload


def wait_for_frames(socket: zmq.Socket[bytes], flags: int = 0) -> list[zmq.Frame]:
    """The next message, when it comes; frames are not copied."""
    receive = socket.recv
    frame = receive(flags, copy=False)
    frames = [frame]
    while frame.more:
        frame = receive(copy=False)
        frames.append(frame)
    return frames


def send_frames(socket: zmq.Socket[bytes], frames: Sequence[bytes | memoryview | zmq.Frame]) -> None:
    """Send a message without waiting; large frames are not copied.

    Raises:
        zmq.ZMQError: the peer is gone, or does not read; nothing was sent.
    """
    last = frames[-1]
    for frame in frames[:-1]:
        _send(socket, frame, _SNDMORE, type(frame) is bytes and len(frame) < _COPIED_BYTES)
    _send(socket, last, _NOBLOCK, type(last) is bytes and len(last) < _COPIED_BYTES)


def is_probe(frames: Sequence[zmq.Frame]) -> bool:
    """Whether a message, without the name of its sender, says only that there is a new connection."""
    return len(frames) == 1 and not frame_bytes(frames[0])


def cut(frames: Sequence[bytes | memoryview]) -> Sequence[bytes | memoryview]:
    """Cut the frames of a message into pieces, without a copy; small frames stay as they are."""
    for frame in frames:
        if content_bytes(frame) >= PIECE_BYTES:
            return [piece for each in frames for piece in _pieces(each)]
    return frames


def cut_message(message: Sequence[bytes | memoryview]) -> Sequence[bytes | memoryview]:
    """A message with the frames of its payload in pieces; its first frame, the header, stays whole."""
    for place in range(1, len(message)):
        if content_bytes(message[place]) >= PIECE_BYTES:
            return [message[0], *(piece for each in message[1:] for piece in _pieces(each))]
    return message


def join(frames: Sequence[zmq.Frame]) -> Sequence[zmq.Frame | JoinedFrame]:
    """Join the pieces of frames that were cut. Frames that are only passed on need not be joined."""
    for frame in frames:
        if frame_bytes(frame) == PIECE_BYTES:
            return _joined(frames)
    return frames


class JoinedFrame:
    """A frame that came in pieces, used like a frame of ZeroMQ's."""

    __slots__ = ("buffer",)

    def __init__(self, pieces: Sequence[zmq.Frame]) -> None:
        content = bytearray(sum(map(frame_bytes, pieces)))
        self.buffer = memoryview(content)  # can be written, as a frame's
        for number, piece in enumerate(pieces):
            start = number * PIECE_BYTES
            self.buffer[start : start + frame_bytes(piece)] = piece.buffer


def content_bytes(content: bytes | memoryview) -> int:
    """The size of a frame that is to be sent."""
    return content.nbytes if isinstance(content, memoryview) else len(content)


def _pieces(frame: bytes | memoryview) -> Iterator[bytes | memoryview]:
    if content_bytes(frame) < PIECE_BYTES:
        yield frame
        return
    view = memoryview(frame).cast("B")
    for start in range(0, len(view) + 1, PIECE_BYTES):
        yield view[start : start + PIECE_BYTES]


def _joined(frames: Sequence[zmq.Frame]) -> list[zmq.Frame | JoinedFrame]:
    whole: list[zmq.Frame | JoinedFrame] = []
    pieces: list[zmq.Frame] = []
    for frame in frames:
        pieces.append(frame)
        if frame_bytes(frame) < PIECE_BYTES:
            whole.append(JoinedFrame(pieces) if len(pieces) > 1 else frame)
            pieces = []
    if pieces:
        raise PeerError(f"a frame of a payload lacks its end after {len(pieces)} pieces")
    return whole


def payload_bytes(frames: Sequence[zmq.Frame]) -> int:
    """The size of a message's payload."""
    return frame_bytes(frames[0]) if len(frames) == 1 else sum(map(frame_bytes, frames))


def message_bytes(frames: Sequence[zmq.Frame]) -> int:
    """The size that a message counts for in the flow of outcomes."""
    return _MESSAGE_BYTES + payload_bytes(frames)


def _set_common(socket: zmq.Socket[bytes]) -> None:
    socket.linger = 0
    socket.setsockopt(zmq.SNDHWM, 0)
    socket.setsockopt(zmq.RCVHWM, 0)
    socket.setsockopt(zmq.MAXMSGSIZE, LARGEST_FRAME_BYTES)
    socket.setsockopt(zmq.HEARTBEAT_IVL, _HEARTBEAT_MS)
    socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, _HEARTBEAT_TIMEOUT_MS)
    socket.setsockopt(zmq.HANDSHAKE_IVL, _HANDSHAKE_TIMEOUT_MS)
    socket.setsockopt(zmq.CONNECT_TIMEOUT, _CONNECT_TIMEOUT_MS)
