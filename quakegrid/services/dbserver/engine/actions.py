"""The calls that an engine may make: upstream's named actions, and the SQL that the engine itself sends.

SQL that writes is matched word by word with the texts of upstream's commands; all other SQL is a
SELECT or a PRAGMA and runs on a connection that cannot write.
"""

from __future__ import annotations

import functools
import inspect
import logging
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from quakegrid.errors import UsageError
from quakegrid.services.dbserver.deletions import marks
from quakegrid.services.dbserver.engine import effects, job_actions, new_jobs, output_actions, tag_actions
from quakegrid.services.dbserver.engine.effects import Effect
from quakegrid.services.dbserver.engine.parts import Parts
from quakegrid.services.dbserver.jobs import field_checks
from quakegrid.services.dbserver.store import connections, sql_templates, sqlite_errors, upstream_tables
from quakegrid.services.dbserver.store.database import JOB_EVENTS, SqlSession

T = TypeVar("T")
logger = logging.getLogger("dbserver")
_NAME = re.compile(r"\w+")
_UPDATE = re.compile(r"update job set (\w+)")
# The engine's SQL that writes; where it deletes jobs, what does it in its place.
WRITING_SQL: dict[str, Callable[..., int] | None] = {
    "UPDATE job SET ds_calc_dir = ?x WHERE id=?x": None,
    "UPDATE job SET hazard_calculation_id=?x WHERE id=?x": None,
    "DELETE FROM job WHERE calculation_mode='workflow' AND not relevant": job_actions.delete_workflows,
    "DELETE FROM job WHERE id in (?X)": marks.delete,
    "DELETE FROM quakegrid_left_file WHERE path IN (?X)": None,
}
_DELETING = frozenset({"del_calc", "keep"})


@dataclass(frozen=True, slots=True)
class Action:
    """The work of an engine call: `run(session)` returns its result; `effect` is what it touches."""

    run: Callable[[SqlSession], Any]
    effect: Effect
    is_writing: bool = False
    # Whether it must not be part of a transaction.
    is_alone: bool = False
    # A quick read takes less time than the start of a thread. A quick write has nothing to do after the
    # commit.
    is_quick: bool = False
    # Deletes jobs, whose rows may go later.
    is_deleting: bool = False


# ---- actions on the database as such


def fetch(session: SqlSession, templ: str, *args: Any) -> Parts:
    """Rows of a query."""
    return _read(session, templ, *args)


def getpid(_session: SqlSession) -> int:
    """Process id of the dbserver."""
    return os.getpid()


def get_path(_session: SqlSession) -> str:
    """The folder of the dbserver's code. Only the driver knows the engine's own path."""
    return str(Path(__file__).parent)


def get_dbpath(session: SqlSession) -> str:
    """The database file."""
    return str(session.path)


def db_version(session: SqlSession) -> str:
    """Version of upstream's schema."""
    return upstream_tables.version(session)


def check_outdated(_session: SqlSession) -> None:
    """None: our own migrations run when the dbserver starts."""


def upgrade_db(_session: SqlSession) -> list[str]:
    """The upgrades that this call made: none."""
    return []


def what_if_I_upgrade(session: SqlSession, _extract_scripts: str) -> str:  # noqa: N802  upstream's name
    """What an upgrade would do: nothing."""
    return f"Your database is already updated at version {db_version(session)}."


_OWN = (fetch, getpid, get_path, get_dbpath, db_version, check_outdated, upgrade_db, what_if_I_upgrade)
_READING: dict[str, Callable[..., Any]] = {
    function.__name__: function
    for function in (*_OWN, *job_actions.READING, *output_actions.READING, *tag_actions.READING)
}
_WRITING: dict[str, Callable[..., Any]] = {
    function.__name__: function
    for function in (*new_jobs.WRITING, *job_actions.WRITING, *output_actions.WRITING, *tag_actions.WRITING)
}
NAMES = frozenset(_READING | _WRITING)
_QUICK_READING = {"getpid", "get_path", "get_dbpath", "check_outdated", "upgrade_db"}
_QUICK = _QUICK_READING | (_WRITING.keys() - _DELETING)


