"""Upstream's named actions on outputs and logs, with upstream's arguments and return shapes.

The one difference: `create_outputs` gets display names from its caller, since only the engine knows
them.
"""

from __future__ import annotations

import datetime
import logging
import posixpath
from collections.abc import Generator
from typing import Any

from quakegrid.errors import StateError
from quakegrid.jobs.engine_values import RowValue, TableValue
from quakegrid.services.dbserver.engine.parts import Parts
from quakegrid.services.dbserver.jobs import field_checks
from quakegrid.services.dbserver.jobs import outputs as job_outputs
from quakegrid.services.dbserver.jobs import rows as job_rows
from quakegrid.services.dbserver.logs import lines as log_lines
from quakegrid.services.dbserver.store.database import SqlSession
from quakegrid.services.dbserver.store.read_limits import ReadTooLargeError

SHORT_LISTING_COUNT = 10
LAST_ERROR = (
    "SELECT message FROM log WHERE job_id=?x AND level='ERROR' "
    "AND level IN ('ERROR', 'CRITICAL') "  # for the index
    "ORDER BY id DESC LIMIT 1"
)
logger = logging.getLogger("dbserver")


def get_outputs(session: SqlSession, job_id: int) -> TableValue:
    """Rows of the outputs of a job."""
    return session.query("SELECT * FROM output WHERE oq_job_id=?x", job_id)


def list_outputs(session: SqlSession, job_id: int, full: bool = True) -> list[str]:
    """Lines of a table of a job's outputs, at most ten if not `full`."""
    outputs = sorted(get_outputs(session, job_id), key=lambda output: str(output["display_name"]))
    if not outputs:
        return []
    shown = outputs if full else outputs[:SHORT_LISTING_COUNT]
    lines = ["  id | name"]
    lines.extend(f"{output['id']:4d} | {output['display_name']}" for output in shown)
    if len(shown) < len(outputs):
        lines.append(f" ... | {len(outputs) - len(shown)} additional output(s)")
        lines.append(
            "Some outputs were not shown. You can see the full list "
            f"with the command\n`oq engine --list-outputs {job_id}`"
        )
    return lines


def get_output(session: SqlSession, output_id: int) -> tuple[str, int, str]:
    """(ds_key, job id, directory of the datastore) of an output."""
    query = "SELECT output.*, ds_calc_dir FROM output, job WHERE oq_job_id=job.id AND output.id=?x"
    row = session.one(f"there is no output {output_id}", query, output_id)
    return row["ds_key"], row["oq_job_id"], posixpath.dirname(row["ds_calc_dir"])


def get_result(session: SqlSession, result_id: int) -> tuple[int, str, str, str, str]:
    """(job id, status, user, directory of the datastore, ds_key) of an output."""
    query = "SELECT job.*, ds_key FROM job, output WHERE oq_job_id=job.id AND output.id=?x"
    row = session.one(f"there is no output {result_id}", query, result_id)
    directory = posixpath.dirname(row["ds_calc_dir"])
    return row["id"], row["status"], row["user_name"], directory, row["ds_key"]


def get_results(session: SqlSession, job_id: int) -> tuple[str, list[str]]:
    """(directory of the datastore, ds_keys of all outputs) of a job."""
    row = job_rows.get_row(session, job_id)
    return posixpath.dirname(row["ds_calc_dir"]), [
        output["ds_key"] for output in get_outputs(session, job_id)
    ]


def create_outputs(session: SqlSession, job_id: int, outputs: list[list[Any]], ds_size: float) -> None:
    """Register outputs, given as [key, display name, size in MB], and the datastore's size in MB."""
    job_outputs.register(session, job_id, outputs, ds_size)


def log(
    session: SqlSession, job_id: int, timestamp: datetime.datetime, level: str, process: str, message: str
) -> None:
    """Store a log line. The line of a job that does not exist is dropped, so that its calculation goes on.

    Raises:
        UsageError: a value is of a wrong kind; texts that are too long are cut.
    """
    field_checks.check_time("timestamp", timestamp)
    level, process, message = log_lines.shorten_texts(level, process, message)
    try:
        job_rows.append_log(session, job_id, [(timestamp, level, process, message)])
    except StateError as exc:
        logger.warning("log_line_dropped job=%s reason=%s", job_id, exc)


def get_log(session: SqlSession, job_id: int) -> Parts:
    """The log of a job as lines of text.

    Raises:
        ReadTooLargeError: the log is too long for one answer.
    """
    return Parts(_read_log(session, job_id))


def _read_log(session: SqlSession, job_id: int) -> Generator[list[str], None, None]:
    try:
        for lines in session.read_limited("SELECT * FROM log WHERE job_id=?x ORDER BY id", job_id):
            yield [
                f"[{_text(line['timestamp'])[:-4]} #{job_id} {line['level']}] "
                f"{line['process']} {line['message']}"
                for line in lines
            ]
    except ReadTooLargeError:
        raise ReadTooLargeError(
            f"the log of job {job_id} is too long for one answer; read it with "
            f"`quakegrid jobs logs {job_id}`, or in parts with get_log_slice"
        ) from None


def get_log_slice(session: SqlSession, job_id: int, start: int | str, stop: int | str) -> Parts:
    """Lines `start` to `stop` (0: all) of a job's log as [time, level, process, message]."""
    start, stop = int(start), int(stop)
    limit = -1 if stop == 0 else stop - start
    query = "SELECT * FROM log WHERE job_id=?x ORDER BY id LIMIT ?x OFFSET ?x"
    parts = session.read_limited(query, job_id, limit, start)
    return Parts(list(map(_slice_line, lines)) for lines in parts)


def _slice_line(line: RowValue) -> list[str]:
    time = _text(line["timestamp"]).replace(" ", "T")[:22]  # such as 2016-08-29T15:42:34.98
    return [time, line["level"], line["process"], line["message"]]


def _text(time: datetime.datetime | str) -> str:
    return time if isinstance(time, str) else time.isoformat(" ", "microseconds")


def get_log_size(session: SqlSession, job_id: int) -> int:
    """How many lines the log of a job has."""
    return int(session.query("SELECT count(id) FROM log WHERE job_id=?x", job_id).rows[0][0])


def get_traceback(session: SqlSession, job_id: int) -> list[str]:
    """Lines of the last error of a job; empty if there was none."""
    row = session.first(LAST_ERROR, job_id)
    return row["message"].splitlines() if row else []


def get_weight(session: SqlSession, job_id: int) -> RowValue | str:
    """(description, message) of the line that tells the weight of a job's source model."""
    query = (
        "SELECT description, message FROM log, job WHERE job_id=job.id and job.id = ?x "
        "AND message LIKE '%tot_weight%'"
    )
    return session.first(query, job_id) or f"There is no job {job_id}"


READING = (
    get_outputs,
    list_outputs,
    get_output,
    get_result,
    get_results,
    get_log,
    get_log_slice,
    get_log_size,
    get_traceback,
    get_weight,
)
WRITING = (create_outputs, log)
