"""Where the cores' time went, from hand-made histories."""

from __future__ import annotations

import pytest

from quakegrid.reports import job_report
from quakegrid.reports.task_history import Attempt, AttemptEnd, TaskHistory, WorkerLife

T0 = 1000.0


def attempt(
    task_id: int, worker_id: str, start_s: float, duration_s: float, *, sent_s: float | None = None
) -> Attempt:
    """A done attempt of operation `op`, instants after T0, submitted at T0."""
    sent_s = start_s if sent_s is None else sent_s
    return Attempt(
        task_id,
        1,
        AttemptEnd.DONE,
        "op",
        worker_id,
        T0 + start_s + duration_s,
        queued_s=sent_s,
        held_s=start_s + duration_s - sent_s,
        duration_s=duration_s,
        load_s=0.1,
        in_bytes=10,
        out_bytes=20,
        peak_memory_bytes=task_id,
    )


def lost(task_id: int, worker_id: str, sent_s: float, end_s: float) -> Attempt:
    """An attempt that ended with its worker."""
    end = AttemptEnd.LOST
    return Attempt(task_id, 1, end, "op", worker_id, T0 + end_s, queued_s=sent_s, held_s=end_s - sent_s)


def history(*attempts: Attempt, closed_s: float | None = 10.0) -> TaskHistory:
    """A session of two workers, `a` and `b`, that live as long as it."""
    workers = {name: WorkerLife(name, f"node-{name}", T0) for name in "ab"}
    closed = None if closed_s is None else T0 + closed_s
    return TaskHistory(5, (7,), "me", T0, closed, list(attempts), workers)


def test_report_divides_the_time_of_all_cores() -> None:
    """Used, lost, transfer and idle add up to what the session had."""
    done = history(attempt(1, "a", 1.0, 4.0, sent_s=0.5), attempt(2, "b", 0.0, 2.0), lost(3, "b", 3.0, 6.0))

    report = job_report.make_report(done, T0 + 99)

    assert report.core_s == pytest.approx(20.0)
    assert report.used_s == pytest.approx(6.0)
    assert report.lost_s == pytest.approx(3.0)
    assert report.transfer_s == pytest.approx(0.5)
    assert report.idle_s == pytest.approx(10.5)
    assert report.used_share == pytest.approx(0.3)


def test_task_sent_ahead_is_not_transfer() -> None:
    """A task that waited at its worker behind another one cost no core anything."""
    done = history(attempt(1, "a", 0.0, 2.0), attempt(2, "a", 2.0, 2.0, sent_s=0.0))

    report = job_report.make_report(done, T0 + 99)

    assert report.transfer_s == 0.0
    assert report.used_s == pytest.approx(4.0)


def test_death_of_a_worker_loses_what_it_ran_and_not_what_waited() -> None:
    """Of two tasks at a dead worker one was run again."""
    done = history(lost(1, "a", 1.0, 4.0), lost(2, "a", 2.0, 4.0), attempt(1, "b", 4.0, 1.0))
    done.workers["a"].left_s = T0 + 4.0
    done.workers["a"].reason = "killed by signal 9"

    report = job_report.make_report(done, T0 + 99)

    (retry,) = report.retries
    assert (retry.task_id, retry.node, retry.worker_reason) == (1, "node-a", "killed by signal 9")
    assert report.lost_s == pytest.approx(3.0)
    assert report.core_s == pytest.approx(14.0)


def test_end_of_the_session_is_no_retry() -> None:
    """What an abort takes from a worker is lost, and nothing is tried again."""
    report = job_report.make_report(history(lost(1, "a", 1.0, 4.0)), T0 + 99)

    assert report.retry_count == 0
    assert report.lost_s == pytest.approx(3.0)


def test_tail_runs_from_the_last_task_sent() -> None:
    """From the moment that the queue was empty until the last end."""
    report = job_report.make_report(history(attempt(1, "a", 0.0, 9.0), attempt(2, "b", 1.0, 2.0)), T0 + 99)

    assert report.tail_s == pytest.approx(8.0)


def test_driver_time_is_where_no_task_was() -> None:
    """Between tasks the workers waited for the driver."""
    late = Attempt(2, 1, AttemptEnd.DONE, "op", "b", T0 + 8.0, queued_s=0.0, held_s=3.0, duration_s=3.0)

    report = job_report.make_report(history(attempt(1, "a", 0.0, 2.0), late), T0 + 99)

    assert report.driver_s == pytest.approx(3.0)


def test_straggler_is_far_beyond_the_median_of_its_operation() -> None:
    """One of many; a task that is only three times as long and tiny is none."""
    short = [attempt(number, "a", number * 0.1, 0.1) for number in range(9)]
    done = history(*short, attempt(20, "a", 1.0, 0.4), attempt(21, "b", 1.0, 5.0))

    report = job_report.make_report(done, T0 + 99)

    (straggler,) = report.stragglers
    assert (straggler.task_id, straggler.node) == (21, "node-b")
    (operation,) = report.operations
    assert (operation.task_count, operation.straggler_count, operation.max_s) == (11, 1, 5.0)


def test_report_of_a_running_session_counts_until_now() -> None:
    """Cores count until now, and it says that it runs."""
    report = job_report.make_report(history(attempt(1, "a", 0.0, 2.0), closed_s=None), T0 + 4)

    assert report.is_running
    assert report.core_s == pytest.approx(8.0)


def test_report_of_nothing_is_all_zeros() -> None:
    """A session without workers divides by no zero."""
    report = job_report.make_report(TaskHistory(5, opened_s=T0, closed_s=T0), T0)

    assert (report.core_s, report.used_share, report.operations) == (0.0, 0.0, ())


def test_timelines_are_steps() -> None:
    """Busy cores go up and down with the tasks, held ones with the workers."""
    done = history(attempt(1, "a", 0.0, 4.0), attempt(2, "b", 2.0, 2.0))

    assert job_report.busy_cores(done) == [(T0, 1), (T0 + 2, 2), (T0 + 4, 0)]
    assert job_report.held_cores(done, T0 + 99) == [(T0, 2), (T0 + 10, 0)]


def test_many_steps_become_means_with_the_same_area() -> None:
    """A figure of a million tasks has a thousand steps."""
    steps = [(T0 + number * 0.5, number % 2 * 4) for number in range(100)] + [(T0 + 50.0, 0)]

    thin = job_report.thin_out(steps, 10)

    assert len(thin) == 11
    assert [cores for _, cores in thin[:-1]] == pytest.approx([2.0] * 10)
    assert thin[-1] == (T0 + 50.0, 0.0)
