"""What a node serves, and what it waits for before it is restarted."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from quakegrid.errors import IllegalMoveError
from quakegrid.services.agent.rules.service import (
    MOVES,
    CoresDialled,
    KillWorkers,
    PublishService,
    RememberService,
    ReplaceTemplate,
    RestartAsked,
    ServeAsked,
    Service,
    ServiceEvent,
    ServicePhase,
    ServiceStopAsked,
    WorkersEnded,
)

EVENTS: list[ServiceEvent] = [
    ServeAsked(0),
    ServeAsked(3),
    CoresDialled(2),
    CoresDialled(-1),
    ServiceStopAsked(is_forced=False),
    ServiceStopAsked(is_forced=True),
    RestartAsked(is_forced=False),
    RestartAsked(is_forced=True),
    WorkersEnded(driver_count=0),
    WorkersEnded(driver_count=1),
]


def test_stopped_node_serves_no_core_and_remembers_how_many_it_served() -> None:
    """A start without a number takes that."""
    service = Service(8)
    service.handle(ServeAsked(3))

    stopped = service.handle(ServiceStopAsked(is_forced=False))
    stopped_count = service.core_count
    started = service.handle(ServeAsked(0))

    assert stopped == [RememberService(3, is_stopped=True)]
    assert stopped_count == 0
    assert started == [RememberService(3, is_stopped=False)]
    assert service.core_count == 3


def test_dial_of_a_node_that_is_stopped_counts_from_its_start_on() -> None:
    """It stays stopped."""
    service = Service(8, phase=ServicePhase.STOPPED)

    dialled = service.handle(CoresDialled(2))

    assert dialled == [RememberService(2, is_stopped=True)]
    assert (service.core_count, service.phase) == (0, ServicePhase.STOPPED)


def test_restart_replaces_the_template_when_there_are_no_children() -> None:
    """No cores meanwhile; forced, the workers are killed when it is remembered."""
    service = Service(4)

    asked = service.handle(RestartAsked(is_forced=True))
    was_serving, awaited = service.is_serving, service.awaits_children
    ended = service.handle(WorkersEnded(driver_count=0))

    assert asked == [RememberService(-1, is_stopped=False), KillWorkers()]
    assert (was_serving, awaited) == (False, True)
    assert ended == [ReplaceTemplate()]
    assert (service.phase, service.core_count, service.awaits_children) == (ServicePhase.SERVING, 4, False)


def test_restart_with_drivers_serves_until_they_have_ended() -> None:
    """They wait for workers; it is told once."""
    service = Service(4)
    service.handle(RestartAsked(is_forced=False))

    first = service.handle(WorkersEnded(driver_count=1))
    second = service.handle(WorkersEnded(driver_count=1))
    core_count = service.core_count
    last = service.handle(WorkersEnded(driver_count=0))

    assert (first, second, core_count, last) == ([PublishService()], [], 4, [ReplaceTemplate()])


def test_every_sequence_of_events_keeps_to_the_table() -> None:
    """An event that the table does not have is refused, and changes nothing."""
    for events in itertools.product(EVENTS, repeat=4):
        service = Service(4)
        for event in events:
            before = service.phase
            try:
                service.handle(event)
            except IllegalMoveError:
                assert isinstance(event, WorkersEnded)
                assert before in (ServicePhase.SERVING, ServicePhase.STOPPED)
                assert service.phase is before
            else:
                assert service.phase in MOVES[before, type(event)]
            service.check()
            assert service.is_serving == (service.core_count > 0)


def test_limit_below_all_cores_is_found() -> None:
    """The invariant that the core keeps."""
    with pytest.raises(IllegalMoveError, match="serves -2 at most"):
        Service(4, -2).check()


def test_unknown_service_event_is_a_mistake_of_ours() -> None:
    """It is not passed over."""
    event: Any = "no event"

    with pytest.raises(AssertionError):
        Service(4).handle(event)
