"""Which ends of workers count as attempts of a task: crashes and overdue tasks, not what others cause."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from quakegrid.nodes.worker_ends import WorkerEnd
from quakegrid.services.lane.tasks import events as lane
from quakegrid.services.lane.tasks.events import Peer, SessionId, TaskId, WorkerId
from quakegrid.services.lane.tasks.scheduler import Scheduler
from quakegrid.services.lane.tasks.session import MAX_EXCUSED

S = SessionId(7)
TASK = TaskId(1)
DRIVER = Peer(b"driver")
MAX_ATTEMPTS = 3
TIMEOUT_S = 10.0
# Ends of the worker that runs a task alone, and whether they have an excuse.
ENDS = {"crashed": False, "overdue": False, "vanished": True, "ordered": True, "drained": True}


class LongTask:
    """One task that never ends, and one worker after the other."""

    def __init__(self) -> None:
        self.scheduler, self.now_s, self.worker_count = Scheduler(), 0.0, 0
        for event in (
            lane.SessionOpened(S, MAX_ATTEMPTS, TIMEOUT_S),
            lane.DriverJoined(S, DRIVER),
            lane.TaskSubmitted(S, TASK, DRIVER, "op"),
        ):
            self.scheduler.handle(event, self.now_s)

    def lose(self, how: str) -> lane.FailTask | None:
        """Give the task another worker, and lose that; the failure of the task, if that follows."""
        self.worker_count += 1
        name = WorkerId(f"w{self.worker_count}")
        self.scheduler.handle(lane.WorkerJoined(S, name, "node", Peer(name.encode())), self.now_s)
        assert [type(action) for action in self.scheduler.place()] == [lane.SendTask]
        if how == "drained":
            self.scheduler.handle(lane.DrainAsked(S, name), self.now_s)
        if how == "overdue":
            kills = self._pass_time(0.0) + self._pass_time(TIMEOUT_S + 1)
            assert kills == [lane.KillWorker(S, name)]
        is_blameless = how in ("vanished", "ordered")
        end = WorkerEnd(S, name, how, is_clean=how in ("ordered", "drained"), is_blameless=is_blameless)
        actions = self.scheduler.handle(end, self.now_s)
        self.scheduler.check()
        return next((action for action in actions if isinstance(action, lane.FailTask)), None)

    def _pass_time(self, later_s: float) -> list[lane.Action]:
        self.now_s += later_s
        return self.scheduler.handle(lane.TimePassed(), self.now_s)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.lists(st.sampled_from(sorted(ENDS)), min_size=MAX_EXCUSED + 2 * MAX_ATTEMPTS, max_size=30))
def test_task_fails_with_its_last_attempt_and_no_excuse_is_one(ends: list[str]) -> None:
    """An excuse beyond the bound is an attempt: a task that brings nodes down does not run for ever."""
    task, excused_count, reasons = LongTask(), 0, []

    for how in ends:
        if ENDS[how] and excused_count < MAX_EXCUSED:
            excused_count += 1
        else:
            reasons.append(f"attempt {task.worker_count + 1} on node: {how}")
        failed = task.lose(how)
        assert (failed is not None) == (len(reasons) == MAX_ATTEMPTS)
        if failed:
            assert failed.reasons == tuple(reasons)
            return

    assert excused_count + len(reasons) == len(ends)


def test_bound_of_lost_workers_is_that_of_excuses_and_attempts() -> None:
    """A task that takes its node with it each time."""
    task = LongTask()

    losses = [task.lose("vanished") for _ in range(MAX_EXCUSED + MAX_ATTEMPTS)]

    assert losses[:-1] == [None] * (MAX_EXCUSED + MAX_ATTEMPTS - 1)
    assert losses[-1] is not None
