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
# The second connections of a driver and of a worker, for files of their jobs.
_FILE_SERVER, _FILE_READER = "file-server", "file-reader"
# Of each driver's name, and of each worker's.
DRIVER_PREFIX, WORKER_PREFIX = b"driver ", b"worker "
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


@dataclass(frozen=True, slots=True)
class FileServerName:
    """The file server of a session's driver."""

    session_id: int


@dataclass(frozen=True, slots=True)
class FileReaderName:
    """The file reader of a worker."""

    session_id: int
    worker_id: str


PeerName = DriverName | WorkerName | FileServerName | FileReaderName
_OF_DRIVERS: dict[str, type[DriverName | FileServerName]] = {
    _DRIVER: DriverName,
    _FILE_SERVER: FileServerName,
}
_OF_WORKERS: dict[str, type[WorkerName | FileReaderName]] = {
    _WORKER: WorkerName,
    _FILE_READER: FileReaderName,
}


def driver_name(session_id: int, token: str) -> bytes:
    """The routing id of a session's driver."""
    return f"{_DRIVER} {session_id} {token}".encode()


def worker_name(session_id: int, worker_id: str, token: str) -> bytes:
    """The routing id of a worker."""
    return f"{_WORKER} {session_id} {token} {worker_id}".encode()


def file_server_name(session_id: int, token: str) -> bytes:
    """The routing id of the file server of a session; the token is the driver's."""
    return f"{_FILE_SERVER} {session_id} {token}".encode()


def file_reader_name(session_id: int, worker_id: str, token: str) -> bytes:
    """The routing id of the file reader of a worker; the token is the worker's."""
    return f"{_FILE_READER} {session_id} {token} {worker_id}".encode()


def read_name(name: bytes, key: bytes) -> PeerName:
    """Which driver or worker a peer is, or belongs to.

    Args:
        name: its routing id.
        key: of `lane_keys.token_key`.
    Raises:
        PeerError: the name is no valid proof.
    """
    match name.decode(errors="replace").split(" ", 3):
        case [kind, number, token] if kind in _OF_DRIVERS and _is_id(number):
            if lane_keys.is_token(token, lane_keys.session_token(key, int(number))):
                return _OF_DRIVERS[kind](int(number))
        case [kind, number, token, worker_id] if kind in _OF_WORKERS and _is_id(number) and worker_id:
            expected = lane_keys.worker_token(key, int(number), worker_id)
            if len(worker_id.encode()) <= MAX_WORKER_ID_BYTES and lane_keys.is_token(token, expected):
                return _OF_WORKERS[kind](int(number), worker_id)
    raise PeerError("this connection does not prove whose it is; drivers and workers are named by the broker")


def shown(name: bytes) -> str:
    """A name for logs, without its token."""
    parts = name.decode(errors="replace").split(" ", 3)
    kept = [*parts[:2], *parts[3:]] if parts[0] in (*_OF_DRIVERS, *_OF_WORKERS) else parts
    return ascii(" ".join(kept)[:_SHOWN_CHARACTERS])


def _is_id(text: str) -> bool:
    """Whether a text is an id in the form that `driver_name` and `worker_name` write."""
    is_number = text.isascii() and text.isdigit() and not text.startswith("0") and len(text) < MAX_DIGITS
    return is_number and int(text) <= MAX_ID
