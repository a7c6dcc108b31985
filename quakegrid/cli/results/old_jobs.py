"""Which old calculations are removed, and why others are kept. Pure."""

from __future__ import annotations

import datetime
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from quakegrid.jobs.states import JobState
from quakegrid.jobs.values import Job


@dataclass(frozen=True, slots=True)
class Chosen:
    """What is removed, and what is kept although it is old: the job and why."""

    removed: list[Job]
    kept: list[tuple[Job, str]]

    @property
    def size_mb(self) -> float:
        """Of all datastores that are removed, as far as it is known; in units of 1024 * 1024 bytes."""
        return sum(job.size_mb for job in self.removed if job.size_mb and job.size_mb > 0)


def choose(
    jobs: Sequence[Job],
    end_time: datetime.datetime,
    *,
    states: Collection[JobState] = (),
    tagged: Collection[int] = (),
) -> Chosen:
    """Choose the calculations that ended before a time, but for those that others may still want.

    Args:
        jobs: of the person, old and new.
        end_time: before which they ended.
        states: only these; empty for all.
        tagged: ids of jobs with a tag, which people gave to find them again.
    """
    removed: list[Job] = []
    kept: list[tuple[Job, str]] = []
    needed: dict[int, int] = {}
    for job in sorted(jobs, key=lambda each: -each.id):  # a calculation starts from an earlier one
        is_old = job.state.is_final and (job.stop_time or job.start_time) < end_time
        reason = _reason(job, needed, tagged)
        is_chosen = is_old and (not states or job.state in states)
        if is_chosen and not reason:
            removed.append(job)
            continue
        if is_chosen:
            kept.append((job, reason))
        if job.hazard_calculation_id:
            needed.setdefault(job.hazard_calculation_id, job.id)
    return Chosen(removed[::-1], kept[::-1])


def _reason(job: Job, needed: dict[int, int], tagged: Collection[int]) -> str:
    """Why a job is kept; empty if nothing speaks for it."""
    if job.state is JobState.SHARED:
        return "it is shared"
    if job.id in tagged:
        return "it has a tag"
    return f"job {needed[job.id]} starts from it" if job.id in needed else ""
