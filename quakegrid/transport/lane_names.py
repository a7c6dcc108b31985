"""The names of peers on a lane: which driver or worker a peer is, with the proof.

A name is the peer's ZeroMQ routing id, which includes the token. It travels encrypted, and a lane tells it to
nobody. So a second connection under the same name must be the peer itself, whose first connection broke. Does
not depend on sockets or messages.
"""

from __future__ import annotations

from dataclasses import dataclass

from quakegrid.errors import PeerError
from quakegrid.transport.keys import lane_keys

# ZeroMQ takes routing ids of up to 255 bytes.
MAX_WORKER_ID_BYTES = 128
MAX_ID = (1 << 63) - 1
MAX_DIGITS = 20
_DRIVER, _WORKER = "driver", "worker"
WORKER_PREFIX = b"worker "  # of each worker's name
_SHOWN_CHARACTERS = 64


@dataclass(frozen=True, slots=True)
class DriverName:
    """The driver of a session."""

    session_id: int


@dataclass(frozen=True, slots=True)
class WorkerName:
    """A worker of a session."""

    session_id: int
    worker_id: str


def driver_name(session_id: int, token: str) -> bytes:
    """The routing id of a session's driver."""
    return f"{_DRIVER} {session_id} {token}".encode()


def worker_name(session_id: int, worker_id: str, token: str) -> bytes:
    """The routing id of a worker."""
    return f"{_WORKER} {session_id} {token} {worker_id}".encode()


def read_name(name: bytes, key: bytes) -> DriverName | WorkerName:
    """Which driver or worker a peer is.

    Args:
        name: its routing id.
        key: of `lane_keys.token_key`.
    Raises:
        PeerError: the name is no valid proof.
    """
    match name.decode(errors="replace").split(" ", 3):
        case [kind, number, token] if kind == _DRIVER and _is_id(number):
            if lane_keys.is_token(token, lane_keys.session_token(key, int(number))):
                return DriverName(int(number))
        case [kind, number, token, worker_id] if kind == _WORKER and _is_id(number) and worker_id:
            expected = lane_keys.worker_token(key, int(number), worker_id)
            if len(worker_id.encode()) <= MAX_WORKER_ID_BYTES and lane_keys.is_token(token, expected):
                return WorkerName(int(number), worker_id)
    raise PeerError("this connection does not prove whose it is; drivers and workers are named by the broker")


def shown(name: bytes) -> str:
    """A name for logs, without its token."""
    parts = name.decode(errors="replace").split(" ", 3)
    kept = [*parts[:2], *parts[3:]] if parts[0] in (_DRIVER, _WORKER) else parts
    return ascii(" ".join(kept)[:_SHOWN_CHARACTERS])


def _is_id(text: str) -> bool:
    """Whether a text is an id in the form that `driver_name` and `worker_name` write."""
    is_number = text.isascii() and text.isdigit() and not text.startswith("0") and len(text) < MAX_DIGITS
    return is_number and int(text) <= MAX_ID
