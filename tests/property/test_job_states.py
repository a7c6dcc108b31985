"""Job states under any sequence of requests, through the writer's own code on a database in memory."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import sqlite_utils
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from quakegrid.errors import StateError
from quakegrid.jobs.states import JobState
from quakegrid.services.dbserver.jobs import rows
from quakegrid.services.dbserver.jobs.transitions import LEGAL, Move, judge
from quakegrid.services.dbserver.store import migrations, sql_templates
from quakegrid.services.dbserver.store.database import OneConnection, SqlSession

ENDED = {JobState.COMPLETE, JobState.FAILED, JobState.ABORTED}
STATES = st.sampled_from(JobState)


class JobMachine(RuleBasedStateMachine):
    """One job that gets transitions and the engine's updates, in any order and repeatedly."""

    @initialize()
    def create(self) -> None:
        """A new job."""
        sqlite3.register_converter("timestamp", sql_templates.from_sql_time)
        self.connection = sqlite3.connect(
            ":memory:", isolation_level=None, detect_types=sqlite3.PARSE_DECLTYPES
        )
        migrations.MIGRATIONS.apply(sqlite_utils.Database(self.connection))
        self.session = SqlSession(OneConnection(self.connection), Path("memory"))
        self.job_id = rows.create(self.session, rows.NewJob("/tmp", "classical", "d", "ada"))
        self.history = [JobState.CREATED]

    def teardown(self) -> None:
        """Close the database."""
        if hasattr(self, "connection"):
            self.connection.close()

    @property
    def row(self) -> Any:
        """The job as stored."""
        return rows.get_row(self.session, self.job_id)

    def note(self) -> JobState:
        """Remember where the job is."""
        state = JobState(self.row["status"])
        if state is not self.history[-1]:
            self.history.append(state)
        return state

    @rule(wanted=STATES)
    def transition(self, wanted: JobState) -> None:
        """A named move: made, repeated or refused, as the table says."""
        before = self.row
        current = JobState(before["status"])
        move = judge(current, wanted)
        if move is Move.ILLEGAL:
            try:
                rows.transition(self.session, self.job_id, wanted)
            except StateError:
                assert self.row == before
                return
            raise AssertionError(f"{current} became {wanted}")
        assert rows.transition(self.session, self.job_id, wanted) is (move is Move.MADE)
        assert self.note() is wanted
        if move is Move.ALREADY_THERE:
            assert self.row == before

    @rule(wanted=STATES, description=st.text("ab", max_size=3))
    def update(self, wanted: JobState, description: str) -> None:
        """The engine's own update: other columns in any case, the state only if the move is legal."""
        current = JobState(self.row["status"])

        rows.update(self.session, self.job_id, {"status": wanted, "description": description})

        is_legal = judge(current, wanted) is not Move.ILLEGAL
        assert self.note() is (wanted if is_legal else current)
        assert self.row["description"] == description

    @invariant()
    def history_is_legal(self) -> None:
        """Every step is in the table, a calculation ends once, and nothing comes back."""
        steps = list(zip(self.history, self.history[1:], strict=False)) if hasattr(self, "history") else []
        assert all(after in LEGAL[before] for before, after in steps)
        history = self.history if hasattr(self, "history") else []
        assert len(ENDED & set(history)) <= 1
        assert JobState.DELETED not in history[:-1]


JobMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=20, deadline=None)
TestJobMachine = JobMachine.TestCase