def is_writing(name: str) -> bool:
    """Whether a named action changes the database."""
    return name in _WRITING


def resolve(action: str, args: list[Any]) -> Action:
    """The action that a call asks for.

    Args:
        action: name of an action, or SQL with upstream's placeholders.
        args: its arguments.
    Raises:
        UsageError: there is no such action, or the arguments do not fit it.
        ForbiddenSqlError: the SQL writes, and is not one of the engine's own statements.
    """
    if not _NAME.fullmatch(action) or action.upper() == "VACUUM":
        return _resolve_sql(action, args)
    function = _READING.get(action) or _WRITING.get(action)
    if function is None:
        raise UsageError(_unknown(action))
    if fault := _misfit(function, len(args)):
        raise UsageError(f"{action} was called with the wrong arguments: {fault}")
    is_quick = action in _QUICK or (action == "get_job" and isinstance(args[0], int) and args[0] > 0)
    return Action(
        lambda session: _run(function, action, session, args),
        effects.OF_ACTIONS[action],
        is_writing=action in _WRITING,
        is_quick=is_quick,
        is_deleting=action in _DELETING,
    )


@functools.lru_cache(1000)
def _misfit(function: Callable[..., Any], arg_count: int) -> str:
    """Why a function cannot be called with so many arguments; empty if it can."""
    try:
        inspect.signature(function).bind(None, *range(arg_count))
    except TypeError as exc:
        return str(exc)
    return ""


def _run(function: Callable[..., T], name: str, session: SqlSession, args: list[Any]) -> T:
    try:
        return function(session, *args)
    except (TypeError, ValueError, AttributeError, KeyError) as exc:
        # The cause is mostly an argument of a wrong kind. It may be a bug of ours, so the log shows the
        # place.
        logger.warning("action_refused action=%s", name, exc_info=exc)
        raise UsageError(f"{name} refuses its arguments: {exc!r}") from exc


def _resolve_sql(sql: str, args: list[Any]) -> Action:
    if len(sql) > connections.MAX_SQL_BYTES:
        raise UsageError(f"SQL of {len(sql)} characters is too long; at most {connections.MAX_SQL_BYTES}")
    plain = _normalise(sql)
    if plain == "vacuum":
        return Action(
            lambda session: session.execute("VACUUM").lastrowid,
            effects.VACUUM,
            is_writing=True,
            is_alone=True,
        )
    if plain.startswith(("select", "pragma")):
        return Action(lambda session: _read(session, sql, *args), effects.READING_SQL)
    for text, delete in WRITING_SQL.items():
        if plain == _normalise(text):
            return _resolve_writing(sql, args, delete, effects.OF_SQL[text])
    raise sqlite_errors.ForbiddenSqlError(
        "this SQL would write, or is none: give a SELECT, or one of the actions (`quakegrid oq db --help`)"
    )


def _read(session: SqlSession, sql: str, *args: Any) -> Parts:
    return Parts(table if table.fields else None for table in session.read_limited(sql, *args))


def _resolve_writing(sql: str, args: list[Any], delete: Callable[..., int] | None, effect: Effect) -> Action:
    if delete is None:
        return Action(functools.partial(_write, sql=sql, args=args), effect, is_writing=True)
    return Action(
        lambda session: _run(delete, "the SQL", session, args), effect, is_writing=True, is_deleting=True
    )


def _write(session: SqlSession, sql: str, args: list[Any]) -> Any:
    if (column := _UPDATE.match(_normalise(sql))) and args:
        field_checks.check_job({column[1]: args[0]})
    session.touched_jobs.add(JOB_EVENTS)
    return session.execute(sql, *args).lastrowid


def _normalise(sql: str) -> str:
    return " ".join(sql_templates.strip_comments(sql).split()).rstrip("; ").lower()


def _unknown(action: str) -> str:
    if action.startswith("workers_"):
        return f"{action} is not for the dbserver: the broker starts and stops workers"
    return f"the dbserver knows no action {action!r}; it has {', '.join(sorted(NAMES))}"
