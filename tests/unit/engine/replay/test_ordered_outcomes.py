"""Recorded outcomes are answered in their order, and to the submissions that they were made for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quakegrid.engine.replay.ordered import DivergedError, JournalContent
from quakegrid.journals import records
from quakegrid.journals.records import Record, RecordKind


def digest(number: int) -> bytes:
    """That of a submission."""
    return bytes([number]) * records.DIGEST_BYTES


def outcome(number: int) -> Record:
    """Of a submission."""
    return Record(RecordKind.OUTCOME, [b"result %d" % number], number, digest(number))


def journal(*wanted: Record) -> JournalContent:
    """A journal with these records."""
    data, checksum = b"", 0
    for record in wanted:
        parts, checksum = records.encode(record, checksum)
        data += b"".join(bytes(part) for part in parts)
    return JournalContent(memoryview(data))


def results(content: JournalContent) -> list[bytes]:
    """What is delivered, to the end."""
    found = []
    while (record := content.outcomes.next()) is not None:
        found.append(bytes(record.frames[0]))
    return found


@given(st.permutations(range(6)), st.integers(0, 6))
def test_outcomes_come_in_the_order_of_their_delivery(order: list[int], count: int) -> None:
    """Whatever the order of submissions was; those that were under way are run again."""
    content = journal(*map(outcome, order[:count]))

    submitted = [content.outcomes.submit(digest(number)) for number in range(6)]

    assert [each.number for each in submitted if each.is_recorded] == sorted(order[:count])
    assert results(content) == [b"result %d" % number for number in order[:count]]
    assert content.outcomes.is_over


def test_submission_that_is_another_one_diverges() -> None:
    """Nothing that was replayed may be kept then."""
    content = journal(outcome(0), outcome(1))
    content.outcomes.submit(digest(0))

    with pytest.raises(DivergedError, match="task number 1 is another one"):
        content.outcomes.submit(digest(7))


def test_outcome_that_nobody_asked_for_diverges() -> None:
    """In the first run it had been submitted by then."""
    content = journal(outcome(0), outcome(2))
    content.outcomes.submit(digest(0))
    content.outcomes.submit(digest(1))
    assert content.outcomes.next() is not None

    with pytest.raises(DivergedError, match="not submitted task number 2"):
        content.outcomes.next()


def test_journal_without_outcomes_answers_nothing() -> None:
    """Nor does one that is empty."""
    for content in (journal(), journal(Record(RecordKind.REQUEST, [b"{}"]))):
        assert not content.outcomes.submit(digest(0)).is_recorded
        assert content.outcomes.next() is None
        assert len(content.outcomes) == 0


def test_journal_knows_how_often_it_was_tried_in_vain() -> None:
    """An outcome that is new begins the count anew; a resumption by a person does not count."""
    by_itself, by_person = (Record(RecordKind.RESUMED, [b"{}"], number) for number in (1, 0))
    first = [Record(RecordKind.REQUEST, [b"{}"]), Record(RecordKind.PINS, [b"{}"]), by_itself]

    assert journal(*first, by_itself, by_person).vain_count == 2
    assert journal(*first, outcome(0), by_itself).vain_count == 1
    content = journal(*first)
    assert content.request is not None
    assert content.pins is not None
    assert content.last is not None
    assert content.last.record.kind is RecordKind.RESUMED
