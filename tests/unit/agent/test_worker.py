"""What a worker makes of a payload that cannot be run, with a lane that is played by hand."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from quakegrid.services.agent.orders import WorkerSpec
from quakegrid.services.agent.worker import worker
from quakegrid.services.agent.worker.blobs import NodeBlobs
from quakegrid.services.agent.worker.inbox import Inbox
from quakegrid.services.lane import codec
from quakegrid.services.lane.tasks.events import Lease, SessionId, TaskId
from quakegrid.transport.fast_zmq import zmq
from quakegrid.wire.v1 import lane_pb2

SPEC = WorkerSpec("w0", 1, "tcp://127.0.0.1:1", "node", (0,), 0, 0, "", "")
WAIT_MS = 20_000


class Runs:
    """Runs Python statements when it is unpickled."""

    def __init__(self, statements: str) -> None:
        self._statements = statements

    def __reduce__(self) -> tuple[Any, ...]:
        return exec, (self._statements,)


@pytest.fixture
def ends() -> Iterator[tuple[zmq.Socket[bytes], zmq.Socket[bytes]]]:
    """The lane's socket, and the worker's."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    lane, dealer = context.socket(zmq.PAIR), context.socket(zmq.PAIR)
    lane.bind("inproc://lane")
    dealer.connect("inproc://lane")
    lane.rcvtimeo = dealer.rcvtimeo = WAIT_MS
    try:
        yield lane, dealer
    finally:
        context.destroy(linger=0)


@pytest.mark.parametrize("failure", ["", "x" * 3_000_000], ids=["payload", "setup"])
def test_error_of_a_payload_travels_whatever_it_says(
    ends: tuple[zmq.Socket[bytes], zmq.Socket[bytes]], tmp_path: Path, failure: str
) -> None:
    """It may be as long as it likes, and no Unicode: the worker lives, and says how it begins and ends."""
    lane, dealer = ends
    inbox = Inbox(dealer, 1, "w0", "node")
    payload = pickle.dumps(Runs("raise ValueError('x' * 3_000_000 + '\\udc80 the end')"))
    lane.send_multipart(
        [codec.RunTaskEncoder(SessionId(1)).encode(Lease(SessionId(1), TaskId(7), 1), (), 0), payload]
    )
    task = inbox.next_task()
    assert task is not None

    worker._run_task(inbox, NodeBlobs(tmp_path, inbox.fetch_blob), SPEC, task, failure)
    outcome = lane_pb2.LaneMessage.FromString(lane.recv_multipart()[0]).outcome

    assert outcome.lease.task_id == 7
    assert len(outcome.error.encode()) <= worker.ERROR_BYTES
    assert "bytes are left out" in outcome.error
    assert failure or outcome.error.endswith("? the end\n")
