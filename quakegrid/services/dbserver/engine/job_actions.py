"""Upstream's named actions on jobs, with upstream's arguments, return shapes and texts.

There are four differences. A job that has ended keeps its state: a late `finish(failed)` after an abort,
which upstream's LogContext sends, changes nothing and is no error. A negative id counts the jobs of who
calls, where upstream counts those of everybody from -2 on. A negative id beyond the oldest job is no job,
where upstream takes the oldest one, which may then be deleted. Values of a wrong kind are refused.
"""

from __future__ import annotations

from typing import Any

from quakegrid.errors import NotFoundError, StateError, UsageError
from quakegrid.jobs.engine_values import RowValue, TableValue
from quakegrid.jobs.states import JobState
from quakegrid.services.dbserver.deletions import marks
from quakegrid.services.dbserver.jobs import checksums, field_checks, state_reasons, transitions
from quakegrid.services.dbserver.jobs import rows as job_rows
from quakegrid.services.dbserver.jobs.transitions import Move
from quakegrid.services.dbserver.store.database import JOB_EVENTS, SqlSession

_JOB_TYPE = """CASE
WHEN calculation_mode LIKE '%risk'
OR calculation_mode LIKE '%bcr'
OR calculation_mode LIKE '%damage'
THEN 'risk'
ELSE 'hazard'
END AS job_type
"""
_TAGS = """
LEFT JOIN (
    SELECT jt.job_id, CASE WHEN jt.is_preferred THEN t.name || '★' ELSE t.name END AS tag_value
    FROM job_tag jt
    JOIN tag t ON t.id = jt.tag_id
    ORDER BY jt.is_preferred DESC, t.name
) jt ON jt.job_id = j.id
"""
_BOOLEANS = {"": False, "0": False, "1": True, "false": False, "true": True}
_SORT_FIELDS = ("id", "start_time", "user_name", "calculation_mode", "status", "description", "size_mb")
_CALC_FIELDS = (
    "id",
    "user_name",
    "status",
    "calculation_mode",
    "is_running",
    "description",
    "pid",
    "hazard_calculation_id",
    "size_mb",
    "host",
    "start_time",
    "relevant",
    "tags",
)


# ---- reading


def get_job(session: SqlSession, job_id: int | str, username: str | None = None) -> RowValue | None:
    """The row of a job, or None; of the nth last one of this user, or of who calls, if the id is negative."""
    number = int(job_id)
    whose = username or (session.user_name if number < 0 else "")
    return job_rows.find_row(session, number, whose, columns="*")


def get_calc_ids(session: SqlSession, user: str) -> list[int]:
    """Ids of a user's jobs."""
    return [row["id"] for row in session.query("SELECT id FROM job WHERE user_name=?x", user)]


def calc_info(session: SqlSession, calc_id: int) -> dict[str, Any]:
    """A job as a dictionary, without its pid and folder."""
    row = job_rows.get_row(session, calc_id, columns="*")
    info = dict(zip(row.fields, row.values, strict=True))
    info |= {"start_time": str(info["start_time"]), "stop_time": str(info["stop_time"])}
    return {key: value for key, value in info.items() if key not in ("ds_calc_dir", "pid")}


def list_calculations(session: SqlSession, job_type: str, user_name: str) -> list[str]:
    """Lines of a table of a user's hazard or risk calculations."""
    jobs = session.query(
        f"SELECT *, {_JOB_TYPE} FROM job WHERE user_name=?x "  # noqa: S608  a constant
        "AND job_type=?x AND status != 'deleted' ORDER BY start_time",
        user_name,
        job_type,
    )
    if not len(jobs):
        return ["None"]
    head = "   job_id|  calculation_mode|   status|          start_time|"
    lines = [head + "                             description"]
    for job in jobs:
        start_time = str(job["start_time"])[:19]
        row = (job["id"], job["calculation_mode"], job["status"], start_time, job["description"][:39])
        lines.append("{:9d}|{:>18}|{:>9}| {}| {}".format(*row))
    return lines


def get_calcs(
    session: SqlSession,
    request_get_dict: dict[str, Any],
    allowed_users: list[str],
    user_acl_on: bool = False,
    id: int | None = None,  # noqa: A002  upstream's name
) -> list[tuple[Any, ...]]:
    """Jobs as the web interface lists them: (id, user_name, status, …, relevant, tags).

    Raises:
        UsageError: the conditions are no dictionary, or the users no list.
    """
    wanted = request_get_dict
    if not isinstance(wanted, dict):
        raise UsageError(f"get_calcs needs a dictionary of conditions, which may be empty, not {wanted!r}")
    if user_acl_on and not isinstance(allowed_users, list | tuple):
        raise UsageError(f"get_calcs needs a list of the users whose jobs are shown, not {allowed_users!r}")
    where, params = _calcs_condition(wanted, allowed_users, user_acl_on, id)
    order_by = wanted.get("order_by", "id")
    direction = str(wanted.get("order_dir", "DESC")).upper()
    query = (
        f"SELECT j.*, GROUP_CONCAT(tag_value, ', ') AS tags FROM job AS j {_TAGS}"  # noqa: S608  ours
        f"WHERE {where} GROUP BY j.id "
        f"ORDER BY {order_by if order_by in _SORT_FIELDS else 'j.id'} "
        f"{direction if direction in ('ASC', 'DESC') else 'DESC'} "
        f"LIMIT {int(wanted.get('limit', 100))} OFFSET {int(wanted.get('offset', 0))}"
    )
    return [tuple(job[field] for field in _CALC_FIELDS) for job in session.query(query, *params)]


