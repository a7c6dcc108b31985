"""The dbserver: its own tables, holds and idempotence over a file in memory, which outlives its process."""

from __future__ import annotations

import functools
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from quakegrid import errors
from quakegrid.jobs.states import JobState
from quakegrid.services.dbserver.jobs import holds
from quakegrid.services.dbserver.jobs import rows as job_rows
from quakegrid.services.dbserver.jobs.holds import HoldDeadlines
from quakegrid.services.dbserver.store import idempotence, migrations, sqlite_errors
from quakegrid.services.dbserver.store.database import OneConnection, SqlSession
from tests.simulation.fabric.calls import unreachable

if TYPE_CHECKING:
    from tests.simulation.world import World

T = TypeVar("T")
PATH = Path("db.sqlite3")
FINAL = (JobState.COMPLETE, JobState.FAILED, JobState.ABORTED)


@functools.cache
def empty_file() -> bytes:
    """A database with all tables and no job."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    migrations.apply(connection)
    content = connection.serialize()
    connection.close()
    return content


class SimulatedDatabase:
    """One dbserver.

    Args:
        world: where it is.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self._connection = sqlite3.connect(":memory:", isolation_level=None)
        self._connection.deserialize(empty_file())
        self._connection.execute("PRAGMA foreign_keys = ON")
        self._source = OneConnection(self._connection)
        self.is_up, self._is_stopped = True, False
        self._stopped_s, self._idle_s = 0.0, 0.0  # since when it stands still, and for how long it has before
        self._renewed_s: dict[
            int, float
        ] = {}  # when each hold was renewed, by the time that the dbserver worked
        self._deadlines = HoldDeadlines(beat_s=world.now_s)
        world.loop.call_later(holds.BEAT_EVERY_S, self._beat)

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()

    # --- its life

    def crash(self, back_s: float) -> None:
        """Its process is killed; the next one finds what was committed."""
        if self.is_up:
            self.is_up = False
            self._world.loop.call_later(back_s, self._start)

    def _start(self) -> None:
        self.is_up, self._is_stopped = True, False
        self._deadlines = HoldDeadlines(beat_s=self._world.now_s)
        for job_id, hold_s in holds.held_jobs(self._session()):
            self._deadlines.extend(job_id, hold_s, self._world.now_s)
            self._renewed_s[job_id] = self._worked_s

    def stop_for(self, seconds: float) -> None:
        """Stand still for a while (SIGSTOP)."""
        if self.is_up and not self._is_stopped:
            self._is_stopped, self._stopped_s = True, self._world.now_s
            self._world.loop.call_later(seconds, self._go_on)

    def _go_on(self) -> None:
        if self._is_stopped:
            self._is_stopped = False
            self._idle_s += self._world.now_s - self._stopped_s
            self._judge()  # the monitor's thread may be the first to go on
            self._deadlines.beat(self._world.now_s)

    def _beat(self) -> None:
        self._world.loop.call_later(holds.BEAT_EVERY_S, self._beat)
        if self.is_up and not self._is_stopped:
            self._deadlines.beat(self._world.now_s)
            self._judge()

    def _judge(self) -> None:
        """Fail the jobs whose holds have ended."""
        for job_id in self._deadlines.ended(self._world.now_s):
            try:
                self._write(functools.partial(holds.end_job, job_id=job_id))
            except errors.QuakeGridError:
                self._deadlines.extend(job_id, holds.RETRY_S, self._world.now_s)
                continue
            self._deadlines.drop(job_id)
            self._world.promises.on_hold_lost(job_id, self._worked_s - self._renewed_s[job_id])

    @property
    def _worked_s(self) -> float:
        """How long it has not stood still."""
        return self._world.now_s - self._idle_s

    # --- what it answers

    def create(self, request_id: str, user_name: str) -> int:
        """Create a job, once for each request."""

        def work(session: SqlSession) -> bytes:
            job = job_rows.NewJob("/data", "classical", request_id, user_name)
            return str(job_rows.create(session, job)).encode()

        answer = self._write(lambda session: idempotence._once(session, request_id, "CreateJob", work))
        job_id = int(answer.result)
        self._world.promises.on_job_created(request_id, job_id)
        return job_id

    def transition(self, job_id: int, state: JobState, reason: str = "") -> None:
        """Move a job to another state."""
        self._write(lambda session: job_rows.transition(session, job_id, state, reason))
        self._world.promises.on_acknowledged(job_id, state)
        if state.is_final:
            self._deadlines.drop(job_id)

    def renew(self, job_id: int, holder: str, hold_s: float) -> JobState:
        """Keep a driver's hold, as the servicer does."""
        self._reach()
        session = self._session()
        state = job_rows.get_state(session, job_id)
        if not (state.is_final or holds.is_held(session, job_id, holder, hold_s)):
            state = self._write(lambda session: holds.open_hold(session, job_id, holder, hold_s))
        if state.is_final:
            self._deadlines.drop(job_id)
        else:
            self._deadlines.extend(job_id, hold_s, self._world.now_s)
            self._renewed_s[job_id] = self._worked_s
        return state

    # --- for the promises, which look at the disk

    def states(self) -> dict[int, tuple[JobState, str]]:
        """All jobs: their states, and what they were created with."""
        rows = self._connection.execute("SELECT id, status, description FROM job").fetchall()
        return {job_id: (JobState(status), request_id) for job_id, status, request_id in rows}

    def reason(self, job_id: int) -> str:
        """Why a job failed or was aborted."""
        query = "SELECT reason FROM quakegrid_state_reason WHERE job_id = ?"
        row = self._connection.execute(query, [job_id]).fetchone()
        return str(row[0]) if row else ""

    def _reach(self) -> None:
        if not self.is_up or self._is_stopped:
            raise unreachable("the dbserver does not answer")

    def _session(self, *, is_retried: bool = False) -> SqlSession:
        return SqlSession(self._source, PATH, is_retried=is_retried)

    def _write(self, work: Callable[[SqlSession], T]) -> T:
        """Do work as the writer does: in a transaction, and once more as a second try if it fails."""
        self._reach()
        if self._world.is_disk_full("the dbserver"):
            raise sqlite_errors.DiskFullError("the disk of the dbserver is full")
        result: Any = None
        for is_retried in (False, True):
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                result = work(self._session(is_retried=is_retried))
            except Exception:
                self._connection.execute("ROLLBACK")
                if is_retried:
                    raise
                continue
            self._connection.execute("COMMIT")
            break
        found: T = result
        return found
