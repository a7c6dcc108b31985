"""One calculation as a person reads it: how it ended and why, then what it was and where it is. Pure."""

from __future__ import annotations

import datetime

from quakegrid.cli.views import render
from quakegrid.jobs.states import JobState
from quakegrid.jobs.values import Job
from quakegrid.reports import explanations


def headline(job: Job, now_time: datetime.datetime) -> str:
    """What has become of a calculation, in a sentence.

    Args:
        job: the calculation.
        now_time: the time.
    """
    if job.state.is_unsuccessful:
        return explanations.end_of(job)
    took = _took(job, now_time)
    if job.is_running:
        return f"It is executing, for {took} so far."
    if job.state.is_final:
        return f"It is {job.state}" + (f", and took {took}." if took else ".")
    return (
        "It is submitted, and waits for its turn."
        if job.state is JobState.SUBMITTED
        else f"It is {job.state}."
    )


def facts(
    job: Job, now_time: datetime.datetime, tags: tuple[str, ...] = (), stage: str = ""
) -> list[tuple[str, str]]:
    """Labels and texts, those left out that say nothing.

    Args:
        job: the calculation.
        now_time: the time.
        tags: of the job.
        stage: the one at hand; empty if none is known.
    """
    is_open = not job.state.is_final
    found = [
        ("state", str(job.state)),
        ("stage", stage),
        ("user", job.user_name),
        ("mode", job.calculation_mode),
        ("starts from", f"job {job.hazard_calculation_id}" if job.hazard_calculation_id else ""),
        ("tags", ", ".join(tags)),
        ("start", render.cell(job.start_time)),
        ("end", render.cell(job.stop_time) if job.stop_time else ""),
        ("took", _took(job, now_time)),
        ("started again", f"{job.resume_count} times" if job.resume_count else ""),
        ("driver", f"process {job.pid} on {job.host}" if job.pid and is_open else ""),
        ("machine", job.host),
        ("datastore", f"{job.ds_calc_dir}.hdf5" if job.ds_calc_dir else ""),
        ("size, MiB", f"{job.size_mb:.2f}" if job.size_mb and job.size_mb > 0 else ""),
    ]
    return [(label, text) for label, text in found if text]


def _took(job: Job, now_time: datetime.datetime) -> str:
    """How long a calculation has taken until now or until its end; empty if that is not known."""
    end_time = job.stop_time or (now_time if job.is_running else None)
    return render.short_time((end_time - job.start_time).total_seconds()) if end_time else ""
