"""The state of a process of this node. Peers ask for it when a link breaks, as the process may live."""

from __future__ import annotations

from pathlib import Path

from quakegrid.internal.v1 import orders_pb2

_STATES = {
    "Z": orders_pb2.PROCESS_STATE_GONE,
    "X": orders_pb2.PROCESS_STATE_GONE,
    "T": orders_pb2.PROCESS_STATE_STOPPED,
    "t": orders_pb2.PROCESS_STATE_STOPPED,
}


def is_stopped(pid: int) -> bool:
    """Whether a process is stopped by a signal. One that stands in a debugger does not count."""
    return _state(pid) == "T"


def has_ended(pid: int) -> bool:
    """Whether a process has ended, reaped or not."""
    return process_state(pid) == orders_pb2.PROCESS_STATE_GONE


def process_state(pid: int) -> orders_pb2.ProcessState.ValueType:
    """Whether a process runs."""
    state = _state(pid)
    return _STATES.get(state, orders_pb2.PROCESS_STATE_RUNNING) if state else orders_pb2.PROCESS_STATE_GONE


def _state(pid: int) -> str:
    """The letter of a process's state; empty if the process is gone."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    return "".join(stat.rpartition(")")[2].split()[:1])
