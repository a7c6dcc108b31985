"""Facts of a node, as values; fields are those of protos/quakegrid/internal/v1/examination.proto."""

from __future__ import annotations

import datetime
import enum
from dataclasses import dataclass

NO_LIMIT = -1


class PortState(enum.IntEnum):
    """The result of connecting to a port; numbers as in the proto."""

    UNSPECIFIED = 0
    OPEN = 1
    REFUSED = 2
    SILENT = 3
    UNRESOLVED = 4
    OTHER_KEY = 5
    OTHER_CLOCK = 6
    FOREIGN = 7

    @classmethod
    def _missing_(cls, value: object) -> PortState:  # noqa: ARG003
        """A newer peer may send states that we do not have."""
        return cls.UNSPECIFIED


@dataclass(frozen=True, slots=True)
class Versions:
    """Versions of packages that must agree; empty for a package that is not installed."""

    python: str = ""
    quakegrid: str = ""
    engine: str = ""
    numpy: str = ""


@dataclass(frozen=True, slots=True)
class AuthkeyFacts:
    """Facts of a key that do not reveal it; `disk_fingerprint` is of the file as it is now."""

    length: int = 0
    is_guessable: bool = False
    fingerprint: str = ""
    disk_fingerprint: str = ""


@dataclass(frozen=True, slots=True)
class DiskFacts:
    """Room in a folder, or why it cannot be used."""

    role: str
    path: str
    total_bytes: int = 0
    free_bytes: int = 0
    error: str = ""
    file_system: str = ""


@dataclass(frozen=True, slots=True)
class NameFacts:
    """A host name, the setting that uses it (empty: the machine's own name), and its addresses."""

    name: str
    setting: str
    addresses: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PortFacts:
    """A port that was tried; `is_expected` tells whether somebody must answer there now.

    `node` is the node whose agent must answer; empty if it is called as its host.
    """

    service: str
    host: str
    number: int
    state: PortState = PortState.OPEN
    is_expected: bool = True
    node: str = ""


@dataclass(frozen=True, slots=True)
class AccountFacts:
    """An account of a node; `uid` is -1 if it has none of this name."""

    name: str
    uid: int = -1


@dataclass(frozen=True, slots=True)
class PeopleFacts:
    """How a node is prepared for people, and how its agent proves itself; see the proto."""

    is_known: bool = False
    group: str = ""
    has_group: bool = False
    members: tuple[str, ...] = ()
    worker_user: str = ""
    has_worker_user: bool = False
    changes_users: bool = False
    identity: str = ""
    identity_end_s: float = 0.0


@dataclass(frozen=True, slots=True)
class CredentialFacts:
    """The last valid credential of a person, and when it ends, in seconds since 1970."""

    name: str
    end_s: float


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """One machine as a process of ours sees it; `NO_LIMIT` where there is none.

    `machine` is the same for all processes on one machine, except in containers with systemd, where services
    and people see different ids of the boot. `instance_id` is of the agent that tells this, or of the agent
    of the machine where the doctor runs; empty if there is none, or an older one.
    """

    node: str = ""
    machine: str = ""
    versions: Versions = Versions()
    core_count: int = 0
    worker_memory_bytes: int = 0
    is_embedded: bool = False
    memory_bytes: int = 0
    memory_limit_bytes: int = NO_LIMIT
    cpu_limit: float = NO_LIMIT
    task_limit: int = NO_LIMIT
    swap_bytes: int = 0
    swap_used_bytes: int = 0
    overcommit_mode: int = 0
    governors: tuple[str, ...] = ()
    open_file_limit: int = NO_LIMIT
    process_limit: int = NO_LIMIT
    authkey: AuthkeyFacts = AuthkeyFacts()
    settings_error: str = ""
    settings_warnings: tuple[str, ...] = ()
    shared_dir: str = ""
    nonce: str = ""
    disks: tuple[DiskFacts, ...] = ()
    names: tuple[NameFacts, ...] = ()
    ports: tuple[PortFacts, ...] = ()
    silent_probes: tuple[str, ...] = ()
    has_slow_encryption: bool = False
    sqlite_version: str = ""
    open_key_files: tuple[str, ...] = ()
    is_root: bool = False
    accounts: tuple[AccountFacts, ...] = ()
    people: PeopleFacts = PeopleFacts()
    instance_id: str = ""


@dataclass(frozen=True, slots=True)
class Clock:
    """A node's clock compared with ours: how far it is ahead, and the round trip of this measurement."""

    offset_s: float
    round_trip_s: float


def clock_of(
    send_time: datetime.datetime,
    node_receive_time: datetime.datetime,
    node_send_time: datetime.datetime,
    receive_time: datetime.datetime,
) -> Clock:
    """Compare clocks by one call, as NTP does: sent, received there, answered there, received here.

    The offset is exact within half the round trip.
    """
    there = (node_receive_time - send_time).total_seconds()
    back = (node_send_time - receive_time).total_seconds()
    return Clock(offset_s=(there + back) / 2, round_trip_s=there - back)


@dataclass(frozen=True, slots=True)
class Visit:
    """The result of asking one node.

    Args:
        host: as in `host_cores`.
        port: its agent's port, tried from here.
        facts: what it told; None if it did not answer.
        clock: None if it did not answer.
        error: why it did not answer though its port is open.
    """

    host: str
    port: PortFacts
    facts: NodeFacts | None = None
    clock: Clock | None = None
    error: str = ""
