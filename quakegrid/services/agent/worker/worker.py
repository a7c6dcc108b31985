"""A worker: runs the tasks of one session, one at a time, and sends back outcomes.

Does not depend on the engine: a payload is a pickled callable, which is called with the payload's further
frames and returns the outcome's frames. Unpickles only bytes that came over the lane, from the driver of
its session, which has proven to be it.
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
from pathlib import Path

from quakegrid.files.lane_doors import LaneDoor, OfThisWorker
from quakegrid.jobs import texts
from quakegrid.services.agent.linux.oom_scores import WORKER_SCORE, set_oom_score
from quakegrid.services.agent.orders import WorkerSpec
from quakegrid.services.agent.worker.blobs import MappedFrame, NodeBlobs
from quakegrid.services.agent.worker.holdings import Frame, ReceivedTask, RefusedError
from quakegrid.services.agent.worker.inbox import BlobGoneError, Inbox
from quakegrid.services.agent.worker.silence import warn_of_silence
from quakegrid.services.agent.worker.threads import set_thread_count
from quakegrid.services.agent.worker_keys import WorkerKeys
from quakegrid.transport import lane_names, lane_sockets
from quakegrid.transport.fast_zmq import zmq
from quakegrid.wire.v1 import lane_pb2

# How much is kept of a text that says why a payload could not be run, from its beginning and its end.
ERROR_BYTES = 64 << 10


def run_worker(spec: WorkerSpec, setup: bytes, keys: WorkerKeys) -> int:
    """Run tasks until told to stop; returns the exit code.

    Args:
        spec: what this worker is to be.
        setup: a pickled callable that is run before the first task; empty for none.
        keys: what it connects to its lane with.
    """
    _limit(spec)
    OfThisWorker.door = LaneDoor(
        spec.lane_endpoint, keys.door, spec.session_id, keys.token, spec.worker_id, spec.blob_dir
    )
    failure = _set_up(spec, setup)
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    name = lane_names.worker_name(spec.session_id, spec.worker_id, keys.token)
    dealer = lane_sockets.connect_dealer(context, spec.lane_endpoint, keys.door, name)
    warn_of_silence(dealer, spec)
    inbox = Inbox(dealer, spec.session_id, spec.worker_id, spec.node)
    blobs = NodeBlobs(Path(spec.blob_dir) if spec.blob_dir else None, inbox.fetch_blob)
    try:
        while (task := inbox.next_task()) is not None:
            _run_task(inbox, blobs, spec, task, failure)
    except RefusedError as exc:
        print(f"worker {spec.worker_id}: refused: {exc}", file=sys.stderr)
    dealer.close(linger=2000)
    context.term()
    return 0


def _limit(spec: WorkerSpec) -> None:
    """Pin this worker to its cores, limit its memory, and ignore Ctrl-C, which is for the driver."""
    os.sched_setaffinity(0, spec.cores)
    if len(spec.cores) > 1:
        set_thread_count(len(spec.cores))
    os.nice(spec.nice)
    set_oom_score(WORKER_SCORE)
    if spec.memory_bytes:
        resource.setrlimit(resource.RLIMIT_DATA, (spec.memory_bytes, spec.memory_bytes))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGINT, signal.SIGTERM))


def _set_up(spec: WorkerSpec, setup: bytes) -> str:
    """Run the driver's setup; returns why it failed, which the outcomes of all tasks will tell.

    The pickle is an `EngineSetup` (quakegrid.engine.tasks.engine_task) or a `WorkerSetup`
    (quakegrid.sdk.worker_setup).
    """
    try:
        if setup:
            pickle.loads(setup)()  # noqa: S301 - from the driver of our session
    except Exception:  # noqa: BLE001 - most often an import: what the driver has may be missing here
        return f"worker {spec.worker_id} on {spec.node} could not be set up:\n{traceback.format_exc()}"
    return ""


def _run_task(inbox: Inbox, blobs: NodeBlobs, spec: WorkerSpec, task: ReceivedTask, failure: str) -> None:
    outcome = lane_pb2.Outcome(lease=task.run.lease, worker_id=spec.worker_id, node=spec.node)
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
                call = pickle.loads(payload[0].buffer)  # noqa: S301 - our driver made it
                outcome.load_s = time.perf_counter() - start_s
                frames = call(*payload[1:])
        except Exception:  # noqa: BLE001 - whatever the payload raises is its driver's
            outcome.error = texts.bounded(traceback.format_exc(), ERROR_BYTES)
    outcome.duration_s = time.perf_counter() - start_s
    outcome.peak_memory_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    inbox.send_outcome(outcome, frames)
