"""Holds of drivers on jobs: a job whose driver stops renewing its hold becomes failed, with the reason.

Which jobs are held is on the disk, in the table `quakegrid_lease`. The table keeps its old name, since
migrations are never edited. When each hold ends is in memory. So a renewal costs no write, and after a
restart every driver has the whole time of its hold to renew it.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable

from quakegrid.errors import QuakeGridError, StateError, UsageError
from quakegrid.jobs.states import JobState
from quakegrid.services.dbserver.jobs import rows as job_rows
from quakegrid.services.dbserver.store.database import SqlSession
from quakegrid.services.dbserver.store.writer import Writer

SHORTEST_HOLD_S = 1.0
LONGEST_HOLD_S = 86_400.0
# When the disk is full or busy: how long to wait before a job whose hold has ended is failed again.
RETRY_S = 5.0
# How often the event loop reports that it works, and after how long without a report it is late.
BEAT_EVERY_S = 0.5
LATE_BEAT_S = 2.0
logger = logging.getLogger("dbserver")


class HoldDeadlines:
    """The time at which each job's hold ends. Pure.

    While the event loop, which takes renewals, does not work, no hold ends.

    Args:
        beat_s: the time of the first beat of the event loop; infinity if it is not watched.
    """

    def __init__(self, beat_s: float = math.inf) -> None:
        self._ends_s: dict[int, float] = {}
        self._beat_s = beat_s

    def beat(self, now_s: float) -> float:
        """Note that the event loop works; every hold gets the time in which it did not.

        Returns:
            That time in seconds; 0 if the beat was not late.
        """
        gap_s = now_s - self._beat_s if self.is_late(now_s) else 0.0
        if gap_s:
            self.pause(gap_s)
        self._beat_s = now_s
        return gap_s

    def is_late(self, now_s: float) -> bool:
        """Whether the event loop has not worked for some time; its next beat says for how long."""
        return now_s - self._beat_s > LATE_BEAT_S

    def extend(self, job_id: int, hold_s: float, now_s: float) -> bool:
        """Let a hold end `hold_s` from now; returns whether `next_s` may be earlier than before."""
        end_s = now_s + hold_s
        is_earlier = end_s < self._ends_s.get(job_id, float("inf"))
        self._ends_s[job_id] = end_s
        return is_earlier

    def pause(self, lost_s: float) -> None:
        """Lengthen every hold by a time in which no driver could renew."""
        for job_id in self._ends_s:
            self._ends_s[job_id] += lost_s

    def drop(self, job_id: int) -> None:
        """Forget a job."""
        self._ends_s.pop(job_id, None)

    def next_s(self) -> float | None:
        """When the next hold ends; None if there is none."""
        return min(self._ends_s.values(), default=None)

    def has_ended(self, job_id: int, now_s: float) -> bool:
        """Whether a job had a hold that has ended."""
        return self._ends_s.get(job_id, float("inf")) <= now_s and not self.is_late(now_s)

    def ended(self, now_s: float) -> list[int]:
        """Jobs whose hold has ended."""
        if self.is_late(now_s):
            return []
        return [job_id for job_id, end_s in self._ends_s.items() if end_s <= now_s]


class HoldMonitor:
    """A thread that sleeps until the next hold ends.

    Args:
        held: (job id, hold time in seconds) of the holds on the disk.
        writer: fails the jobs whose holds have ended.
        on_death: called if the thread fails.
        clock: seconds, never backwards.
    """

    def __init__(
        self,
        held: list[tuple[int, float]],
        writer: Writer,
        on_death: Callable[[], None],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._writer = writer
        self._clock = clock
        self._on_death = on_death
        self._changed = threading.Condition()
        self._is_closed = False
        now_s = self._clock()
        self._deadlines = HoldDeadlines(beat_s=now_s)
        for job_id, hold_s in held:
            self._deadlines.extend(job_id, hold_s, now_s)
        self._thread = threading.Thread(target=self._run, name="holds", daemon=True)
        self._thread.start()

    def beat(self) -> None:
        """Note that the event loop, which takes renewals, works; called every `BEAT_EVERY_S`.

        If the loop did not work for a time, since the process was stopped or busy, every hold gets that time.
        """
        with self._changed:
            gap_s = self._deadlines.beat(self._clock())
            if gap_s:
                logger.warning("holds_paused seconds=%.1f", gap_s)
            self._changed.notify()

    def extend(self, job_id: int, hold_s: float) -> None:
        """Take the renewal of a driver."""
        with self._changed:
            if self._deadlines.extend(job_id, hold_s, self._clock()):
                self._changed.notify()

    def drop(self, job_id: int) -> None:
        """Drop the hold on a job that has ended."""
        with self._changed:
            self._deadlines.drop(job_id)

    def close(self) -> None:
        """End the thread; call it before the writer is closed."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()

    def _run(self) -> None:
        try:
            while (job_ids := self._wait()) is not None:
                for job_id in job_ids:
                    self._judge(job_id)
        except BaseException:
            logger.exception("hold_monitor_died")
            self._on_death()
            raise

    def _wait(self) -> list[int] | None:
        """Sleep until holds have ended; None when closed."""
        with self._changed:
            while not self._is_closed:
                now_s = self._clock()
                if ended := self._deadlines.ended(now_s):
                    return ended
                next_s = self._deadlines.next_s()
                # If the loop is late its next beat says how much time was lost.
                is_late = self._deadlines.is_late(now_s)
                self._changed.wait(None if next_s is None or is_late else next_s - now_s)
            return None

    def _judge(self, job_id: int) -> None:
        judged: set[int] = set()

        def judge(session: SqlSession) -> None:
            with self._changed:  # a renewal that came meanwhile counts
                has_ended = self._deadlines.has_ended(job_id, self._clock())
            judged.clear()  # the writer may call this twice
            if has_ended:
                end_job(session, job_id)
                judged.add(job_id)

        try:
            self._writer.run(judge)
        except QuakeGridError as exc:
            logger.warning("hold_verdict_waits job=%s reason=%s", job_id, exc)
            self.extend(job_id, RETRY_S)
            return
        with self._changed:
            if job_id in judged:
                self._deadlines.drop(job_id)


