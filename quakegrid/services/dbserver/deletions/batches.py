"""Deleting many rows in small transactions, so that other writes go through in between."""

from __future__ import annotations

import time
from collections.abc import Callable

from quakegrid.services.dbserver.store.database import SqlSession
from quakegrid.services.dbserver.store.writer import Writer

FIRST_COUNT = 200
FEWEST_ROWS = 50
MOST_ROWS = 5000
# Whoever writes meanwhile waits for two batches at most: the one that runs, and the one that is in the
# same transaction.
BATCH_S = 0.010
# A batch that was faster than wanted lets the next one grow by so much, since the next rows may lie apart.
MOST_GROWTH = 1.5
_DROP = "DELETE FROM log WHERE id IN (SELECT id FROM log WHERE job_id=?x LIMIT ?x)"


class BatchSize:
    """How many rows the next batch deletes, by how long the last one took. Pure.

    What a row costs depends on the disk, and on whether the rows of a job lie together.
    """

    def __init__(self) -> None:
        self.row_count = FIRST_COUNT

    def learn(self, took_s: float) -> None:
        """Adapt to a batch of `row_count` rows that took so long."""
        growth = min(BATCH_S / max(took_s, 1e-6), MOST_GROWTH)
        self.row_count = min(max(int(self.row_count * growth), FEWEST_ROWS), MOST_ROWS)


def run_batch(writer: Writer, work: Callable[[SqlSession, int], int], size: BatchSize) -> int:
    """Do one batch in a transaction, learn from it, and return what `work` returned.

    Args:
        writer: does it.
        work: deletes at most so many rows.
        size: how many rows; gets the time from here to the disk, so that batches shrink when others write.
    """
    start_s = time.monotonic()
    count = writer.run(lambda session: work(session, size.row_count))
    size.learn(time.monotonic() - start_s)
    return count


def delete_in_batches(
    writer: Writer, delete: Callable[[SqlSession, int], int], is_closing: Callable[[], bool]
) -> int:
    """Delete rows until there are none left; returns how many.

    Args:
        writer: does each batch in a transaction of its own.
        delete: deletes at most so many rows, and returns how many.
        is_closing: asked before each batch; true ends it.
    """
    total = 0
    size = BatchSize()
    while not is_closing():
        count = run_batch(writer, delete, size)
        total += count
        if not count:
            break
    return total


def drop_log(writer: Writer, job_id: int, is_closing: Callable[[], bool]) -> int:
    """Delete the log of a job; returns how many lines."""
    return delete_in_batches(
        writer, lambda session, count: session.execute(_DROP, job_id, count).rowcount, is_closing
    )
