"""Lists of jobs: filters, orders and pages.

A page token holds what the list is sorted by of the page's last row, so that rows that come or go do
not move the next page.
"""

from __future__ import annotations

import base64
import json
from typing import Any

from quakegrid.api.v1 import jobs_pb2 as pb
from quakegrid.errors import UsageError
from quakegrid.job_states import JobState
from quakegrid.values import RowValue, from_timestamp
from services.dbserver import pages
from services.dbserver.database import Session
from services.dbserver.job_messages import decode_state
from services.dbserver.state_reasons import JOB_COLUMNS

JOBS_PAGE = pages.PageSize(default=50, largest=1000)
# Expressions, so that an instant stays the text that is compared.
_KEYS = {
    pb.JOB_ORDER_UNSPECIFIED: "id",
    pb.JOB_ORDER_ID: "id",
    pb.JOB_ORDER_START_TIME: "start_time || ''",
    pb.JOB_ORDER_USER_NAME: "user_name",
    pb.JOB_ORDER_CALCULATION_MODE: "calculation_mode",
    pb.JOB_ORDER_STATE: "status",
    pb.JOB_ORDER_DESCRIPTION: "description",
    pb.JOB_ORDER_SIZE: "coalesce(size_mb, 0.0)",
}


def read_page(session: Session, request: pb.ListJobsRequest) -> tuple[list[RowValue], str]:
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
        conditions.append(f"({key}, id) {compare} (?x, ?x)")
        args += [last_key, last_id]
    rows = session.query(
        f"SELECT {JOB_COLUMNS}, {key} AS sort_key FROM job WHERE {' AND '.join(conditions)} "  # noqa: S608  ours
        f"ORDER BY {key} {direction}, id {direction} LIMIT ?x",
        *args,
        size + 1,
    )
    shown = list(rows)[:size]
    return shown, _token(request, shown[-1]) if len(rows) > size else ""


def _filters(request: pb.ListJobsRequest) -> tuple[list[str], list[Any]]:
    states = [decode_state(state) for state in request.states]
    states = states or [state for state in JobState if state is not JobState.DELETED]
    exact = {
        name: getattr(request, name) for name in ("user_name", "calculation_mode") if getattr(request, name)
    }
    conditions = ["?A", "status IN (?X)"]
    args: list[Any] = [exact, states]
    if request.description_text:
        conditions.append("instr(lower(description), lower(?x))")
        args.append(request.description_text)
    if request.HasField("start_min_time"):
        conditions.append("start_time >= ?x")
        args.append(from_timestamp(request.start_min_time))
    if request.HasField("start_max_time"):
        conditions.append("start_time < ?x")
        args.append(from_timestamp(request.start_max_time))
    if request.tag:
        tagged = "SELECT job_id FROM job_tag JOIN tag ON tag.id = tag_id WHERE tag.name = ?x"
        conditions.append(f"id IN ({tagged})")
        args.append(request.tag)
    return conditions, args


def _token(request: pb.ListJobsRequest, row: RowValue) -> str:
    content = [request.order, request.is_ascending, row["sort_key"], row["id"]]
    return base64.urlsafe_b64encode(json.dumps(content).encode()).decode()


def _read_token(request: pb.ListJobsRequest) -> tuple[Any, int]:
    try:
        order, is_ascending, key, job_id = json.loads(base64.urlsafe_b64decode(request.page_token))
        is_ours = (order, is_ascending) == (request.order, request.is_ascending) and type(job_id) is int
    except (ValueError, TypeError):
        is_ours = False
    if not is_ours or not isinstance(key, str | int | float):
        raise UsageError(f"{request.page_token!r} is no page token of this list")
    return key, job_id
