"""Lists of jobs: filters, orders and pages.

A page token holds the sort key of the page's last row, so that rows that are added or deleted do not move the
next page.
"""

from __future__ import annotations

import base64
import datetime
import hashlib
import json
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

from quakegrid.api.v1 import jobs_pb2
from quakegrid.errors import UsageError
from quakegrid.jobs.engine_values import RowValue, from_timestamp
from quakegrid.jobs.states import JobState
from quakegrid.services.dbserver.deletions import marks
from quakegrid.services.dbserver.jobs import columns, pages
from quakegrid.services.dbserver.jobs.messages import decode_state
from quakegrid.services.dbserver.store import connections
from quakegrid.services.dbserver.store.database import SqlSession

JOBS_PAGE = pages.PageSize(default=50, largest=1000)
# A page with long texts has fewer jobs; a thousand jobs with usual texts take a quarter of it.
LARGEST_PAGE_BYTES = 4 << 20
# How many characters of a text count when a list is sorted.
SORTED_LENGTH = 200


def _text_key(column: str) -> str:
    """SQL for the sort key, short enough for a token. As an expression it returns an instant as text."""
    text = f"iif(typeof(job.{column}) = 'blob', hex(job.{column}), CAST(job.{column} AS TEXT))"
    return f"substr({text}, 1, {SORTED_LENGTH})"


# Most texts are ASCII, for which SQLite's own function is faster.
_CONTAINS = (
    "CASE WHEN length(description) = length(CAST(description AS BLOB)) "
    "THEN instr(lower(description), ?x) ELSE instr(quakegrid_fold(description), ?x) END"
)
_KEYS = {
    jobs_pb2.JOB_ORDER_UNSPECIFIED: "job.id",
    jobs_pb2.JOB_ORDER_ID: "job.id",
    jobs_pb2.JOB_ORDER_START_TIME: _text_key("start_time"),
    jobs_pb2.JOB_ORDER_USER_NAME: _text_key("user_name"),
    jobs_pb2.JOB_ORDER_CALCULATION_MODE: _text_key("calculation_mode"),
    jobs_pb2.JOB_ORDER_STATE: _text_key("status"),
    jobs_pb2.JOB_ORDER_DESCRIPTION: _text_key("description"),
    jobs_pb2.JOB_ORDER_SIZE: "CAST(coalesce(job.size_mb, 0.0) AS REAL)",
}


def read_page(session: SqlSession, request: jobs_pb2.ListJobsRequest) -> tuple[list[RowValue], str]:
    """Rows of one page, and the token of the next one.

    Raises:
        UsageError: the order, a state or the token is wrong.
    """
    if request.order not in _KEYS:
        raise UsageError(f"{request.order} is no order of jobs")
    key = _KEYS[request.order]
    size = JOBS_PAGE.clamp(request.page_size)
    conditions, args = _filters(request)
    compare, direction = (">", "ASC") if request.is_ascending else ("<", "DESC")
    if request.page_token:
        last_key, last_id = _read_token(request)
        conditions.append(f"({key}, job.id) {compare} (?x, ?x)")
        args += [last_key, last_id]
    rows, are_all = session.query_fitting(
        f"SELECT {columns.LISTED}, {key} AS sort_key FROM job WHERE {' AND '.join(conditions)} "  # noqa: S608  ours
        f"ORDER BY {key} {direction}, job.id {direction} LIMIT ?x",
        *args,
        size + 1,
        largest_bytes=LARGEST_PAGE_BYTES,
    )
    shown = list(rows)[:size]
    has_more = len(rows) > size or not are_all
    return shown, _token(request, shown[-1]) if has_more else ""


def _filters(request: jobs_pb2.ListJobsRequest) -> tuple[list[str], list[Any]]:
    states = {decode_state(state) for state in request.states} or set(JobState) - {JobState.DELETED}
    exact = {
        name: getattr(request, name) for name in ("user_name", "calculation_mode") if getattr(request, name)
    }
    conditions = [marks.IS_PRESENT, "?A", "status IN (?X)"]
    args: list[Any] = [exact, sorted(states)]
    if JobState.FAILED in states:  # as in `transitions.stored_state`
        conditions[-1] = "(status IN (?X) OR status NOT IN (?X))"
        args.append(list(JobState))
    if request.description_text:
        conditions.append(_CONTAINS)
        args += [connections.fold(request.description_text)] * 2
    if request.HasField("start_min_time"):
        conditions.append("start_time >= ?x")
        args.append(_time("start_min_time", request.start_min_time))
    if request.HasField("start_max_time"):
        conditions.append("start_time < ?x")
        args.append(_time("start_max_time", request.start_max_time))
    if request.tag:
        tagged = "SELECT job_id FROM job_tag JOIN tag ON tag.id = tag_id WHERE tag.name = ?x"
        conditions.append(f"id IN ({tagged})")
        args.append(request.tag)
    return conditions, args


def _time(name: str, stamp: Timestamp) -> datetime.datetime:
    try:
        return from_timestamp(stamp)
    except ValueError as exc:
        raise UsageError(f"{name} is no time: {exc}") from exc


def _token(request: jobs_pb2.ListJobsRequest, row: RowValue) -> str:
    content = [_digest(request), row["sort_key"], row["id"]]
    return base64.urlsafe_b64encode(json.dumps(content).encode()).decode()


def _read_token(request: jobs_pb2.ListJobsRequest) -> tuple[Any, int]:
    try:
        digest, key, job_id = json.loads(base64.urlsafe_b64decode(request.page_token))
        is_ours = digest == _digest(request) and type(job_id) is int and isinstance(key, str | int | float)
    except (ValueError, TypeError, RecursionError):
        is_ours = False
    if not is_ours:
        raise UsageError(
            f"{request.page_token[:100]!r} is no page token of this list; "
            "start at the first page when the filters or the order change"
        )
    return key, job_id


def _digest(request: jobs_pb2.ListJobsRequest) -> str:
    """A digest of the filters and the order, which names the list that a page belongs to."""
    wanted = jobs_pb2.ListJobsRequest()
    wanted.CopyFrom(request)
    wanted.ClearField("page_size")
    wanted.ClearField("page_token")
    return hashlib.sha256(wanted.SerializeToString(deterministic=True)).hexdigest()[:16]
