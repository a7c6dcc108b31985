"""Pauses between tries, and the time for which a call is tried again."""

from __future__ import annotations

import random

import grpc
import pytest

from quakegrid.clients import retries
from quakegrid.clients.backoff import Backoff
from quakegrid.clients.dbserver.private_grpc_streams import BrokenStreamError
from quakegrid.clients.retries import Retries


class Clock:
    """Stands in for `time`; goes on only while somebody sleeps."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def monotonic(self) -> float:
        """The time that it is."""
        return self.now_s

    def sleep(self, pause_s: float) -> None:
        """Let time pass."""
        self.now_s += pause_s


def test_pauses_double_up_to_the_longest() -> None:
    """Without jitter the pauses are exact."""
    backoff = Backoff(0.5, 3.0, jitter=0)

    assert [backoff.next_s() for _ in range(5)] == [0.5, 1.0, 2.0, 3.0, 3.0]


def test_reset_begins_again() -> None:
    """A try that succeeded makes the next pause the first one."""
    backoff = Backoff(0.5, 3.0, jitter=0)
    for _ in range(4):
        backoff.next_s()

    backoff.reset()

    assert [backoff.next_s(), backoff.next_s()] == [0.5, 1.0]


def test_jitter_keeps_each_pause_within_its_bounds() -> None:
    """Half of the pause more or less, and over the whole of that range."""
    backoff = Backoff(2.0, 2.0, jitter=0.5, source=random.Random(7))

    pauses = [backoff.next_s() for _ in range(1000)]

    assert 1.0 <= min(pauses) < 1.05
    assert 2.95 < max(pauses) <= 3.0


def test_same_source_gives_same_pauses() -> None:
    """A simulation can be repeated."""
    first, second = (Backoff(0.1, 10.0, source=random.Random(3)) for _ in range(2))

    assert [first.next_s() for _ in range(9)] == [second.next_s() for _ in range(9)]


def test_pauses_of_many_waiters_differ() -> None:
    """By default clients that wait for one service do not ask it at the same instant."""
    assert len({Backoff(1.0, 1.0).next_s() for _ in range(100)}) > 90


@pytest.mark.parametrize(
    ("first_s", "most_s", "jitter"), [(0, 1, 0.5), (-1, 1, 0.5), (2, 1, 0.5), (1, 2, -0.1), (1, 2, 1.1)]
)
def test_impossible_pauses_are_refused(first_s: float, most_s: float, jitter: float) -> None:
    """A pause of nothing would be a busy loop, and one below zero an error of the sleep."""
    with pytest.raises(ValueError, match="no backoff"):
        Backoff(first_s, most_s, jitter)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock by which calls are tried again."""
    clock = Clock()
    monkeypatch.setattr(retries, "time", clock)
    return clock


def test_call_is_tried_until_its_time_is_up(clock: Clock) -> None:
    """A pause that would end after the time is not begun."""
    patience = Retries(10.0)

    try_count = 1
    while patience.may_go_on(BrokenStreamError(grpc.StatusCode.UNAVAILABLE, "")):
        try_count += 1

    assert 1008.5 <= clock.now_s <= 1010.0
    assert 10 <= try_count <= 25


def test_call_without_time_is_tried_once(clock: Clock) -> None:
    """Zero seconds mean one try, at once."""
    assert not Retries(0.0).may_go_on(BrokenStreamError(grpc.StatusCode.UNAVAILABLE, ""))
    assert clock.now_s == 1000.0


def test_refusal_is_not_tried_again(clock: Clock) -> None:
    """What the service refuses it would refuse again."""
    assert not Retries(10.0).may_go_on(BrokenStreamError(grpc.StatusCode.NOT_FOUND, "no such job"))
    assert clock.now_s == 1000.0