def check_hold_s(hold_s: float) -> None:
    """Refuse a hold time that is out of range.

    Raises:
        UsageError: the time is too short or too long.
    """
    if not SHORTEST_HOLD_S <= hold_s <= LONGEST_HOLD_S:
        raise UsageError(f"hold_timeout is {hold_s:g} s; give {SHORTEST_HOLD_S:g} s to {LONGEST_HOLD_S:g} s")


def is_held(session: SqlSession, job_id: int, holder: str, hold_s: float) -> bool:
    """Whether this hold of this driver is on the disk.

    Raises:
        StateError: somebody else holds the job.
    """
    row = session.first("SELECT holder, lease_s FROM quakegrid_lease WHERE job_id=?x", job_id)
    if row is not None and row["holder"] != holder:
        raise StateError(f"job {job_id} is run by {row['holder']}, so {holder} cannot hold a hold of it")
    return row is not None and row["lease_s"] == hold_s


def open_hold(session: SqlSession, job_id: int, holder: str, hold_s: float) -> JobState:
    """Store a hold, unless the job has ended; returns the job's state.

    Raises:
        NotFoundError: there is no such job.
        StateError: somebody else holds it.
    """
    state = job_rows.get_state(session, job_id)
    if not state.is_final and not is_held(session, job_id, holder, hold_s):
        session.execute(
            "INSERT INTO quakegrid_lease (job_id, holder, lease_s) VALUES (?x, ?x, ?x) "
            "ON CONFLICT (job_id) DO UPDATE SET lease_s = excluded.lease_s",
            job_id,
            holder,
            hold_s,
        )
    return state


def end_job(session: SqlSession, job_id: int) -> None:
    """Fail a job whose hold is over, unless the job has ended. The change of state removes the hold."""
    row = session.first(
        "SELECT holder, lease_s FROM quakegrid_lease WHERE job_id=?x",
        job_id,
    )
    if row is None:
        return
    reason = (
        f"the driver of this job ({row['holder']}) has not renewed its hold for {row['lease_s']:g} s: "
        "it was killed, hangs, or cannot reach the dbserver"
    )
    job_rows.transition(session, job_id, JobState.FAILED, reason)
    logger.warning("hold_lost job=%s holder=%s", job_id, row["holder"])


def held_jobs(session: SqlSession) -> list[tuple[int, float]]:
    """(job id, hold time in seconds) of all holds."""
    rows = session.query("SELECT job_id, lease_s FROM quakegrid_lease").rows
    return [(int(job_id), float(hold_s)) for job_id, hold_s in rows]
