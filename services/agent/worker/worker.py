"""A worker: runs the tasks of one session, one at a time, and sends back outcomes.

Knows nothing of the engine: a payload is a pickled callable that returns the outcome's frames, and is
called with the payload's further frames. Unpickles only what came over the lane, whose peers have proven
the authkey.
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
from dataclasses import dataclass, replace
from pathlib import Path

from quakegrid.jobs import texts
from quakegrid.transport import lane_names, lane_sockets
from quakegrid.transport.fast_zmq import zmq
from quakegrid.wire.v1 import lane_pb2
from services.agent.linux import cgroups
from services.agent.linux.oom_scores import WORKER_SCORE, set_oom_score
from services.agent.worker.blobs import MappedFrame, NodeBlobs
from services.agent.worker.inbox import BlobGoneError, Frame, Inbox, RefusedError, Task
from services.agent.worker.threads import set_thread_count

# A lane says hello at once; one that starts, or is started again, takes some seconds.
SILENCE_MS = 10_000
# Of the text that says why a payload could not be run: its beginning and its end.
ERROR_BYTES = 64 << 10


@dataclass(frozen=True, slots=True)
class WorkerOrder:
    """What the agent tells a worker to be."""

    worker_id: str
    session_id: int
    lane_endpoint: str
    node: str
    cores: tuple[int, ...]
    memory_bytes: int
    nice: int
    cgroup: str
    blob_dir: str
    token: str
    setup: bytes


def run_worker(order: WorkerOrder, authkey: str) -> int:
    """Live as the worker of `order` until told to stop; returns the exit code."""
    _limit(order)
    failure = _set_up(order)
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    name = lane_names.worker_name(order.session_id, order.worker_id, order.token)
    dealer = lane_sockets.connect_dealer(context, order.lane_endpoint, authkey, name)
    _warn_of_silence(dealer, order)
    inbox = Inbox(dealer, order.session_id, order.worker_id, order.node)
    blobs = NodeBlobs(Path(order.blob_dir), inbox.fetch_blob)
    try:
        while (task := inbox.next_task()) is not None:
            _run_task(inbox, blobs, order, task, failure)
    except RefusedError as exc:
        print(f"worker {order.worker_id}: refused: {exc}", file=sys.stderr)
    dealer.close(linger=2000)
    context.term()
    return 0


def _warn_of_silence(dealer: zmq.Socket[bytes], order: WorkerOrder) -> None:
    """Say in the job's log, by way of the agent, that the lane is not reached; we go on trying."""
    if dealer.poll(SILENCE_MS):  # its hello
        return
    from quakegrid.doctor import probes  # noqa: PLC0415 - seldom needed
    from quakegrid.doctor.checks import network_checks  # noqa: PLC0415 - seldom needed
    from quakegrid.doctor.facts import PortFacts  # noqa: PLC0415

    host, _, number = order.lane_endpoint.removeprefix("tcp://").rpartition(":")
    port = PortFacts("lane", host, int(number))
    finding = network_checks.check_port(replace(port, state=probes.look_at_port(port, None)), order.node)
    print(
        f"node {order.node} gets no tasks: {finding.what} (`quakegrid doctor` on the master tells more)",
        file=sys.stderr,
        flush=True,
    )


def _limit(order: WorkerOrder) -> None:
    """Pin to the cores that the agent named, bound the memory, leave Ctrl-C to the driver."""
    os.sched_setaffinity(0, order.cores)
    if len(order.cores) > 1:
        set_thread_count(len(order.cores))
    os.nice(order.nice)
    set_oom_score(WORKER_SCORE)
    cgroups.enter(order.cgroup)
    if order.memory_bytes:
        resource.setrlimit(resource.RLIMIT_DATA, (order.memory_bytes, order.memory_bytes))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGINT, signal.SIGTERM))


def _set_up(order: WorkerOrder) -> str:
    """Run what the driver wants to run first; returns why it failed, which its tasks will say.

    The pickle is an `EngineSetup` (quakegrid.engine.tasks.engine_task) or a `WorkerSetup`
    (quakegrid.sdk.worker_setup).
    """
    try:
        if order.setup:
            pickle.loads(order.setup)()  # noqa: S301 - from a driver that holds the authkey
    except Exception:  # noqa: BLE001 - most often an import: what the driver has may be missing here
        return f"worker {order.worker_id} on {order.node} could not be set up:\n{traceback.format_exc()}"
    return ""


def _run_task(inbox: Inbox, blobs: NodeBlobs, order: WorkerOrder, task: Task, failure: str) -> None:
    outcome = lane_pb2.Outcome(lease=task.run.lease, worker_id=order.worker_id, node=order.node)
    frames: Sequence[bytes | memoryview] = ()
    payload: list[Frame | MappedFrame] = list(task.frames)
    start_s = time.perf_counter()
    try:
        for ref in task.run.blobs:
            payload.insert(ref.place, blobs.frame(ref))
    except BlobGoneError as exc:
        outcome.error = str(exc)
        inbox.send_outcome(outcome, ())
        return
    with inbox.guarded():
        try:
            outcome.error = texts.bounded(failure, ERROR_BYTES)
            if not failure:
                call = pickle.loads(payload[0].buffer)  # noqa: S301 - a driver that holds the authkey made it
                outcome.load_s = time.perf_counter() - start_s
                frames = call(*payload[1:])
        except Exception:  # noqa: BLE001 - whatever the payload raises is its driver's
            outcome.error = texts.bounded(traceback.format_exc(), ERROR_BYTES)
    outcome.duration_s = time.perf_counter() - start_s
    outcome.peak_memory_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    inbox.send_outcome(outcome, frames)
