"""When leases end, and the driver's side of keeping them."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from quakegrid import errors
from quakegrid.engine.database import hold_keeper
from quakegrid.engine.database.hold_keeper import HoldKeeper
from quakegrid.jobs.states import JobState
from quakegrid.services.dbserver.jobs.holds import HoldDeadlines, HoldMonitor


def test_deadlines_end_after_their_time() -> None:
    """A lease is over when its time has passed, not before."""
    deadlines = HoldDeadlines()

    deadlines.extend(1, 30.0, 100.0)
    deadlines.extend(2, 10.0, 100.0)

    assert deadlines.next_s() == 110.0
    assert deadlines.ended(109.9) == []
    assert deadlines.ended(110.0) == [2]
    assert deadlines.has_ended(2, 110.0)
    assert not deadlines.has_ended(1, 110.0)


def test_deadlines_extend_moves_the_end() -> None:
    """A renewal counts from now; only an earlier end has to wake the monitor."""
    deadlines = HoldDeadlines()

    is_earlier = [deadlines.extend(1, 30.0, now_s) for now_s in (0.0, 20.0)]

    assert is_earlier == [True, False]
    assert deadlines.ended(49.9) == []
    assert deadlines.ended(50.0) == [1]


def test_deadlines_drop_forgets() -> None:
    """A job that has ended is not judged; a job that was never there neither."""
    deadlines = HoldDeadlines()
    deadlines.extend(1, 30.0, 0.0)

    deadlines.drop(1)
    deadlines.drop(2)

    assert deadlines.next_s() is None
    assert not deadlines.has_ended(1, 1e9)


def test_deadlines_pause_gives_the_lost_time_back() -> None:
    """Every lease ends as much later."""
    deadlines = HoldDeadlines()
    deadlines.extend(1, 30.0, 0.0)
    deadlines.extend(2, 10.0, 0.0)

    deadlines.pause(100.0)

    assert (deadlines.ended(109.9), deadlines.ended(110.0), deadlines.next_s()) == ([], [2], 110.0)
    assert deadlines.has_ended(1, 130.0)


def test_no_hold_ends_while_nobody_takes_renewals() -> None:
    """The next beat of the event loop tells for how long, and every hold gets that time."""
    deadlines = HoldDeadlines(beat_s=0.0)
    deadlines.extend(1, 30.0, 0.0)

    assert deadlines.beat(1.5) == 0.0
    assert deadlines.ended(100.0) == []
    assert not deadlines.has_ended(1, 100.0)
    assert deadlines.beat(101.5) == 100.0
    assert deadlines.next_s() == 130.0
    assert deadlines.beat(130.0) > 0.0


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        """The time."""
        return self.now_s


class Verdicts:
    """Takes the place of the writer, of which every verdict is made; remembers when."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.times_s: list[float] = []
        self.has_come = threading.Event()

    def run(self, _work: Any) -> None:
        """Take a verdict."""
        self.times_s.append(self._clock.now_s)
        self.has_come.set()


def test_monitor_counts_no_time_in_which_the_server_did_not_work() -> None:
    """A server that was stopped or busy gives every driver back what it lost, and fails no job for it."""
    clock = Clock()
    verdicts = Verdicts(clock)
    monitor = HoldMonitor([(1, 30.0)], verdicts, lambda: None, clock=clock)  # type: ignore[arg-type]
    clock.now_s = 1000.0
    monitor.extend(2, 3600.0)  # as the first thing that a process does that goes on again
    monitor.beat()

    while clock.now_s < 1040.0 and not verdicts.has_come.is_set():
        clock.now_s += 1.0
        monitor.beat()
    assert verdicts.has_come.wait(30)
    monitor.close()

    assert min(verdicts.times_s) >= 1030.0


class Server:
    """Answers renewals from a script: states, or errors to raise; then it goes on executing."""

    def __init__(self, *answers: JobState | Exception) -> None:
        self.answers = list(answers)
        self.renewals: list[int] = []
        self.lost: list[tuple[int, str]] = []
        self.is_lost = threading.Event()
        self.is_through = threading.Event()

    def renew(self, job_id: int, _holder: str, _lease_s: float) -> JobState:
        """The next answer."""
        self.renewals.append(job_id)
        if not self.answers:
            self.is_through.set()
            return JobState.EXECUTING
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def lose(self, job_id: int, reason: str) -> None:
        """Remember that the keeper gave up."""
        self.lost.append((job_id, reason))
        self.is_lost.set()

    def keep(self, *job_ids: int) -> HoldKeeper:
        """A keeper in a hurry."""
        return HoldKeeper(job_ids, self.renew, self.lose, renew_every_s=0.001)


def test_keeper_renews_at_once_and_goes_on_after_an_outage() -> None:
    """The first renewal comes before the job can start; an unreachable dbserver is asked again."""
    server = Server(JobState.CREATED, errors.PeerUnreachableError("away"), errors.QuakeGridError("full"))

    keeper = server.keep(1)

    assert server.renewals[0] == 1
    assert server.is_through.wait(60)
    keeper.close()
    assert server.lost == []


def test_no_calculation_begins_before_its_job_is_held(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody would end its job if its driver died; a dbserver that stays away is an error."""
    server = Server(errors.PeerUnreachableError("away"), errors.QuakeGridError("full"))
    server.keep(1).close()
    assert server.answers == []
    assert server.renewals.count(1) >= 3

    away = Server(*[errors.PeerUnreachableError("away")] * 2)
    monkeypatch.setattr(hold_keeper, "BEGIN_S", 0.0)
    with pytest.raises(errors.PeerUnreachableError, match="does not take the hold on job 1"):
        away.keep(1)


@pytest.mark.parametrize(
    "answer", [JobState.FAILED, errors.StateError("run by another"), errors.NotFoundError("gone")]
)
def test_keeper_tells_of_a_lost_job_once(answer: JobState | Exception) -> None:
    """Who has lost a job must stop; the other jobs are kept."""
    server = Server(JobState.EXECUTING, JobState.EXECUTING, answer)

    keeper = server.keep(1, 2)

    assert server.is_lost.wait(60)
    assert server.is_through.wait(60)
    keeper.close()
    assert [job_id for job_id, _ in server.lost] == [1]


def test_keeper_lets_ended_and_released_jobs_go() -> None:
    """What the driver ends is its own affair."""
    server = Server(JobState.COMPLETE, JobState.EXECUTING)

    keeper = server.keep(1, 2)
    keeper.release(2)
    keeper.close()

    assert server.lost == []
    assert server.renewals.count(1) == 1


def test_keeper_stops_a_driver_whose_broker_does_not() -> None:
    """A broker ends an aborted job, then its driver; killed in between, it leaves a driver that runs."""
    server = Server(JobState.ABORTED, JobState.EXECUTING, JobState.ABORTED)

    keeper = server.keep(1, 2)

    assert server.is_lost.wait(60)
    assert server.is_through.wait(60)
    keeper.close()
    assert server.lost == [(1, "it was aborted")]


def test_keeper_leaves_an_abort_to_the_broker_at_first() -> None:
    """Which tells the driver who wanted it."""
    server = Server(JobState.ABORTED)

    server.keep(1).close()

    assert server.lost == []
