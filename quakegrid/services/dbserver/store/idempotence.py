"""Writing requests that take effect once, however often they are sent.

The first answer is stored in the same transaction as the change. A repeated request id gets that answer.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass

from quakegrid.errors import UsageError
from quakegrid.services.dbserver.store.database import SqlSession
from quakegrid.services.dbserver.store.read_limits import Place
from quakegrid.services.dbserver.store.writer import Tell, Writer, settle

MAX_ID_LENGTH = 64
# Clients retry for minutes; a day is beyond any of them.
KEPT = "-1 day"


@dataclass(frozen=True, slots=True)
class Answer:
    """A serialized response, whether an earlier call made it, and its place if it may be large."""

    result: bytes
    is_repeated: bool
    place: Place | None = None


class Requests:
    """Runs writing requests once each."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer

    def run_once(
        self, request_id: str, kind: str, work: Callable[[SqlSession], bytes], *, user_name: str = ""
    ) -> Answer:
        """Do `work` unless this request id was answered before, and wait until it is on the disk.

        Args and errors as of `submit_once`.
        """
        return self.submit_once(request_id, kind, work, user_name=user_name).result()

    def submit_once(
        self, request_id: str, kind: str, work: Callable[[SqlSession], bytes], *, user_name: str = ""
    ) -> Future[Answer]:
        """The same without waiting."""
        future: Future[Answer] = Future()
        self.enqueue_once(request_id, kind, work, settle(future), user_name=user_name)
        return future

    def enqueue_once(
        self,
        request_id: str,
        kind: str,
        work: Callable[[SqlSession], bytes],
        tell: Tell,
        *,
        user_name: str = "",
    ) -> None:
        """The same; the answer is told.

        Args:
            request_id: at most 64 characters, chosen by the caller.
            kind: what is asked for; a request id cannot be used for another kind.
            work: runs in the writer's thread; returns the serialized response.
            tell: gets the answer, or None and the error, in the writer's thread.
            user_name: who asks.
        Raises:
            UsageError: the request id is missing, too long, or used for something else.
        """
        if not 0 < len(request_id) <= MAX_ID_LENGTH:
            raise UsageError(f"a request needs a request_id of 1 to 64 characters, not {request_id!r}")

        def once(session: SqlSession) -> Answer:
            return _once(session, request_id, kind, work)

        self._writer.enqueue(once, tell, user_name)


def _once(session: SqlSession, request_id: str, kind: str, work: Callable[[SqlSession], bytes]) -> Answer:
    """Do the work and store its answer. Only if that fails, look whether the work was done before."""
    row = None
    if session.is_retried:
        row = session.first("SELECT kind, result FROM quakegrid_request WHERE request_id=?x", request_id)
    if row is None:
        result = work(session)
        session.execute(
            "INSERT INTO quakegrid_request (request_id, kind, result) VALUES (?x, ?x, ?x)",
            request_id,
            kind,
            result,
        )
        return Answer(result, is_repeated=False)
    if row["kind"] != kind:
        raise UsageError(f"the request_id {request_id} was used for {row['kind']} before, not for {kind}")
    return Answer(row["result"], is_repeated=True)


def forget_old(session: SqlSession, count: int) -> int:
    """Delete at most `count` answers that are too old to be asked for; returns how many were deleted."""
    return session.execute(
        "DELETE FROM quakegrid_request WHERE request_id IN "
        "(SELECT request_id FROM quakegrid_request WHERE time < datetime('now', ?x) LIMIT ?x)",
        KEPT,
        count,
    ).rowcount
