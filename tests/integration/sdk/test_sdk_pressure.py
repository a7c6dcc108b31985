"""A program that submits without end, on a cluster of real processes: what driver and lane have at once."""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Self

import pytest

from quakegrid import LocalCluster
from quakegrid.clients.broker import BrokerClient
from quakegrid.sdk.chunks import Chunk
from quakegrid.sdk.executor import DEFAULTS, _open_session
from quakegrid.session import task_window
from quakegrid.session.lane_tasks import LaneTask
from quakegrid.session.session import Session
from tests.support.calls import sdk_calls

LIMIT = 2000
WAIT_S = 60.0


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    """A cluster of two workers, without the engine."""
    with LocalCluster(cores=2) as cluster:
        yield cluster


class Watch:
    """Looks all the time at what there is at most."""

    def __init__(self, *counts: Callable[[], int]) -> None:
        self.most = [0] * len(counts)
        self._counts = counts
        self._is_over = False
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._is_over = True
        self._thread.join()

    def _run(self) -> None:
        while not self._is_over:
            self.most = [max(most, count()) for most, count in zip(self.most, self._counts, strict=True)]
            time.sleep(0.01)


def lane_count(cluster: LocalCluster) -> int:
    """Tasks of all sessions on the lanes, as the broker knows them."""
    with BrokerClient(cluster.settings) as broker:
        return sum(each.queued_count + each.running_count for each in broker.status().sessions)


def test_calls_without_end_are_bounded_everywhere(cluster: LocalCluster) -> None:
    """In the driver by `max_pending`, on the lane by the chunks that are out; every result is right."""
    count = 20 * LIMIT
    with cluster.executor(max_pending=LIMIT) as executor:
        with Watch(lambda: executor.pending_count, lambda: lane_count(cluster)) as watch:
            futures: list[Future[int]] = []
            most = 0
            while len(futures) < count or not watch.most[1]:  # a lane tells its counts five times a second
                futures.append(executor.submit(sdk_calls.square, len(futures)))
                most = max(most, executor.pending_count)
            total = sum(future.result(WAIT_S) for future in futures)
        chunk_window = executor._sender._traffic.window

    assert total == sum(number * number for number in range(len(futures)))
    assert most == LIMIT
    assert watch.most[0] <= LIMIT
    assert 0 < watch.most[1] <= chunk_window


def test_program_that_takes_no_results_has_only_them(cluster: LocalCluster) -> None:
    """Results that nobody takes are the program's own; calls that wait do not grow with them."""
    with cluster.executor(max_pending=LIMIT) as executor:
        untaken = [executor.submit(sdk_calls.square, number) for number in range(5 * LIMIT)]
        assert sum(not future.done() for future in untaken) <= LIMIT
        results = executor.map(sdk_calls.square, range(3 * LIMIT))  # all are submitted
        assert executor.pending_count <= LIMIT
        assert next(results) == 0
        endless = executor.map(sdk_calls.square, itertools.count(), buffersize=10)
        assert list(itertools.islice(endless, 5)) == [0, 1, 4, 9, 16]
        endless.close()  # type: ignore[attr-defined]
        assert list(results) == [number * number for number in range(1, 3 * LIMIT)]
    assert [future.result(0) for future in untaken] == [number * number for number in range(5 * LIMIT)]


def chunk_of(function: Callable[..., Any], *args: Any) -> list[bytes]:
    """The payload of a task with one call."""
    import pickle

    from quakegrid.sdk import function_pickles, pickles
    from quakegrid.sdk.pickles import Outbox

    outbox = Outbox()
    arguments = pickles.dump((args, {}), outbox, has_main=True)
    return [pickle.dumps(Chunk([function_pickles.dump(function)], [0], [arguments], {}), 5)]


@pytest.fixture
def session(cluster: LocalCluster) -> Iterator[Session]:
    """A session of one worker."""
    found = _open_session(cluster.settings, 1, DEFAULTS)
    yield found
    found.close()


def test_lane_has_a_window_of_the_tasks_of_a_session(
    cluster: LocalCluster, session: Session, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Whatever its driver submits. What waits in the driver goes by its weight; each task runs once."""
    window, count = 50, 1000
    monkeypatch.setattr(task_window, "TASKS", window)
    monkeypatch.setattr(task_window, "TASKS_PER_WORKER", 0)
    order, gate = tmp_path / "order", tmp_path / "gate"
    # Alone on its worker each, so that the order of their starts is that of the lane.
    ids = [session.submit(chunk_of(wait_for_gate, gate), LaneTask("gate", 1e9, float("inf")))]
    for number in range(1, count):
        task = LaneTask("op", weight=float(number), expected_s=float("inf"))
        ids.append(session.submit(chunk_of(note, order, number), task))
    end_s = time.monotonic() + WAIT_S
    while lane_count(cluster) < window:
        assert time.monotonic() < end_s
        time.sleep(0.01)
    assert (session.window.sent_count, session.window.waiting_count) == (window, count - window)

    with Watch(lambda: lane_count(cluster), lambda: session.window.sent_count) as watch:
        gate.touch()
        outcomes = [session.receive() for _ in range(count)]

    assert sorted(outcome.task_id for outcome in outcomes) == ids
    assert not any(outcome.error for outcome in outcomes)
    assert max(watch.most) <= window
    started = [int(line) for line in order.read_text().split()]
    # Those that the lane had at first wait for the others, which are heavier. A free place there is filled a
    # moment later than the worker asks, so one of the first may come before its turn.
    assert sorted(started) == list(range(1, count))
    late = [number for number in started if number >= window]
    assert late == sorted(late, reverse=True)


def wait_for_gate(path: Path) -> None:
    """Keep the worker busy until the test has submitted everything."""
    while not path.exists():
        time.sleep(0.01)


def note(path: Path, number: int) -> None:
    """Write down that a task began."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(fd, b"%d\n" % number)
    os.close(fd)