def _calcs_condition(
    wanted: dict[str, Any], allowed_users: list[str], user_acl_on: bool, job_id: int | None
) -> tuple[str, list[Any]]:
    exact: dict[str, Any] = {}
    if job_id is not None:
        exact["j.id"] = job_id
    if "calculation_mode" in wanted:
        exact["j.calculation_mode"] = wanted["calculation_mode"]
    if "is_running" in wanted:
        exact["j.is_running"] = _boolean(wanted["is_running"])
    params: list[Any] = [exact]
    users = names = times = "1"
    if user_acl_on:
        users = "j.user_name IN (?X)"
        params.append(allowed_users)
    if "user_name_like" in wanted:
        names = "j.user_name LIKE ?x"
        params.append(wanted["user_name_like"].strip())
    shared = " OR j.status == 'shared'" if _boolean(wanted.get("include_shared", 1)) else ""
    if "start_time" in wanted:
        times = "j.start_time >= ?x"
        params.append(wanted["start_time"])
    tags, tag_params = _tags_condition(wanted)
    where = f"?A AND ({users} AND {names}{shared}) AND {times} AND j.status != 'deleted'{tags}"
    return where, params + tag_params


def _tags_condition(wanted: dict[str, Any]) -> tuple[str, list[Any]]:
    """What `preferred_only` and `filter_by_tag` add to a condition, and its parameters."""
    where = ""
    if int(wanted.get("preferred_only", 0)):
        where += " AND j.id IN (SELECT job_id FROM job_tag WHERE is_preferred = 1)"
    tag = wanted.get("filter_by_tag", 0)
    if not tag or tag == "0":
        return where, []
    tagged = "SELECT jt.job_id FROM job_tag jt JOIN tag tg ON tg.id = jt.tag_id WHERE tg.name = ?x"
    return f"{where} AND j.id IN ({tagged})", [tag]


def _boolean(value: Any) -> bool:
    try:
        return _BOOLEANS[str(value).strip().lower()]
    except KeyError:
        raise UsageError(f"Not a boolean: {value}") from None


def get_job_from_checksum(session: SqlSession, checksum: int) -> RowValue | None:
    """The complete job with this hazard checksum, or None."""
    return checksums.find_job(session, checksum)


def get_checksum_from_job(session: SqlSession, job_id: int) -> int:
    """The hazard checksum of a job."""
    return checksums.of_job(session, job_id)


def get_executing_jobs(session: SqlSession) -> TableValue:
    """(id, pid, user_name, start_time) of the jobs that run."""
    return session.query(
        "SELECT id,pid,user_name,start_time FROM job WHERE is_running=1 "
        "AND start_time > datetime('now', '-2 days') ORDER BY id desc"
    )


def get_longest_jobs(session: SqlSession) -> TableValue:
    """(id, user_name, days) of the complete jobs that took more than an hour."""
    return session.query(
        "SELECT id, user_name, julianday(stop_time) - julianday(start_time) AS days "
        "FROM job WHERE status='complete' AND days > 0.04 ORDER BY days desc"
    )


def find(session: SqlSession, description: str) -> TableValue:
    """Complete jobs whose description is like a pattern."""
    return session.query(
        "SELECT id, description, user_name, (julianday(stop_time) - julianday(start_time)) * 24 AS hours "
        "FROM job WHERE status='complete' AND description LIKE lower(?x) "
        "ORDER BY julianday(stop_time) - julianday(start_time)",
        description.lower(),
    )


# ---- writing


def update_job(session: SqlSession, job_id: int, dic: dict[str, Any]) -> None:
    """Set columns of a job; a status that would be an illegal move is left out."""
    job_rows.update(session, job_id, dic)


def finish(session: SqlSession, job_id: int, status: str, reason: str = "") -> None:
    """End a job, unless it has ended; `reason`, which upstream does not have, says why it did not succeed."""
    state = job_rows.parse_state(status)
    field_checks.check_text("reason", reason)
    row = session.first("SELECT status FROM job WHERE id=?x", job_id)
    if row is None or transitions.judge(transitions.stored_state(row["status"]), state) is not Move.MADE:
        return
    update = "UPDATE job SET is_running=0, status=?x, stop_time=?x WHERE id=?x"
    session.execute(update, state.value, job_rows.now_utc(), job_id)
    state_reasons.store(session, job_id, state, reason)
    session.touched_jobs |= {job_id, JOB_EVENTS}


