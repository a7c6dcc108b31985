"""A worker: takes tasks of one session from its lane, one at a time, and sends back outcomes.

One thread around one socket. Knows nothing of the engine: a payload is a pickled callable that returns
the outcome's frames, and is called with the payload's further frames. Unpickles only what came over the
lane, whose peers have proven the authkey.
"""

from __future__ import annotations

import os
import pickle
import resource
import signal
import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass

import zmq

from quakegrid import lane
from quakegrid.wire.v1 import lane_pb2

# One short task waits here while another runs, so that the next begins at once.
CREDIT_COUNT = 2


@dataclass(frozen=True, slots=True)
class WorkerOrder:
    """What the agent tells a worker to be."""

    worker_id: str
    session_id: int
    lane_endpoint: str
    node: str
    core: int
    memory_bytes: int
    setup: bytes


def run_worker(order: WorkerOrder, authkey: str) -> int:
    """Live as the worker of `order` until told to stop; returns the exit code."""
    _limit(order)
    if order.setup:
        pickle.loads(order.setup)()  # noqa: S301 - from a driver that holds the authkey
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    dealer = lane.connect_dealer(context, order.lane_endpoint, authkey, order.worker_id.encode())
    ready = lane_pb2.WorkerReady(
        protocol_version=lane.PROTOCOL_VERSION,
        session_id=order.session_id,
        worker_id=order.worker_id,
        node=order.node,
        credit_count=CREDIT_COUNT,
    )
    dealer.send(lane_pb2.LaneMessage(worker_ready=ready).SerializeToString())
    while True:
        header, *payload = lane.wait_for_frames(dealer)
        message = lane_pb2.LaneMessage.FromString(header.bytes)
        if message.HasField("run_task"):
            _run_task(dealer, order, message.run_task.lease, payload)
        elif message.HasField("refused"):
            print(f"worker {order.worker_id}: refused: {message.refused.reason}", file=sys.stderr)
            break
        else:
            break
    dealer.close(linger=2000)
    context.term()
    return 0


def _limit(order: WorkerOrder) -> None:
    """Pin to the core that the agent named, bound the memory, leave Ctrl-C to the driver."""
    os.sched_setaffinity(0, {order.core})
    if order.memory_bytes:
        resource.setrlimit(resource.RLIMIT_DATA, (order.memory_bytes, order.memory_bytes))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGINT, signal.SIGTERM))


def _run_task(
    dealer: zmq.Socket[bytes], order: WorkerOrder, lease: lane_pb2.Lease, payload: Sequence[zmq.Frame]
) -> None:
    outcome = lane_pb2.Outcome(lease=lease, worker_id=order.worker_id, node=order.node)
    frames: Sequence[bytes | memoryview] = ()
    start_s = time.perf_counter()
    try:
        # A driver that holds the authkey made it.
        frames = pickle.loads(payload[0].buffer)(*payload[1:])  # noqa: S301
    except Exception:  # noqa: BLE001 - whatever the payload raises is its driver's
        outcome.error = traceback.format_exc()
    outcome.duration_s = time.perf_counter() - start_s
    header = lane_pb2.LaneMessage(outcome=outcome).SerializeToString()
    lane.send_frames(dealer, [header, *frames])
