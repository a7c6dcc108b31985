"""How the broker ends jobs in the database, whatever the dbserver answers at first."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import grpc
import pytest

from quakegrid import errors, testing
from quakegrid.api.v1 import jobs_pb2
from quakegrid.clients.dbserver import job_messages
from quakegrid.jobs.states import JobState
from quakegrid.jobs.values import Job
from quakegrid.services.broker.drivers import job_ends
from quakegrid.services.broker.drivers.job_ends import JobEnds
from quakegrid.settings import config
from quakegrid.settings.config import Settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings of a cluster where no service runs."""
    path = testing.write_cluster_config(tmp_path / "state")
    return config.load_settings(path.parent, {"OQ_CONFIG_FILE": str(path)})


class Database:
    """A dbserver's answers: errors first, then it does what it is told."""

    def __init__(self, *answers: errors.QuakeGridError) -> None:
        self.answers = list(answers)
        self.states: dict[int, tuple[JobState, str]] = {}
        self.call_count = self.most_calls = 0
        self.channels: set[int] = set()

    async def transition(
        self, channel: grpc.aio.Channel, job_id: int, state: JobState, reason: str, *, address: str
    ) -> Job:
        """Move a job to another state, or not."""
        assert address
        self.channels.add(id(channel))
        self.call_count += 1
        self.most_calls = max(self.most_calls, self.call_count)
        await asyncio.sleep(0)
        self.call_count -= 1
        if self.answers:
            raise self.answers.pop(0)
        if job_id in self.states:
            raise errors.StateError("it has ended")
        self.states[job_id] = (state, reason)
        return job_messages.decode_job(jobs_pb2.Job(id=job_id, state=job_messages.encode_state(state)))


@pytest.fixture
def run(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Runs what is done with the ends of jobs until nothing of it is left; nobody waits between two tries."""
    monkeypatch.setattr(job_ends, "FIRST_RETRY_S", 1e-6)
    monkeypatch.setattr(job_ends, "LAST_RETRY_S", 1e-6)

    def run(database: Database, use: Callable[[JobEnds], Coroutine[Any, Any, None]]) -> None:
        async def play() -> None:
            async with asyncio.TaskGroup() as tasks:
                ends = JobEnds(settings, lambda each: void(tasks.create_task(each)), database.transition)
                await use(ends)

        asyncio.run(play())

    return run


def void(_task: asyncio.Task[None]) -> None:
    """Drop a task that its group keeps."""


@pytest.mark.parametrize(
    ("answers", "is_ended"),
    [
        ([], True),
        ([errors.PeerUnreachableError("away")] * 3, True),
        ([errors.QuakeGridError("its disk is full")] * 3, True),
        ([errors.NotFoundError("it was deleted")], False),
    ],
    ids=["there", "away", "full", "deleted"],
)
def test_ending_a_job_goes_on_until_the_dbserver_can(
    answers: list[errors.QuakeGridError], is_ended: bool, run: Callable[..., None]
) -> None:
    """Nothing that it says ends the broker."""
    database = Database(*answers)

    async def use(ends: JobEnds) -> None:
        ends.end([1], JobState.FAILED, "its driver is gone")
        assert await ends.wait([1], 60)

    run(database, use)

    assert database.states == ({1: (JobState.FAILED, "its driver is gone")} if is_ended else {})
    assert database.answers == []


def test_first_wish_for_a_job_counts_while_the_dbserver_is_away(run: Callable[..., None]) -> None:
    """A job that was aborted does not become one that failed as its driver ended."""
    database = Database(errors.PeerUnreachableError("away"))

    async def use(ends: JobEnds) -> None:
        ends.end([1], JobState.ABORTED, "aborted by ann")
        ends.end([1, 2], JobState.FAILED, "the driver ended")

    run(database, use)

    assert database.states == {
        1: (JobState.ABORTED, "aborted by ann"),
        2: (JobState.FAILED, "the driver ended"),
    }


def test_jobs_of_a_session_end_over_one_connection_some_at_a_time(run: Callable[..., None]) -> None:
    """A thousand of them were a thousand connections."""
    database = Database()

    async def use(ends: JobEnds) -> None:
        ends.end(range(1, 1001), JobState.FAILED, "the driver ended")

    run(database, use)

    assert len(database.states) == 1000
    assert len(database.channels) == 1
    assert database.most_calls == job_ends.MAX_CALLS


def test_dbserver_that_is_away_is_asked_a_few_times_a_round_and_logged_once(
    run: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    """A thousand jobs were a thousand calls and lines, every five seconds."""
    database = Database(*[errors.PeerUnreachableError("away")] * job_ends.MAX_CALLS)

    async def use(ends: JobEnds) -> None:
        ends.end(range(1, 1001), JobState.FAILED, "the driver ended")

    run(database, use)

    assert len(database.states) == 1000
    assert [each.getMessage() for each in caplog.records] == ["jobs_not_ended_yet count=1000 reason=away"]


def test_job_that_the_dbserver_cannot_end_holds_up_no_other(run: Callable[..., None]) -> None:
    """The round goes on while anything is answered."""
    database = Database(errors.PeerUnreachableError("away"), errors.QuakeGridError("its disk is full"))

    async def use(ends: JobEnds) -> None:
        ends.end(range(1, 101), JobState.FAILED, "the driver ended")

    run(database, use)

    assert len(database.channels) == 2
    assert list(database.states)[-2:] == [1, 2]


def test_jobs_beyond_the_bound_are_logged_in_one_line(
    run: Callable[..., None], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The dbserver fails them when their leases run out."""
    monkeypatch.setattr(job_ends, "MAX_WAITING", 2)
    database = Database()

    async def use(ends: JobEnds) -> None:
        ends.end(range(1, 11), JobState.FAILED, "the driver ended")

    run(database, use)

    assert [each.getMessage() for each in caplog.records] == [
        "job_ends_dropped count=8 reason=the driver ended"
    ]


def test_waiting_for_the_end_of_a_job_has_a_bound(run: Callable[..., None]) -> None:
    """Whoever aborts a job is answered though the dbserver is away."""
    database = Database(*[errors.PeerUnreachableError("away")] * 100)

    async def use(ends: JobEnds) -> None:
        ends.end([1], JobState.ABORTED, "aborted by ann")
        assert not await ends.wait([1], 0.0)

    run(database, use)

    assert database.states[1][0] is JobState.ABORTED