def set_status(session: SqlSession, job_id: int, status: str) -> int:
    """Set the state of a job, or of the nth last one of who calls; returns how many jobs are now in it."""
    state = job_rows.parse_state(status)
    whose = session.user_name if job_id < 0 else ""
    row = job_rows.find_row(session, job_id, whose, columns="id, user_name")
    if row is None:
        return 0
    job_id = row["id"]
    is_running = state in (JobState.SUBMITTED, JobState.EXECUTING)
    move = job_rows.update(session, job_id, {"status": state, "is_running": is_running})
    return int(move is not Move.ILLEGAL)


def delete_uncompleted_calculations(session: SqlSession, user: str) -> None:
    """Mark a user's calculations that are not complete as deleted."""
    rows = session.query(
        "SELECT id FROM job WHERE user_name=?x AND status NOT IN ('complete', 'deleted')", user
    ).rows
    session.execute(
        "UPDATE job SET status='deleted', is_running=0 WHERE user_name=?x AND status != 'complete'", user
    )
    session.touched_jobs |= {JOB_EVENTS, *(job_id for (job_id,) in rows)}


def del_calc(
    session: SqlSession, job_id: int | str, user: str, delete_file: bool = True, force: bool = False
) -> dict[str, Any]:
    """Delete a calculation; returns "success" or "error". Its files are removed after the commit."""
    job_id = int(job_id)
    query = "SELECT id FROM job WHERE hazard_calculation_id=?x AND status != 'deleted'"
    dependents = [row["id"] for row in session.query(query, job_id)]
    if job_id in dependents and not force:  # an array of jobs
        answers = [del_calc(session, child, user, delete_file, force=True) for child in dependents]
        errors = [answer["error"] for answer in answers if "error" in answer]
        return {"error": " ".join(errors)} if errors else {"success": f"children_of_{job_id}"}
    row = job_rows.find_row(session, job_id, columns="user_name") if job_id >= 0 else None
    try:
        paths = job_rows.delete(session, job_id, user, is_forced=force)
    except (NotFoundError, StateError) as exc:
        return {"error": str(exc)}
    if delete_file:
        owner = str(row["user_name"]) if row else user
        session.doomed_files.extend((path, owner) for path in paths)
    return {"success": str(job_id), "hdf5paths": paths}


def share_job(session: SqlSession, job_id: int, share: bool) -> dict[str, str]:
    """Make a complete job visible to all users, or take that back."""
    new = "shared" if share else "complete"
    old = job_rows.get_row(session, job_id)["status"]
    if new == old:
        return {"success": f"Calculation {job_id} was already {old}"}
    if old not in ("complete", "shared"):
        if share:
            return {"error": f'Can not share calculation {job_id} from status "{old}"'}
        return {
            "error": f'Can not force the status of calculation {job_id} from "{old}" to "complete"',
        }
    job_rows.update(session, job_id, {"status": new})
    return {"success": f'The status of calculation {job_id} was changed from "{old}" to "{new}"'}


def update_job_checksum(session: SqlSession, job_id: int, checksum: int) -> None:
    """Store that this job holds the hazard with this checksum."""
    checksums.store(session, job_id, checksum)


def update_parent_child(session: SqlSession, parent_child: tuple[int, int]) -> None:
    """Store that a job (second) starts from another one (first)."""
    parent_id, child_id = parent_child
    field_checks.check_job({"hazard_calculation_id": parent_id})
    session.execute("UPDATE job SET hazard_calculation_id=?x WHERE id=?x", parent_id, child_id)


def keep(session: SqlSession, workflow_id: int) -> int:
    """Keep a workflow and drop all that are not kept; returns how many rows changed last."""
    update = "UPDATE job SET relevant=true WHERE calculation_mode='workflow' AND id=?x"
    count = session.execute(update, workflow_id).rowcount
    if count:
        count = delete_workflows(session)
    return count


def delete_workflows(session: SqlSession) -> int:
    """Delete all workflows that are not kept, and the jobs of each; returns how many workflows."""
    query = "SELECT id FROM job WHERE calculation_mode='workflow' AND NOT relevant"
    return marks.delete(session, [job_id for (job_id,) in session.query(query).rows])


READING = (
    get_job,
    get_calc_ids,
    calc_info,
    list_calculations,
    get_calcs,
    get_job_from_checksum,
    get_checksum_from_job,
    get_executing_jobs,
    get_longest_jobs,
    find,
)
WRITING = (
    update_job,
    finish,
    set_status,
    delete_uncompleted_calculations,
    del_calc,
    share_job,
    update_job_checksum,
    update_parent_child,
    keep,
)
