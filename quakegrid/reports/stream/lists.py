"""Lists of what a session's tasks did, each of bounded length: operations, long tasks, lost ones. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Reversible, Sequence
from typing import Any

from quakegrid.reports import job_report
from quakegrid.reports.stream.lives import WorkerSpan
from quakegrid.reports.stream.tallies import MOST_LONGEST, Tally

SHOWN_OPERATIONS = 24
# When it ended, task, operation, worker, attempt.
Lost = tuple[float, int, str, int, int]


def operations(tallies: Iterable[Tally]) -> list[dict[str, Any]]:
    """Those with the most work first."""
    by_time = sorted(tallies, key=lambda tally: -tally.total_s)
    return [
        {
            "name": tally.name,
            "task_count": tally.task_count,
            "lost_count": tally.lost_count,
            "total_s": round(tally.total_s, 3),
            "median_s": round(tally.median_s, 4),
            "max_s": round(tally.max_s, 4),
            "bytes": tally.byte_count,
            "peak_memory_bytes": tally.peak_memory_bytes,
        }
        for tally in by_time[:SHOWN_OPERATIONS]
    ]


def stragglers(tallies: Collection[Tally], workers: Sequence[WorkerSpan]) -> list[dict[str, Any]]:
    """Tasks that took far longer than their operation's median, the longest first."""
    found: list[dict[str, Any]] = []
    for tally in tallies:
        median_s = tally.median_s
        limit_s = job_report.straggler_limit_s(median_s)
        found += [
            {
                "task_id": task_id,
                "operation": tally.name,
                "duration_s": round(duration_s, 3),
                "median_s": round(median_s, 4),
                **_where(workers[worker]),
            }
            for duration_s, task_id, worker in tally.longest
            if duration_s > limit_s
        ]
    found.sort(key=lambda each: each["duration_s"], reverse=True)
    return found[:MOST_LONGEST]


def retries(lost: Reversible[Lost], workers: Sequence[WorkerSpan]) -> list[dict[str, Any]]:
    """Lost attempts, the last ones first, with why their workers ended."""
    return [
        {
            "task_id": task_id,
            "attempt": attempt,
            "operation": name,
            "at_s": round(end_s, 3),
            "reason": workers[worker].reason,
            **_where(workers[worker]),
        }
        for end_s, task_id, name, worker, attempt in reversed(lost)
    ]


def _where(worker: WorkerSpan) -> dict[str, str]:
    return {"node": worker.node, "worker_id": worker.worker_id}
