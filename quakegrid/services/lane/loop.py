"""A lane: one process, one thread, one poller around one ROUTER and one scheduler.

Receives, and hands to the `Door` what comes; nothing else. Ends when the broker's end of the control socket
closes.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import gc
import signal
import socket
import time
from pathlib import Path

from quakegrid.machine import parent_death, service_logs
from quakegrid.reports import task_history_files
from quakegrid.services.lane.door import Door
from quakegrid.services.lane.entrance import Entrance
from quakegrid.services.lane.payloads import Payloads
from quakegrid.services.lane.settings import DoorSettings
from quakegrid.services.lane.tasks.events import Peer
from quakegrid.settings import lane_secrets
from quakegrid.settings.config import load_settings
from quakegrid.transport import lane_sockets
from quakegrid.transport.fast_zmq import zmq
from quakegrid.transport.keys import lane_keys
from quakegrid.wire.v1 import lane_pb2

MESSAGES_PER_TURN = 1000
# Threads that encrypt and decrypt. If each has a core, results of one driver pass at 760 MiB/s with two and
# at 580 with one. A third changes little: all of a driver's connection is one thread's work.
IO_THREADS = 2
# Objects more than were freed that make Python look for garbage, and how often it looks among those that
# outlived such looks, too. Those that outlived both are left alone: with a million tasks that took 0.7 s.
GARBAGE_THRESHOLDS = 5_000, 4, 1 << 30
# Where few tasks wait, all of it is done when a session ends.
FEW_TASKS = 10_000


class Lane:
    """The loop of one lane.

    Args:
        router: bound ROUTER of the lane.
        zap: socket of `lane.open_zap` in the same context.
        control: our end of the broker's control socket.
        client_public: the key that peers must prove.
        door: takes what comes.
        entrance: of the router.
    """

    def __init__(
        self,
        router: zmq.Socket[bytes],
        zap: zmq.Socket[bytes],
        control: socket.socket,
        client_public: bytes,
        door: Door,
        entrance: Entrance,
    ) -> None:
        self._entrance = entrance
        self._router, self._zap, self._control = router, zap, control
        self._client_public, self._door = client_public, door

    def run(self) -> None:
        """Serve until the broker goes."""
        poller = zmq.Poller()
        for source in (self._router, self._zap, self._control, self._entrance.tidings):
            poller.register(source, zmq.POLLIN)
        while True:
            ready = {source for source, _ in poller.poll(self._door.timeout_ms(self._entrance.open_at_s))}
            now_s = time.monotonic()
            self._door.begin_turn(now_s)
            if self._entrance.tidings in ready:
                self._entrance.take_tidings(now_s)
            self._entrance.open_due(now_s)
            if self._zap in ready:
                lane_sockets.answer_all_zap(self._zap, self._client_public)
            if self._control.fileno() in ready and not self._read_control():
                return
            if self._router in ready:
                self._read_router()
            self._door.finish_turn()

    def _read_control(self) -> bool:
        """Take every order that waits; False when the broker is gone."""
        session_count = self._door.session_count
        while True:
            try:
                packet = self._control.recv(lane_sockets.CONTROL_BYTES, socket.MSG_DONTWAIT)
            except BlockingIOError:
                if self._door.session_count < session_count and self._door.task_count < FEW_TASKS:
                    gc.collect()
                return True
            except ConnectionResetError:  # the broker went without reading our last report
                return False
            if not packet:
                return False
            self._door.obey(packet)

    def _read_router(self) -> None:
        for number in range(MESSAGES_PER_TURN):
            # Most often one has come, or many.
            if number == 1 and not lane_sockets.has_message(self._router):
                return
            received = lane_sockets.receive_routed(self._router)
            if received is None:
                return
            peer, header, payload = received
            self._door.take(Peer(peer), header, payload)


def main() -> int:
    """Serve one lane; started by the broker only."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--state-dir", type=Path, required=True)
    parser.add_argument("--control-fd", type=int, required=True)
    args = parser.parse_args()
    parent_death.die_with_parent()  # the next broker wants our port
    service_logs.start("%(asctime)s %(name)s %(message)s")
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the broker decides when we end
    settings = load_settings(args.state_dir)
    secret = lane_secrets.of_broker(settings.state_dir)
    control = socket.socket(fileno=args.control_fd)
    endpoint = _wait_for_endpoint(control)
    if not endpoint:
        return 0
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context(io_threads=IO_THREADS)
    zap = lane_sockets.open_zap(context)
    try:
        router = lane_sockets.bind_router(context, endpoint, secret)
    except zmq.ZMQError as exc:
        ready = lane_pb2.LaneReady(error=f"cannot listen on {endpoint}: {exc}")
        control.send(lane_pb2.ControlMessage(ready=ready).SerializeToString())
        return 1
    with contextlib.suppress(BrokenPipeError):  # the broker has gone already: the end of its messages tells
        control.send(lane_pb2.ControlMessage(ready=lane_pb2.LaneReady()).SerializeToString())
    payloads = Payloads(settings.lane_memory_bytes, settings.custom_tmp or None)
    client_public = lane_keys.curve_keys(secret).door.client_public
    token_key = lane_keys.token_key(secret)
    send = functools.partial(lane_sockets.send_frames, router)
    known = DoorSettings(token_key, task_history_files.folder(settings), settings.state_dir)
    door = Door(send, control, payloads, known)
    lane = Lane(router, zap, control, client_public, door, Entrance(context, router))
    shorten_collections()
    lane.run()
    context.destroy(linger=0)
    return 0


def shorten_collections() -> None:
    """Have garbage looked for in what came last only: the whole may be millions of tasks."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GARBAGE_THRESHOLDS)


def _wait_for_endpoint(control: socket.socket) -> str:
    """Where to listen; empty if the broker goes before it says so."""
    try:
        packet = control.recv(lane_sockets.CONTROL_BYTES)
    except ConnectionResetError:
        return ""
    return lane_pb2.ControlMessage.FromString(packet).listen.endpoint
