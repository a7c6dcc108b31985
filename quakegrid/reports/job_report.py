"""Where the cores' time went while a session ran, computed from its task records.

Pure. Each worker has a core from when it joined until it left. In that time it runs tasks whose outcomes
count (used), runs tasks that are lost (lost), waits while a task or an outcome travels (transfer), or idles.
"""

from __future__ import annotations

import bisect
import itertools
import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from quakegrid.reports.task_history import Attempt, AttemptEnd, TaskHistory

# A straggler takes at least this many times the median of its operation, and this many seconds more.
STRAGGLER_FACTOR = 3.0
STRAGGLER_EXCESS_S = 0.5
SHOWN_STRAGGLERS = 10

# Since when, and how many cores from then on.
Step = tuple[float, int]


@dataclass(frozen=True, slots=True)
class Operation:
    """The tasks of one kind; durations are those of attempts that are done, s."""

    operation: str
    task_count: int
    total_s: float
    median_s: float
    max_s: float
    load_s: float
    in_bytes: int
    out_bytes: int
    straggler_count: int


@dataclass(frozen=True, slots=True)
class Straggler:
    """A task much longer than others of its operation."""

    task_id: int
    operation: str
    node: str
    worker_id: str
    duration_s: float
    median_s: float


@dataclass(frozen=True, slots=True)
class Retry:
    """An attempt that was lost with its worker; `worker_reason` tells how the worker ended."""

    task_id: int
    attempt: int
    operation: str
    node: str
    worker_id: str
    lost_s: float
    worker_reason: str


@dataclass(frozen=True, slots=True)
class JobReport:
    """One session in numbers.

    Times of cores are in core-seconds: `core_s` = used + lost + transfer + idle. `tail_s` runs from the last
    task that was sent to a worker to the last end; in `driver_s` no task was queued or at a worker, between
    the first submission and the last end.
    """

    session_id: int
    job_ids: tuple[int, ...]
    is_running: bool
    wall_s: float
    worker_count: int
    core_s: float
    used_s: float
    lost_s: float
    transfer_s: float
    idle_s: float
    load_s: float
    tail_s: float
    driver_s: float
    task_count: int
    retry_count: int
    dropped_count: int
    in_bytes: int
    out_bytes: int
    peak_memory_bytes: int
    straggler_count: int
    omitted_count: int
    operations: tuple[Operation, ...]
    stragglers: tuple[Straggler, ...]
    retries: tuple[Retry, ...]

    @property
    def used_share(self) -> float:
        """Part of the cores' time that made outcomes that count."""
        return self.used_s / self.core_s if self.core_s else 0.0


@dataclass(frozen=True, slots=True)
class _Run:
    """What a worker did with one attempt: it began at `start_s`, after it waited `transfer_s` for it."""

    attempt: Attempt
    start_s: float
    transfer_s: float

    @property
    def busy_s(self) -> float:
        return self.attempt.end_s - self.start_s


def make_report(history: TaskHistory, now_s: float) -> JobReport:
    """Compute the report of a session.

    Args:
        history: of the session.
        now_s: seconds since 1970; workers that still live are counted until then.
    """
    end_s = history.closed_s or now_s
    runs = _runs(history)
    core_s = sum(max(0.0, (life.left_s or end_s) - life.joined_s) for life in history.workers.values())
    used_s = sum(run.busy_s for run in runs if run.attempt.end is AttemptEnd.DONE)
    lost_s = sum(run.busy_s for run in runs if run.attempt.end is not AttemptEnd.DONE)
    transfer_s = sum(run.transfer_s for run in runs)
    done = [attempt for attempt in history.attempts if attempt.end is AttemptEnd.DONE]
    stragglers = _stragglers(history, done)
    retries = _retries(history, runs)
    return JobReport(
        session_id=history.session_id,
        job_ids=history.job_ids,
        is_running=history.closed_s is None,
        wall_s=max(0.0, end_s - history.opened_s),
        worker_count=len(history.workers),
        core_s=core_s,
        used_s=used_s,
        lost_s=lost_s,
        transfer_s=transfer_s,
        idle_s=max(0.0, core_s - used_s - lost_s - transfer_s),
        load_s=sum(attempt.load_s for attempt in done),
        tail_s=_tail_s(history.attempts),
        driver_s=_driver_s(history.attempts),
        task_count=len(done),
        retry_count=len(retries),
        dropped_count=sum(attempt.end is AttemptEnd.DROPPED for attempt in history.attempts),
        in_bytes=sum(attempt.in_bytes for attempt in history.attempts),
        out_bytes=sum(attempt.out_bytes for attempt in history.attempts),
        peak_memory_bytes=max((attempt.peak_memory_bytes for attempt in done), default=0),
        straggler_count=len(stragglers),
        omitted_count=history.omitted_count,
        operations=_operations(done, stragglers),
        stragglers=tuple(stragglers[:SHOWN_STRAGGLERS]),
        retries=tuple(retries),
    )


def busy_cores(history: TaskHistory) -> list[Step]:
    """How many cores were busy: `(since_s, count)` from the session's opening on, in order of time."""
    return _steps((run.start_s, run.attempt.end_s) for run in _runs(history))


def held_cores(history: TaskHistory, now_s: float) -> list[Step]:
    """The same for the cores that the session had."""
    end_s = history.closed_s or now_s
    return _steps((life.joined_s, life.left_s or end_s) for life in history.workers.values())


