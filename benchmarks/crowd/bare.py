"""What workers cost that do nothing but ZeroMQ: the limit that a crowd's own figures stand beside.

As many processes as a crowd has workers, each with one encrypted connection to a process that gives the next
nap for each that has ended. No scheduler, no driver, no records, no agents, no pickles.
"""

from __future__ import annotations

import os
import random
import signal
import struct
import threading
import time
from dataclasses import dataclass

from benchmarks.crowd.cluster import Usage, usage, wait_until
from benchmarks.crowd.work import LEAST_S, MOST_S, SEED
from quakegrid.machine import parent_death
from quakegrid.transport.fast_zmq import zmq

_IO_THREADS = 2  # as a lane
_STOP_S = 60.0
# Frames of a task and its outcome, as long as those of a crowd's.
_TASK_BYTES, _OUTCOME_BYTES = 150, 100


@dataclass(frozen=True, slots=True)
class Bare:
    """Bare workers at their naps for some seconds."""

    workers: Usage
    router: Usage
    task_count: int


def work(worker_count: int, seconds: float) -> Bare:
    """Let bare workers nap, from when each has had a task; call it where no other thread runs."""
    server, client = zmq.curve_keypair(), zmq.curve_keypair()
    heard = os.pipe()
    pids = [_fork(heard, server[0], client, number) for number in range(worker_count)]
    try:
        napping = _Napping(server)
        os.write(heard[1], struct.pack("!i", napping.port) * worker_count)
        wait_until(lambda: len(napping.peers) == worker_count)
        before, count = (usage(pids), usage([os.getpid()])), napping.task_count
        time.sleep(seconds)
        count = napping.task_count - count
        after = usage(pids), usage([os.getpid()])
        napping.stop()
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        for end in heard:
            os.close(end)
    return Bare(after[0] - before[0], after[1] - before[1], count)


class _Napping:
    """Gives naps, in a thread of its own, until `stop`."""

    def __init__(self, keys: tuple[bytes, bytes]) -> None:
        self._context = zmq.Context(io_threads=_IO_THREADS)
        self._router = self._context.socket(zmq.ROUTER)
        self._router.curve_server = True
        self._router.curve_publickey, self._router.curve_secretkey = keys
        self._router.setsockopt(zmq.ROUTER_HANDOVER, 1)
        self._router.backlog = 4096
        self.port = self._router.bind_to_random_port("tcp://127.0.0.1")
        self._stopping = threading.Event()
        self.peers: set[bytes] = set()
        self.task_count = 0
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def stop(self) -> None:
        """Give no more."""
        self._stopping.set()
        self._thread.join(_STOP_S)
        self._context.destroy(linger=0)

    def _serve(self) -> None:
        chance = random.Random(SEED)
        padding = bytes(_TASK_BYTES)
        while not self._stopping.is_set():
            if not self._router.poll(100):
                continue
            peer, _ = self._router.recv_multipart()
            self.peers.add(peer)
            self.task_count += 1
            nap = struct.pack("!d", chance.uniform(LEAST_S, MOST_S))
            self._router.send_multipart([peer, nap + padding])


def _fork(heard: tuple[int, int], server_key: bytes, client: tuple[bytes, bytes], number: int) -> int:
    pid = os.fork()
    if pid:
        return pid
    try:
        parent_death.die_with_parent()
        os.nice(19)  # as a crowd's
        (port,) = struct.unpack("!i", os.read(heard[0], 4))
        dealer = zmq.Context().socket(zmq.DEALER)
        dealer.curve_serverkey = server_key
        dealer.curve_publickey, dealer.curve_secretkey = client
        dealer.setsockopt(zmq.ROUTING_ID, b"worker%d" % number)
        dealer.connect(f"tcp://127.0.0.1:{port}")
        outcome = bytes(_OUTCOME_BYTES)
        while True:
            dealer.send(outcome)
            time.sleep(struct.unpack_from("!d", dealer.recv())[0])
    finally:
        os._exit(1)
