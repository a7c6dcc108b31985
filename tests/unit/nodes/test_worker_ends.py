"""The end of a worker, as agents, brokers, lanes and drivers tell it to each other."""

from __future__ import annotations

import dataclasses

from quakegrid.internal.v1 import orders_pb2
from quakegrid.nodes import worker_end_messages
from quakegrid.nodes.worker_ends import WorkerEnd


def test_end_arrives_as_it_was_told() -> None:
    """Each of its facts, over the wire."""
    end = WorkerEnd(
        session_id=5,
        worker_id="run-1",
        reason="killed by SIGKILL",
        is_clean=False,
        node="n1",
        last_output=("help", "me"),
        is_blameless=True,
        peak_memory_bytes=3 << 20,
        exit_code=137,
        signal=9,
    )
    packet = worker_end_messages.encode(end).SerializeToString()

    again = worker_end_messages.decode(orders_pb2.WorkerEnd.FromString(packet))

    assert again == end
    assert all(getattr(end, field.name) != field.default for field in dataclasses.fields(end))
    assert {field.name for field in orders_pb2.WorkerEnd.DESCRIPTOR.fields} == {
        field.name for field in dataclasses.fields(WorkerEnd)
    }


def test_words_tell_the_peak_memory_where_it_is_known() -> None:
    """People look for workers that ran out of memory."""
    end = WorkerEnd(5, "run-1", "exit code 1", is_clean=False)

    assert end.words == "exit code 1"
    assert dataclasses.replace(end, peak_memory_bytes=3 << 20).words == "exit code 1, peak memory 3 MiB"
