"""The book of the audit log, before a disk that refuses and before a reader that leaves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from quakegrid import errors
from quakegrid.access import audits
from quakegrid.access.audits import About, AuditRecord
from quakegrid.services.dbserver.audit import book as books
from quakegrid.services.dbserver.audit.book import AuditBook
from quakegrid.services.dbserver.store.sqlite_errors import DiskFullError


class FakeWriter:
    """Keeps what is enqueued until the test answers it."""

    def __init__(self) -> None:
        self.batches: list[list[AuditRecord]] = []
        self.tells: list[Callable[[Any, Exception | None], None]] = []
        self.came_again = asyncio.Event()
        self.is_closed = False

    def enqueue(self, work: Any, tell: Callable[[Any, Exception | None], None]) -> None:
        """Take work; refuse it as the writer does when it is closed."""
        if self.is_closed:
            raise errors.PeerUnreachableError("the dbserver is stopping")
        self.batches.append(list(work.keywords["records"]))
        self.tells.append(tell)
        if len(self.batches) > 1:
            self.came_again.set()


def record(number: int) -> AuditRecord:
    """One of many."""
    return AuditRecord(float(number), "user", "anna", About("x"), audits.OK, "", "dbserver")


async def turn() -> None:
    """Let the event loop do what was told to it."""
    for _ in range(3):
        await asyncio.sleep(0)


def run(test: Callable[[AuditBook, FakeWriter], Any]) -> None:
    """Run a test with a book in an event loop."""

    async def main() -> None:
        writer = FakeWriter()
        await test(AuditBook(writer), writer)  # type: ignore[arg-type]

    asyncio.run(main())


def test_one_write_is_under_way_at_a_time() -> None:
    """What comes meanwhile is written together, so the writer's queue holds one request of ours."""

    async def test(book: AuditBook, writer: FakeWriter) -> None:
        for number in range(100):
            book.put(record(number))
        assert writer.batches == [[record(0)]]

        writer.tells[0](None, None)
        await turn()

        assert writer.batches[1] == [record(number) for number in range(1, 100)]
        assert len(writer.batches) == 2

    run(test)


def test_full_disk_keeps_the_records_until_there_is_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """In order; nothing is written twice."""
    monkeypatch.setattr(books, "RETRY_S", 0.0)

    async def test(book: AuditBook, writer: FakeWriter) -> None:
        book.put(record(0))
        book.put(record(1))
        writer.tells[0](None, DiskFullError("the disk is full"))
        await asyncio.wait_for(writer.came_again.wait(), 30)

        assert writer.batches[1] == [record(0), record(1)]

    run(test)


def test_what_does_not_fit_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest go; a record says how many, as soon as the disk takes it."""
    monkeypatch.setattr(books, "RETRY_S", 0.0)
    monkeypatch.setattr(books, "MOST_WAITING", 5)

    async def test(book: AuditBook, writer: FakeWriter) -> None:
        for number in range(10):
            book.put(record(number))
        writer.tells[0](None, DiskFullError("the disk is full"))
        await asyncio.wait_for(writer.came_again.wait(), 30)

        *kept, lost = writer.batches[1]
        assert kept == [record(number) for number in range(5, 10)]
        assert (lost.about.action, lost.count) == (audits.LOST, 5)

    run(test)


def test_close_hands_over_all_that_waits() -> None:
    """Though a write is under way; what comes later is lost without an error."""

    async def test(book: AuditBook, writer: FakeWriter) -> None:
        for number in range(2 * books.BATCH_ROWS):
            book.put(record(number))
        book.send_away()
        book.close()
        assert [len(batch) for batch in writer.batches] == [1, 2 * books.BATCH_ROWS - 1]

        writer.is_closed = True
        book.close()
        book.put(record(0))

    run(test)


def test_followers_have_a_limit_and_are_sent_away() -> None:
    """With words that a command understands."""

    async def test(book: AuditBook, _writer: FakeWriter) -> None:
        followers = [book.changes() for _ in range(books.MAX_FOLLOWERS)]
        for follower in followers:
            await anext(follower)
        with pytest.raises(errors.StateError, match="which is the most"):
            await anext(book.changes())
        waiting = asyncio.ensure_future(anext(followers[0]))
        await turn()
        book.send_away()
        with pytest.raises(errors.PeerUnreachableError):
            await waiting
        for follower in followers[1:]:
            await follower.aclose()
        with pytest.raises(errors.PeerUnreachableError):
            await anext(book.changes())

    run(test)
