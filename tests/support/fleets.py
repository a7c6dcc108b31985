"""A fleet core as its loop uses it: each event, then what `place` adds to it."""

from __future__ import annotations

from typing import Any

from quakegrid.nodes.worker_ends import WorkerEnd
from quakegrid.services.broker.fleet import events as fleet
from quakegrid.services.broker.fleet.core import Fleet


def step(core: Fleet, event: fleet.Event, now_s: float = 0.0) -> list[fleet.Action]:
    """A turn of the loop with one event."""
    return core.handle(event, now_s) + core.place()


def ended(worker_id: str, reason: str, *, is_clean: bool, **fields: Any) -> WorkerEnd:
    """The end of a worker, as an agent tells it: the core knows whose worker it is."""
    return WorkerEnd(0, worker_id, reason, is_clean, **fields)
