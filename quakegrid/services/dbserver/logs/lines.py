"""Log lines between messages and rows, many at a time.

One step of one statement stores a batch or reads a page, as JSON. Python gives up its lock at every step, and
to get it back from a busy thread takes up to a switch interval. Beside a busy thread one statement for each
line stored 800 lines a second, and this stores 50,000.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from google.protobuf.timestamp_pb2 import Timestamp

from quakegrid.api.v1 import logs_pb2
from quakegrid.errors import UsageError
from quakegrid.jobs import texts
from quakegrid.jobs.engine_values import to_timestamp
from quakegrid.services.dbserver.jobs import field_checks
from quakegrid.services.dbserver.jobs import rows as job_rows
from quakegrid.services.dbserver.store import sql_templates
from quakegrid.services.dbserver.store.database import SqlSession

MAX_BATCH_LINES = 2000
MAX_BATCH_BYTES = 16 << 20
# Characters of all lines in one answer, so that a page of tracebacks does not fill the memory. With one more
# line, and all characters escaped, an answer is smaller than the limits of a query and of a message.
PAGE_LENGTH = 1 << 20
TAIL_LENGTH = 2 << 20
# Our clients cut lines to less, with a note at the end, which must not be cut again.
CUT_NOTE_LENGTH = 100
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_INSERT = """INSERT INTO log (job_id, timestamp, level, process, message)
SELECT ?x, json_extract(value, '$[0]'), json_extract(value, '$[1]'), json_extract(value, '$[2]'),
 json_extract(value, '$[3]') FROM json_each(?x)"""
# A line of an older database may hold bytes, which JSON cannot.
_TEXTS = ", ".join(
    f"iif(typeof({name}) = 'blob', hex({name}), CAST({name} AS TEXT))"
    for name in ("timestamp", "level", "process", "message")
)
# At least one line, then as many as fit.
_SELECT = """SELECT json_group_array(json_array(id, {texts})) FROM (
 SELECT *, sum(length(message)) OVER (ORDER BY {order}) - length(message) AS length_before
 FROM ({lines}) ORDER BY id) WHERE length_before < ?x"""
_PAGE = _SELECT.format(
    order="id",
    lines="SELECT * FROM log WHERE job_id=?x AND id > ?x ORDER BY id LIMIT ?x OFFSET ?x",
    texts=_TEXTS,
)
_LAST = _SELECT.format(
    order="id DESC", lines="SELECT * FROM log WHERE job_id=?x ORDER BY id DESC LIMIT ?x", texts=_TEXTS
)


def encode_batch(request: logs_pb2.AppendLogRequest) -> str:
    """The lines of a batch, as `insert` takes them.

    Raises:
        UsageError: the batch is too large, or a time is out of range.
    """
    if len(request.lines) > MAX_BATCH_LINES or request.ByteSize() > MAX_BATCH_BYTES:
        raise UsageError(
            f"a batch of {len(request.lines)} log lines and {request.ByteSize()} bytes is too large; "
            f"send at most {MAX_BATCH_LINES} lines and {MAX_BATCH_BYTES} bytes"
        )
    rows = [
        (_to_text(line.log_time), *shorten_texts(line.level, line.process, line.message))
        for line in request.lines
    ]
    return json.dumps(rows, ensure_ascii=False)


def shorten_texts(level: str, process: str, message: str) -> tuple[str, str, str]:
    """The texts of a line as they are stored. Texts that are too long are cut, not refused.

    Raises:
        UsageError: a value is no text.
    """
    for name, text in (("level", level), ("process", process), ("message", message)):
        if not isinstance(text, str):
            raise UsageError(f"the {name} of a log line must be text, not {text!r}")
    return (
        texts.shorten(level, field_checks.LONGEST_NAME),
        texts.shorten(process, field_checks.LONGEST_NAME),
        texts.shorten(message, field_checks.LONGEST_TEXT + CUT_NOTE_LENGTH).replace(
            "\0",
            "\N{REPLACEMENT CHARACTER}",  # ends the text for SQLite's tools
        ),
    )


def insert(session: SqlSession, job_id: int, rows: str) -> None:
    """Store a batch.

    Raises:
        NotFoundError: there is no such job.
    """
    job_rows.get_state(session, job_id)
    session.execute(_INSERT, job_id, rows)
    session.touched_jobs.add(job_id)


def read_page(
    session: SqlSession, job_id: int, after_id: int, count: int, *, skip_count: int = 0
) -> list[logs_pb2.LogLine]:
    """At most `count` lines after an id, in order; fewer if they are long."""
    return _decode(session, _PAGE, job_id, after_id, count, skip_count, PAGE_LENGTH)


def has_more(session: SqlSession, job_id: int, after_id: int) -> bool:
    """Whether there are lines after an id."""
    query = "SELECT 1 FROM log WHERE job_id=?x AND id > ?x LIMIT 1"
    return session.first(query, job_id, after_id) is not None


def read_last(session: SqlSession, job_id: int, count: int) -> list[logs_pb2.LogLine]:
    """The last `count` lines, in order; fewer if they are long."""
    return _decode(session, _LAST, job_id, count, TAIL_LENGTH)


def _decode(session: SqlSession, query: str, *args: int) -> list[logs_pb2.LogLine]:
    rows: Iterable[tuple[int, str, str, str, str]] = json.loads(session.query(query, *args).rows[0][0])
    return [
        logs_pb2.LogLine(id=id_, log_time=_from_text(time), level=level, process=process, message=message)
        for id_, time, level, process, message in rows
    ]


def _to_text(time: Timestamp) -> str:
    """An instant as upstream stores it: naive, in UTC."""
    if not 0 <= time.nanos < 1_000_000_000:
        raise UsageError(f"log_time has {time.nanos} nanoseconds; 0 to 999999999 are possible")
    second = _second_text(time.seconds)
    micros = time.nanos // 1000
    return f"{second}.{micros:06d}" if micros else second


@functools.lru_cache(maxsize=256)
def _second_text(seconds: int) -> str:
    try:
        return (_EPOCH + timedelta(seconds=seconds)).replace(tzinfo=None).isoformat(" ")
    except OverflowError:
        raise UsageError(f"log_time is out of range: {seconds} s") from None


def _from_text(text: str) -> Timestamp | None:
    """The instant of a TIMESTAMP column; None if it is no time."""
    seconds = _text_second(text[:19])
    if seconds is not None and len(text) == 19:
        return Timestamp(seconds=seconds)
    if seconds is not None and len(text) == 26 and text[20:].isdecimal():
        return Timestamp(seconds=seconds, nanos=int(text[20:]) * 1000)
    time = sql_templates.from_sql_time(text.encode())
    return to_timestamp(time) if isinstance(time, datetime) else None


@functools.lru_cache(maxsize=256)
def _text_second(text: str) -> int | None:
    try:
        return round((datetime.fromisoformat(text).replace(tzinfo=UTC) - _EPOCH).total_seconds())
    except ValueError:
        return None
