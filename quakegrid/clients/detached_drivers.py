"""Starts calculations that go on by themselves: waits until their jobs exist, then lets the driver alone.

Imports no engine, numpy, grpc or zmq. Uses no signal, so that every thread may call it.
"""

from __future__ import annotations

from collections.abc import Callable

from quakegrid import errors
from quakegrid.clients.drivers import DriverLink, DriverRequest, Event
from quakegrid.settings.config import Settings

# What a driver tells when its inputs were read, or when they will be read later.
READ, QUEUED = "inputs_read", "queued"
NOT_DETACHABLE = (
    "the agent of this machine is of an older release, which ends a calculation with the command that "
    "started it; restart the agent when no calculation runs on this machine"
)


class DetachedStart:
    """The start of a detached calculation, gathered from the driver's events. Pure.

    Args:
        waits_for_inputs: whether the calculation counts as started when its inputs were read, or when it
            waits for its turn; otherwise when its first job exists.
    """

    def __init__(self, *, waits_for_inputs: bool = True) -> None:
        self._waits_for_inputs = waits_for_inputs
        self._is_detachable = False
        self.job_ids: list[int] = []
        self.is_queued = False

    def take(self, event: Event) -> bool:
        """Take note of an event; returns whether the driver may be left now.

        Raises:
            StateError: the agent would end the calculation with the command line.
        """
        kind = event["event"]
        if kind == "detachable":
            self._is_detachable = True
        elif kind == "job":
            if not self._is_detachable:
                raise errors.StateError(NOT_DETACHABLE)
            self.job_ids.append(int(event["job_id"]))
            return not self._waits_for_inputs
        elif kind == QUEUED:
            self.is_queued = True
        return bool(self.job_ids) and kind in (READ, QUEUED)


def start_detached(
    settings: Settings,
    request: DriverRequest,
    *,
    waits_for_inputs: bool = True,
    on_event: Callable[[Event], None] | None = None,
) -> tuple[int, ...]:
    """Start a calculation that goes on by itself; the ids of its jobs.

    Several job files make several jobs. If the call does not wait for inputs, only the first one is sure to
    be among the ids.

    Args:
        settings: of the cluster; its agent must run on this machine.
        request: its `argv` are `engine --run JOB.ini...` with options, and it is detachable.
        waits_for_inputs: as `DetachedStart`.
        on_event: called with each event until then.
    Raises:
        UsageError: a job file is wrong, with the words of the engine.
        QuakeGridError: the calculation could not be started, or has failed already.
        StateError: the agent of this machine is too old.
        As `DriverLink`, too.
    """
    assert request.is_detachable, "a driver that is not detachable would be terminated"
    start, words = DetachedStart(waits_for_inputs=waits_for_inputs), ""
    with DriverLink(settings, request) as link:
        while True:
            for event in link.read():
                if on_event:
                    on_event(event)
                if event["event"] == "error":
                    words = str(event.get("message", ""))
                if event["event"] == "exit":
                    return _ended(start, int(event["code"]), words)
                if start.take(event):
                    return tuple(start.job_ids)


def _ended(start: DetachedStart, code: int, words: str) -> tuple[int, ...]:
    """The jobs of a calculation that has ended already."""
    if code == errors.EXIT_CLEAN:
        return tuple(start.job_ids)
    message = words or f"the driver ended with exit code {code}; quakegrid jobs list shows what became of it"
    raise errors.UsageError(message) if code == errors.EXIT_USAGE else errors.QuakeGridError(message)
