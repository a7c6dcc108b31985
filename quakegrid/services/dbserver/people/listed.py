"""Which credentials of people and nodes count, as the database says, and the writes that change it."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from quakegrid.services.dbserver.people import credentials, nodes
from quakegrid.services.dbserver.store.database import SqlSession
from quakegrid.services.dbserver.store.writer import Writer

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Listed:
    """What counts at a moment.

    Args:
        ids: of the credentials of people and nodes that count.
        shut_out_nodes: nodes whose last certificate does not count any more.
        shut_out_ids: of all certificates of nodes that do not count any more.
        next_end_s: when the next certificate of a node ends; None if none counts.
    """

    ids: frozenset[str]
    shut_out_nodes: frozenset[str] = frozenset()
    shut_out_ids: frozenset[str] = frozenset()
    next_end_s: float | None = None


def read(session: SqlSession, now_s: float) -> Listed:
    """What counts now."""
    rows = nodes.find_all(session)
    valid = [row for row in rows if row.counts(now_s)]
    return Listed(
        credentials.valid_ids(session, now_s).union(row.id for row in valid),
        frozenset(row.host for row in nodes.current(rows) if row.is_shut_out(now_s)),
        frozenset(row.id for row in rows if row.is_shut_out(now_s)),
        min((row.end_s for row in valid), default=None),
    )


class CredentialWrites:
    """Changes credentials; from the return on, those that do not count any more are refused.

    Args:
        writer: the thread that writes.
        take: told what counts after a commit, and the turn of the commit.
    """

    def __init__(self, writer: Writer, take: Callable[[Listed, int], None]) -> None:
        self._writer, self._take = writer, take
        self._turns = itertools.count(1)

    async def do(self, work: Callable[[SqlSession], T]) -> T:
        """Run work in a transaction."""

        def write(session: SqlSession) -> tuple[T, Listed, int]:
            result = work(session)
            return result, read(session, time.time()), next(self._turns)

        result, listed, turn = await asyncio.wrap_future(self._writer.submit(write))
        self._take(listed, turn)
        return result
