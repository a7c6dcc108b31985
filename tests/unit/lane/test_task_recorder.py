"""What a lane writes of its tasks is what a history reads."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from quakegrid import errors
from quakegrid.reports import task_history_files
from quakegrid.reports.task_history import AttemptEnd, TaskHistory, read_history
from quakegrid.services.lane.records import TaskRecorder, Usage
from quakegrid.services.lane.tasks.events import (
    Lease,
    OutcomeArrived,
    Peer,
    Refuse,
    SessionId,
    TaskId,
    WorkerId,
    WorkerJoined,
)
from quakegrid.wire.v1 import lane_pb2

SESSION = SessionId(1000)
PEER = Peer(b"w1")
WORKER = WorkerId("w1")


def lease(task_id: int, attempt: int = 1) -> Lease:
    """A lease of the session."""
    return Lease(SESSION, TaskId(task_id), attempt)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where records go."""
    return tmp_path / "records"


def recorder(folder: Path, session_id: int = SESSION, job_id: int = 7) -> TaskRecorder:
    """A recorder whose worker has joined."""
    opening = lane_pb2.OpenLaneSession(session_id=session_id, job_ids=[job_id], user_name="me")
    found = TaskRecorder(opening, folder)
    found.on_joined(WorkerJoined(SESSION, WORKER, "n1", PEER), PEER, 100.0)
    return found


def send(records: TaskRecorder, task_id: int, attempt: int = 1) -> None:
    """Submit at 100 s, send at 102 s."""
    submitted = records.submitted("op", (), 100.0)
    records.on_sent(PEER, lease(task_id, attempt), submitted, 30, 102.0)


def history(folder: Path, number: int = 7) -> TaskHistory:
    """What is in the file."""
    return read_history(task_history_files.read(task_history_files.find(folder, number)))


def test_outcome_is_recorded_with_its_times_and_sizes(folder: Path) -> None:
    """One attempt, all columns."""
    records = recorder(folder)
    send(records, 1)

    outcome = OutcomeArrived(lease(1), WORKER, 2.5, Usage(0.25, 1 << 20))
    records.on_outcome(outcome, 40, 105.0, is_delivered=True)
    records.close()

    found = history(folder)
    (attempt,) = found.attempts
    assert (attempt.task_id, attempt.end, attempt.operation) == (1, AttemptEnd.DONE, "op")
    assert (attempt.queued_s, attempt.held_s, attempt.duration_s, attempt.load_s) == (2.0, 3.0, 2.5, 0.25)
    assert (attempt.in_bytes, attempt.out_bytes, attempt.peak_memory_bytes) == (30, 40, 1 << 20)
    assert found.workers["w1"].node == "n1"
    assert found.closed_s is not None


def test_loss_of_a_worker_ends_all_that_it_had(folder: Path) -> None:
    """Each of its tasks, and the worker's own end with the reason; a returned one is not among them."""
    records = recorder(folder)
    for task_id in (1, 2, 3):
        send(records, task_id)
    records.on_returned(lease(3))

    records.on_lost(WORKER, "killed by signal 9", 103.0, is_clean=False)
    records.flush()

    found = history(folder)
    assert [(each.task_id, each.end) for each in found.attempts] == [
        (1, AttemptEnd.LOST),
        (2, AttemptEnd.LOST),
    ]
    assert found.workers["w1"].reason == "killed by signal 9"
    assert found.closed_s is None
    records.close()


def test_outcome_of_an_old_lease_is_dropped_and_disturbs_no_other(folder: Path) -> None:
    """The current attempt keeps its times."""
    records = recorder(folder)
    send(records, 1, attempt=2)

    records.on_outcome(OutcomeArrived(lease(1, 1), WORKER, 0.5), 0, 104.0, is_delivered=False)
    records.on_outcome(OutcomeArrived(lease(1, 2), WORKER, 0.5), 0, 105.0, is_delivered=True)
    records.close()

    assert [(each.attempt, each.end) for each in history(folder).attempts] == [
        (1, AttemptEnd.DROPPED),
        (2, AttemptEnd.DONE),
    ]


def test_file_that_ends_in_a_block_is_read_up_to_there(folder: Path) -> None:
    """As after a power cut."""
    records = recorder(folder)
    records.flush()
    send(records, 1)
    records.on_outcome(OutcomeArrived(lease(1), WORKER), 0, 105.0, is_delivered=True)
    records.close()
    path = folder / str(SESSION)

    path.write_bytes(path.read_bytes()[:-3])

    found = history(folder)
    assert found.attempts == []
    assert "w1" in found.workers


def test_full_file_counts_what_it_omits(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A session that runs for months has a bounded file."""
    monkeypatch.setattr(task_history_files, "MAX_FILE_BYTES", 10)
    records = recorder(folder)
    records.flush()

    for task_id in (1, 2):
        send(records, task_id)
        records.on_outcome(OutcomeArrived(lease(task_id), WORKER), 0, 105.0, is_delivered=True)
    records.close()

    found = history(folder)
    assert (found.attempts, found.omitted_count) == ([], 2)


def test_oldest_sessions_make_room(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The number of files is bounded; what is gone is not found, and why is said."""
    monkeypatch.setattr(task_history_files, "KEPT_FILES", 2)

    for number in (1, 2, 3):
        recorder(folder, session_id=1000 + number, job_id=number).close()

    assert sorted(path.name for path in folder.iterdir()) == ["1002", "1003"]
    with pytest.raises(errors.NotFoundError, match="made room"):
        task_history_files.find(folder, 1)


def test_disk_that_takes_nothing_ends_the_records_only(folder: Path) -> None:
    """The lane goes on."""
    folder.write_text("in the way", encoding="utf-8")
    records = recorder(folder)
    records.flush()
    send(records, 1)

    records.on_outcome(OutcomeArrived(lease(1), WORKER), 0, time.monotonic(), is_delivered=True)
    records.close()

    assert folder.read_text(encoding="utf-8") == "in the way"


def test_session_without_anything_leaves_no_file(folder: Path) -> None:
    """Most sessions of `oq` commands run no task."""
    TaskRecorder(lane_pb2.OpenLaneSession(session_id=1), folder).close()

    assert not folder.exists()


def test_refused_worker_is_no_worker_of_the_session(folder: Path) -> None:
    """One that greets after its end has no life that never ends."""
    records = recorder(folder)
    late = Peer(b"w2")
    event = WorkerJoined(SESSION, WorkerId("w2"), "n1", late)

    records.on_worker_event(event, [Refuse(late, "gone")], late, 0, 101.0)
    records.close()

    assert list(history(folder).workers) == ["w1"]


def test_task_has_the_blobs_that_it_was_submitted_with(folder: Path) -> None:
    """And none of the task before it, though both came in one turn with the same operation."""
    records = recorder(folder)
    blob = lane_pb2.BlobRef(place=1, blob_id=bytes(16), byte_count=9)

    first, second = records.submitted("op", [blob], 100.0), records.submitted("op", (), 100.0)

    assert (list(first.blobs), list(second.blobs)) == ([blob], [])
    assert records.submitted("op", (), 100.0) is second  # what a turn of small tasks costs
