"""The options of a session, and how long it waits for broker and lane. Values."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from quakegrid.nodes.fingerprint import Fingerprint

log = logging.getLogger("quakegrid.session")
# How long a calculation waits for a first answer of the broker. Other programs hear at once that there is no
# broker.
OPEN_PATIENCE_S = 30.0
# What a driver has at most to end its jobs after an abort, also where the dbserver is away. There is no
# hurry: a broker that is there has it killed long before.
HANG_GRACE_S = 300


@dataclass(frozen=True, slots=True)
class Needs:
    """What nodes must have to get workers of a session.

    `warn` is called, in a thread of the session, with a sentence on each node that has something else, and
    when the session waits for a broker.
    """

    fingerprint: Fingerprint
    warn: Callable[[str], None] = log.warning


NO_NEEDS = Needs({})


@dataclass(frozen=True, slots=True)
class SessionOptions:
    """The request of a session to the broker.

    Args:
        user_name: whose its jobs are.
        worker_setup: pickle of what each worker calls first: `EngineSetup` (quakegrid.engine) or
            `WorkerSetup` (quakegrid.sdk).
        job_ids: jobs that the driver runs; empty for work without a job.
        is_local: the session runs everything in its driver and wants no workers.
        max_workers: at most, 0 for no limit.
        weight: its part of the cores against the weights of other sessions, 0.01 to 100.
        cores_per_worker: cores that each worker should have; fewer where a node does not have so many free.
        needs: what the nodes of its workers must have.
        hang_grace_s: so long after an abort the kernel ends this process, unless the session is closed by
            then; 0 for never. A driver may hang where it hears no signal, and the broker that would have it
            killed may be dead.
    """

    user_name: str
    worker_setup: bytes
    job_ids: Sequence[int] = ()
    is_local: bool = False
    max_workers: int = 0
    weight: float = 1.0
    cores_per_worker: int = 1
    needs: Needs = NO_NEEDS
    hang_grace_s: int = 0


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a session waits, s; tests wait less.

    Args:
        hello_s: for the lane to confirm that the driver has joined.
        broker_s: for a broker that is gone; its lane's port must be served again by then.
        open_s: for a broker's first answer, when a calculation begins.
        broker_retry_s: between two tries to reach a broker.
        refused_retry_s: before a lane that does not know the session is told again; twice as long each time.
        flush_s: for the last lines of the workers, at the end.
        close_s: for the broker to take note of the end.
        stages_s: between two times that the broker is told how far the tasks are.
    """

    hello_s: float = 30.0
    broker_s: float = 60.0
    open_s: float = OPEN_PATIENCE_S
    broker_retry_s: float = 0.5
    refused_retry_s: float = 1.0
    flush_s: float = 1.0
    close_s: float = 2.0
    stages_s: float = 1.0


# Looked up by each session that is given none; tests put another one here.
PATIENCE = Patience()
