"""What is kept and what is left out when log lines come faster than they go."""

from __future__ import annotations

import datetime as dt

import pytest

from quakegrid.clients.dbserver import log_sender
from quakegrid.clients.dbserver.log_sender import LogBuffer
from quakegrid.jobs.values import LogLine

TIME = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


def line(level: str, message: str = "m") -> LogLine:
    """A log line."""
    return LogLine(TIME, level, "p", message)


def take_all(buffer: LogBuffer) -> list[tuple[int, list[str]]]:
    """Messages of all batches, with their jobs."""
    batches = []
    while buffer.has_any:
        job_id, lines = buffer.take()
        batches.append((job_id, [one.message for one in lines]))
    return batches


def test_buffer_gives_batches_of_one_job_in_order() -> None:
    """A batch ends where the next job's lines start."""
    buffer = LogBuffer(10)

    for job_id, message in ((1, "a"), (1, "b"), (2, "c"), (1, "d")):
        assert buffer.add(job_id, line("INFO", message), 0)

    assert take_all(buffer) == [(1, ["a", "b"]), (2, ["c"]), (1, ["d"])]


def test_buffer_ends_batches_at_their_length() -> None:
    """Long lines make small batches, of one line at least."""
    buffer = LogBuffer(10)
    long = "x" * (log_sender.MAX_BATCH_LENGTH - 1)

    for message in (long, "ab", long * 2):
        buffer.add(1, line("INFO", message), 0)

    assert take_all(buffer) == [(1, [long]), (1, ["ab"]), (1, [long * 2])]


def test_full_buffer_leaves_out_debug_before_info() -> None:
    """Lines that matter more take the place of those that matter less, and one line says so."""
    buffer = LogBuffer(3)
    for level in ("DEBUG", "INFO", "WARNING"):
        buffer.add(1, line(level, level), 0)

    added = [buffer.add(1, line(level, level), 0) for level in ("DEBUG", "INFO", "ERROR")]

    assert added == [True, True, True]
    batches = take_all(buffer)
    assert batches[0] == (1, ["WARNING", "ERROR"])
    [(job_id, [note])] = batches[1:]
    assert job_id == 1
    assert note.startswith("4 log lines were left out here and before (2 DEBUG, 2 INFO)")


def test_full_buffer_never_leaves_out_warnings_by_itself() -> None:
    """It is the sender who decides how long to wait."""
    buffer = LogBuffer(1)
    buffer.add(1, line("WARNING", "kept"), 0)

    assert not buffer.add(1, line("ERROR"), 0)
    assert take_all(buffer) == [(1, ["kept"])]


def test_buffer_counts_lines_on_the_way() -> None:
    """What was taken and not yet stored needs its place."""
    buffer = LogBuffer(2)

    buffer.add(1, line("INFO", "a"), 1)
    buffer.add(1, line("INFO", "b"), 1)

    [(_, kept), (_, [note])] = take_all(buffer)
    assert kept == ["a"]
    assert "1 INFO" in note


def test_buffer_notes_what_was_left_out_for_each_job() -> None:
    """A job's log tells of its own lines."""
    buffer = LogBuffer(0)

    buffer.add(1, line("DEBUG"), 0)
    buffer.add(2, line("INFO"), 0)

    notes = dict(take_all(buffer))
    assert "1 DEBUG" in notes[1][0]
    assert "1 INFO" in notes[2][0]


@pytest.mark.parametrize("count", [log_sender.SWEEP_COUNT + 5])
def test_buffer_makes_room_by_a_bounded_step(count: int) -> None:
    """The oldest lines go, not all of a level at once."""
    buffer = LogBuffer(count)
    for number in range(count):
        buffer.add(1, line("INFO", str(number)), 0)

    buffer.add(1, line("ERROR", "e"), 0)

    kept = [message for _, batch in take_all(buffer) for message in batch]
    assert kept[:-1] == [*map(str, range(log_sender.SWEEP_COUNT, count)), "e"]
