"""How far a driver is: what it keeps of its stages, and when a broker hears of them that may be gone."""

from __future__ import annotations

import contextlib
import queue
from collections.abc import Iterator
from pathlib import Path

import pytest

from quakegrid import testing
from quakegrid.session import stage_teller
from quakegrid.session.options import Patience, SessionOptions
from quakegrid.session.stage_teller import StageBook, Stages, StageTeller
from quakegrid.session.stream import BrokerStream
from quakegrid.session.wakeup import Wakeup
from quakegrid.settings import config
from quakegrid.testing.fake_broker import FakeBroker

SESSION = 77
WAIT_S = 20.0
LANE = "tcp://127.0.0.1:1912"
QUICK = Patience(broker_s=10.0, broker_retry_s=0.01, flush_s=0.1, stages_s=0.01)


def counts_of(stages: Stages) -> list[tuple[int, str, int, int, int]]:
    """Stages without their times."""
    return [
        (each.job_id, each.operation, each.done_count, each.total_count, each.replayed_count)
        for each in stages
    ]


def test_book_has_each_stage_once_as_it_was_told_last() -> None:
    """In the order in which they began; the same operation of two calculations is two stages."""
    book = StageBook()
    book.take(7, "classical", (0, 10, 0), 100.5)
    book.take(7, "postclassical", (0, 2, 0), 101.0)
    book.take(8, "classical", (0, 5, 0), 102.0)
    book.take(7, "classical", (4, 12, 1), 103.0)

    stages = book.messages()

    assert counts_of(stages) == [
        (7, "classical", 4, 12, 1),
        (7, "postclassical", 0, 2, 0),
        (8, "classical", 0, 5, 0),
    ]
    assert (stages[0].begin_time.ToMilliseconds(), stages[0].change_time.ToMilliseconds()) == (
        100_500,
        103_000,
    )


def test_book_has_the_last_stages_only() -> None:
    """However many operations there are, and however long their names."""
    book = StageBook()
    for number in range(stage_teller.MOST_STAGES + 3):
        book.take(7, f"{number} " + 1000 * "x", (0, 1, 0), float(number))

    stages = book.messages()

    assert len(stages) == stage_teller.MOST_STAGES
    assert stages[0].operation.startswith("3 ")
    assert len(stages[0].operation) == stage_teller.MOST_NAME_CHARS


@contextlib.contextmanager
def teller(told: queue.SimpleQueue[Stages], pause_s: float) -> Iterator[StageTeller]:
    """A teller whose broker hears everything."""

    def tell(stages: Stages) -> bool:
        told.put(stages)
        return True

    made = StageTeller(tell, pause_s)
    yield made
    made.close()


def test_first_stage_is_told_at_once_and_later_ones_together() -> None:
    """However often tasks end, the broker hears of them once in the pause."""
    told: queue.SimpleQueue[Stages] = queue.SimpleQueue()
    with teller(told, pause_s=1000.0) as made:
        made.take(7, "classical", (0, 10_000, 0))
        first = told.get(timeout=WAIT_S)
        for number in range(10_000):
            made.take(7, "classical", (number, 10_000, 0))

        assert counts_of(first) == [(7, "classical", 0, 10_000, 0)]
        assert told.empty()


def test_what_came_in_the_pause_is_told_after_it() -> None:
    """Also if nothing else comes: the end of a stage is not lost."""
    told: queue.SimpleQueue[Stages] = queue.SimpleQueue()
    with teller(told, pause_s=0.01) as made:
        made.take(7, "classical", (0, 2, 0))
        made.take(7, "classical", (2, 2, 0))

        while counts_of(told.get(timeout=WAIT_S)) != [(7, "classical", 2, 2, 0)]:
            pass


def test_what_the_broker_does_not_hear_is_told_again() -> None:
    """After the same pause, with what came meanwhile."""
    told: queue.SimpleQueue[Stages] = queue.SimpleQueue()

    def tell(stages: Stages) -> bool:
        told.put(stages)
        return False

    made = StageTeller(tell, pause_s=0.001)
    made.take(7, "classical", (1, 2, 0))

    assert [counts_of(told.get(timeout=WAIT_S)) for _ in range(2)] == 2 * [[(7, "classical", 1, 2, 0)]]
    made.close()


@pytest.fixture
def broker() -> FakeBroker:
    """A broker in memory."""
    return FakeBroker()


@pytest.fixture
def settings(tmp_path: Path) -> config.Settings:
    """Of a cluster that is not there."""
    testing.write_cluster_config(tmp_path)
    return config.load_settings(tmp_path, testing.isolated_environ(tmp_path))


@pytest.fixture
def stream(settings: config.Settings, broker: FakeBroker) -> Iterator[BrokerStream]:
    """The stream of an admitted session."""
    broker.admit(settings, SESSION, LANE)
    made = BrokerStream(settings, SessionOptions("ann", b"", (7,)), Wakeup(), QUICK, broker.connect)
    assert not isinstance(made.answers.get(timeout=WAIT_S), Exception)
    yield made
    made.close()


def test_broker_hears_the_stages_of_a_session_with_its_token(
    stream: BrokerStream, broker: FakeBroker
) -> None:
    """Nobody else may tell them."""
    stream.stages.take(7, "classical", (1, 2, 0))

    request = broker.stages.get(timeout=WAIT_S)

    assert (request.session_id, len(request.session_token)) == (SESSION, 64)
    assert counts_of(list(request.stages)) == [(7, "classical", 1, 2, 0)]


def test_broker_that_was_away_hears_the_stages_later(stream: BrokerStream, broker: FakeBroker) -> None:
    """Nothing that the driver does fails or waits meanwhile."""
    broker.is_up = False
    stream.stages.take(7, "classical", (2, 2, 0))
    broker.is_up = True

    assert counts_of(list(broker.stages.get(timeout=WAIT_S).stages)) == [(7, "classical", 2, 2, 0)]


def test_next_broker_hears_the_stages_though_nothing_new_has_happened(
    stream: BrokerStream, broker: FakeBroker, settings: config.Settings
) -> None:
    """It knows of the session what drivers tell it."""
    stream.stages.take(7, "classical", (1, 2, 0))
    broker.stages.get(timeout=WAIT_S)

    broker.break_stream()
    broker.admit(settings, SESSION, LANE)

    assert counts_of(list(broker.stages.get(timeout=WAIT_S).stages)) == [(7, "classical", 1, 2, 0)]


def test_closed_session_tells_nothing(stream: BrokerStream, broker: FakeBroker) -> None:
    """Its thread ends."""
    stream.stages.take(7, "classical", (1, 2, 0))
    broker.stages.get(timeout=WAIT_S)
    thread = stream.stages._thread
    assert thread is not None

    stream.close()
    thread.join(WAIT_S)

    assert not thread.is_alive()
    assert broker.stages.empty()
