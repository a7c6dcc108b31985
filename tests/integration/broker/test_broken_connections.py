"""What a peer of a lane sees when its connection breaks."""

from __future__ import annotations

import multiprocessing
import threading

from quakegrid.settings import authkeys
from quakegrid.transport import lane_sockets
from quakegrid.transport.fast_zmq import zmq
from quakegrid.transport.keys import lane_keys
from tests.support.processes import free_port

KEY = authkeys.new_authkey()
# libzmq looks after its connections at each 100th frame that is read.
FRAMES = [f"frame {number}".encode() for number in range(300)]
READ_COUNT = 10
TIMEOUT_S, WAIT_MS = 60.0, 20_000


def test_message_of_many_frames_is_read_to_its_end_when_the_connection_has_broken() -> None:
    """Then comes the next connection with its probe, on which goes what was sent meanwhile."""
    process = multiprocessing.get_context("spawn").Process(target=_read_over_a_break)  # libzmq may end it
    process.start()
    process.join(TIMEOUT_S)
    process.kill()

    assert process.exitcode == 0


def _read_over_a_break() -> None:
    endpoint = f"tcp://127.0.0.1:{free_port()}"
    lanes: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    threading.Thread(target=_let_in, args=(lanes,), daemon=True).start()
    router = lane_sockets.bind_router(lanes, endpoint, KEY)
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    dealer = lane_sockets.connect_dealer(context, endpoint, lane_keys.curve_keys(KEY).door, b"peer")
    monitor = dealer.get_monitor_socket(zmq.Event.DISCONNECTED)
    for each in (router, dealer, monitor):
        each.rcvtimeo = WAIT_MS
    dealer.send(lane_sockets.PROBE)
    assert router.recv_multipart() == [b"peer", lane_sockets.PROBE]
    assert dealer.recv_multipart() == [lane_sockets.PROBE]

    router.send_multipart([b"peer", *FRAMES])
    received = [dealer.recv() for _ in range(READ_COUNT)]
    router.close(linger=0)
    assert monitor.recv_multipart()
    dealer.send(b"sent without a connection")
    router = lane_sockets.bind_router(lanes, endpoint, KEY)
    router.rcvtimeo = WAIT_MS
    assert router.recv_multipart() == [b"peer", b"sent without a connection"]
    while dealer.get(zmq.RCVMORE):
        received.append(dealer.recv(zmq.NOBLOCK))

    assert received == FRAMES
    assert dealer.recv_multipart() == [lane_sockets.PROBE]


def _let_in(lanes: zmq.Context[zmq.Socket[bytes]]) -> None:
    zap = lane_sockets.open_zap(lanes)
    while True:
        lane_sockets.answer_zap(zap, lane_keys.curve_keys(KEY).door.client_public)
