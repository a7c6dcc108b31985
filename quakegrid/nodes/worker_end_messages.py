"""The end of a worker as a message, which agents, brokers, lanes and drivers pass on."""

from __future__ import annotations

from quakegrid.internal.v1 import orders_pb2
from quakegrid.nodes.worker_ends import WorkerEnd


def encode(end: WorkerEnd) -> orders_pb2.WorkerEnd:
    """The message that tells of an end."""
    return orders_pb2.WorkerEnd(
        session_id=end.session_id,
        worker_id=end.worker_id,
        reason=end.reason,
        is_clean=end.is_clean,
        node=end.node,
        last_output=end.last_output,
        is_blameless=end.is_blameless,
        peak_memory_bytes=end.peak_memory_bytes,
        exit_code=end.exit_code,
        signal=end.signal,
    )


def decode(message: orders_pb2.WorkerEnd) -> WorkerEnd:
    """The end that a message tells of."""
    return WorkerEnd(
        message.session_id,
        message.worker_id,
        message.reason,
        message.is_clean,
        message.node,
        tuple(message.last_output),
        message.is_blameless,
        message.peak_memory_bytes,
        message.exit_code,
        message.signal,
    )
