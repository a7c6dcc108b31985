"""The messages between an agent and its template: orders to the template, reports from it.

Both are closed unions of values, matched to their ends with `assert_never`. `packets.py` turns them into
bytes and back, and checks what comes in. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from quakegrid.nodes.template_state import TemplateState
from quakegrid.services.agent.rules.persons import Account


@dataclass(frozen=True, slots=True)
class WorkerSpec:
    """The worker that a fork is to become.

    Args:
        worker_id: its name.
        session_id: whose tasks it runs.
        lane_endpoint: where its tasks come from.
        node: name of its node.
        cores: numbers of the cores that it is pinned to.
        memory_bytes: the memory that it may have of its own, 0 for no limit.
        nice: added to its niceness.
        cgroup: folder of its cgroup; empty if it has none.
        blob_dir: folder of its session's blobs; empty if it has none.
    """

    worker_id: str
    session_id: int
    lane_endpoint: str
    node: str
    cores: tuple[int, ...]
    memory_bytes: int
    nice: int
    cgroup: str
    blob_dir: str


@dataclass(frozen=True, slots=True)
class ForkWorker:
    """Fork a worker.

    Descriptors: its keys in a memfd, its setup in another one, and pipes for stdout and stderr if there are
    any. It runs as `account`; None is the agent's own.
    """

    name: str
    worker: WorkerSpec
    account: Account | None = None


@dataclass(frozen=True, slots=True)
class ForkDriver:
    """Fork a driver.

    Descriptors: its request in a memfd, the stream of its events, then 0, 1 and 2, then where it writes the
    ids of its jobs, then `given_count` for its own use. It runs as `account`; None is the agent's own.
    """

    name: str
    account: Account | None = None
    given_count: int = 0


@dataclass(frozen=True, slots=True)
class SignalChild:
    """Send a signal to a child, unless it has ended."""

    pid: int
    number: int


@dataclass(frozen=True, slots=True)
class Ping:
    """Give a sign of life, a `Pong`."""


@dataclass(frozen=True, slots=True)
class EndTemplate:
    """Kill the children that are left, and end."""


Order = ForkWorker | ForkDriver | SignalChild | Ping | EndTemplate


@dataclass(frozen=True, slots=True)
class LoadedCode:
    """The code that a template found and loaded; `engine_missing` says why there is no engine for drivers."""

    engine_version: str = ""
    engine_missing: str = ""
    fingerprint: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Ready:
    """The template can fork."""

    state: TemplateState
    code: LoadedCode
    duration_s: float


@dataclass(frozen=True, slots=True)
class LoadingFailed:
    """The template cannot work, and ends."""

    reason: str


@dataclass(frozen=True, slots=True)
class Pong:
    """The answer to a `Ping`."""


@dataclass(frozen=True, slots=True)
class Forked:
    """A child was forked as ordered."""

    name: str
    pid: int


@dataclass(frozen=True, slots=True)
class NotForked:
    """A child that was ordered could not be forked."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Exited:
    """A child has ended; `status` is its wait status."""

    pid: int
    status: int
    peak_memory_bytes: int


@dataclass(frozen=True, slots=True)
class OrderRefused:
    """An order other than to fork could not be obeyed, or a packet was no order."""

    reason: str


Report = Ready | LoadingFailed | Pong | Forked | NotForked | Exited | OrderRefused
# The reports that tell of a child.
ChildReport = Forked | NotForked | Exited