def thin_out(steps: Sequence[Step], count: int) -> Sequence[tuple[float, float]]:
    """For figures: at most `count` steps, each the mean over an equal part of the time."""
    if len(steps) <= count:
        return steps
    times_s = [since_s for since_s, _ in steps]
    areas = [(until_s - since_s) * cores for (since_s, cores), (until_s, _) in itertools.pairwise(steps)]
    until = list(itertools.accumulate(areas, initial=0.0))
    width_s = (times_s[-1] - times_s[0]) / count
    edges_s = [*(times_s[0] + place * width_s for place in range(count)), times_s[-1]]
    places = [bisect.bisect_right(times_s, edge_s) - 1 for edge_s in edges_s]
    at_edges = [
        until[place] + steps[place][1] * (edge_s - times_s[place])
        for place, edge_s in zip(places, edges_s, strict=True)
    ]
    means = [(after - before) / width_s for before, after in itertools.pairwise(at_edges)]
    return list(zip(edges_s, [*means, 0.0], strict=True))


def _steps(intervals: Iterable[tuple[float, float]]) -> list[Step]:
    changes: defaultdict[float, int] = defaultdict(int)
    for start_s, end_s in intervals:
        changes[start_s] += 1
        changes[end_s] -= 1
    instants = sorted(changes)
    return list(zip(instants, itertools.accumulate(changes[s] for s in instants), strict=True))


def _runs(history: TaskHistory) -> list[_Run]:
    """What each worker did, one after the other; tasks that died waiting behind another were not run."""
    by_worker: defaultdict[str, list[Attempt]] = defaultdict(list)
    for attempt in history.attempts:
        by_worker[attempt.worker_id].append(attempt)
    runs = []
    for attempts in by_worker.values():
        attempts.sort(key=lambda attempt: attempt.end_s)
        free_s = 0.0
        for attempt in attempts:
            ready_s = max(attempt.sent_s, free_s)
            if attempt.end is AttemptEnd.LOST:
                if attempt.end_s <= free_s:
                    continue
                start_s = min(ready_s, attempt.end_s)
            else:
                start_s = max(attempt.end_s - attempt.duration_s, free_s)
            runs.append(_Run(attempt, start_s, max(0.0, start_s - ready_s)))
            free_s = attempt.end_s
    return runs


def _tail_s(attempts: Sequence[Attempt]) -> float:
    if not attempts:
        return 0.0
    return max(attempt.end_s for attempt in attempts) - max(attempt.sent_s for attempt in attempts)


def _driver_s(attempts: Sequence[Attempt]) -> float:
    """Time between tasks in which there was none."""
    total_s, covered_s = 0.0, None
    for submitted_s, end_s in sorted((attempt.submitted_s, attempt.end_s) for attempt in attempts):
        if covered_s is not None and submitted_s > covered_s:
            total_s += submitted_s - covered_s
        covered_s = end_s if covered_s is None else max(covered_s, end_s)
    return total_s


def _by_operation(done: Sequence[Attempt]) -> dict[str, list[Attempt]]:
    found: defaultdict[str, list[Attempt]] = defaultdict(list)
    for attempt in done:
        found[attempt.operation].append(attempt)
    return found


def straggler_limit_s(median_s: float) -> float:
    """From which duration on a task is a straggler, by the median of its operation."""
    return max(STRAGGLER_FACTOR * median_s, median_s + STRAGGLER_EXCESS_S)


def _stragglers(history: TaskHistory, done: Sequence[Attempt]) -> list[Straggler]:
    """All of them, the longest first."""
    found = []
    for operation, attempts in _by_operation(done).items():
        median_s = statistics.median(attempt.duration_s for attempt in attempts)
        limit_s = straggler_limit_s(median_s)
        found += [
            Straggler(
                attempt.task_id,
                operation,
                _node(history, attempt.worker_id),
                attempt.worker_id,
                attempt.duration_s,
                median_s,
            )
            for attempt in attempts
            if attempt.duration_s > limit_s
        ]
    return sorted(found, key=lambda straggler: -straggler.duration_s)


def _operations(done: Sequence[Attempt], stragglers: Sequence[Straggler]) -> tuple[Operation, ...]:
    """All of them, the one with the most work first."""
    found = []
    for operation, attempts in _by_operation(done).items():
        durations_s = [attempt.duration_s for attempt in attempts]
        found.append(
            Operation(
                operation=operation,
                task_count=len(attempts),
                total_s=sum(durations_s),
                median_s=statistics.median(durations_s),
                max_s=max(durations_s),
                load_s=sum(attempt.load_s for attempt in attempts),
                in_bytes=sum(attempt.in_bytes for attempt in attempts),
                out_bytes=sum(attempt.out_bytes for attempt in attempts),
                straggler_count=sum(straggler.operation == operation for straggler in stragglers),
            )
        )
    return tuple(sorted(found, key=lambda operation: -operation.total_s))


def _retries(history: TaskHistory, runs: Sequence[_Run]) -> list[Retry]:
    """Lost attempts, without those that the end of the session took."""
    found = []
    for run in runs:
        attempt, life = run.attempt, history.workers.get(run.attempt.worker_id)
        if attempt.end is not AttemptEnd.LOST or life is None or life.left_s is None:
            continue
        found.append(
            Retry(
                attempt.task_id,
                attempt.attempt,
                attempt.operation,
                life.node,
                attempt.worker_id,
                run.busy_s,
                life.reason,
            )
        )
    return found


def _node(history: TaskHistory, worker_id: str) -> str:
    life = history.workers.get(worker_id)
    return life.node if life else ""
