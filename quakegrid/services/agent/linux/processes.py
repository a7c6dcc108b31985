"""The state of a process of this node. Peers ask for it when a link breaks, as the process may live."""

from __future__ import annotations

from quakegrid.internal.v1 import orders_pb2
from quakegrid.machine import process_stats

_STATES = {
    b"Z": orders_pb2.PROCESS_STATE_GONE,
    b"X": orders_pb2.PROCESS_STATE_GONE,
    b"T": orders_pb2.PROCESS_STATE_STOPPED,
    b"t": orders_pb2.PROCESS_STATE_STOPPED,
}


def is_stopped(pid: int) -> bool:
    """Whether a process is stopped by a signal. One that stands in a debugger does not count."""
    return process_stats.fields(pid)[:1] == [b"T"]


def has_ended(pid: int) -> bool:
    """Whether a process has ended, reaped or not."""
    return process_state(pid) == orders_pb2.PROCESS_STATE_GONE


def process_state(pid: int) -> orders_pb2.ProcessState.ValueType:
    """Whether a process runs."""
    found = process_stats.fields(pid)
    if not found:
        return orders_pb2.PROCESS_STATE_GONE
    return _STATES.get(found[process_stats.STATE], orders_pb2.PROCESS_STATE_RUNNING)
