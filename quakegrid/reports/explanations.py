"""Plain sentences on why a job waits, is slow, or ran a task again.

Pure: uses the broker's present status of the fleet, and the report of the recorded tasks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from quakegrid.clients.broker import FleetStatus, NodeStatus, SessionStatus
from quakegrid.jobs.states import JobState
from quakegrid.jobs.values import Job
from quakegrid.reports.job_report import JobReport

# A part of the time gets a sentence from this share on.
NOTABLE_SHARE = 0.1
NOTABLE_S = 1.0
SHOWN = 5
# How long a session may execute without a task before those that wait behind it are told.
NOTABLE_UNUSED_S = 30
# The state of a session that waits for its turn; it is that of its jobs.
SUBMITTED = JobState.SUBMITTED.value


def explain(
    number: int, fleet: FleetStatus | None, report: JobReport | None, job: Job | None = None
) -> list[str]:
    """Explain a job, in sentences.

    Args:
        number: of the job, or of a session.
        fleet: the broker's status now; None if it does not answer.
        report: of its records; None if there are none.
        job: as the database has it; None if it is not known.
    """
    session = find_session(fleet, number) if fleet else None
    sentences = [end_of(job)] if job and job.state.is_unsuccessful else []
    if fleet and session:
        sentences += _now(fleet, session)
    if report:
        sentences += _past(report, is_over=session is None, is_well=not sentences)
    return sentences


def end_of(job: Job) -> str:
    """Why a job that failed or was aborted has no results, in a sentence."""
    reason = job.state_reason.rstrip(".")
    if not reason:
        verb = "failed" if job.state is JobState.FAILED else "was aborted"
        return f"It {verb}; its record does not say why, `quakegrid jobs logs {job.id}` may."
    if job.state is JobState.FAILED:
        return f"It failed: {reason}."
    return f"It was {reason}." if reason.startswith("aborted by ") else f"It was aborted: {reason}."


def find_session(fleet: FleetStatus, number: int) -> SessionStatus | None:
    """The open session of a job, or the session of that number."""
    return next(
        (each for each in fleet.sessions if number in each.job_ids or number == each.session_id), None
    )


def stage_of(session: SessionStatus, job_id: int = 0) -> str:
    """The last stage with open tasks, or the last one, and how far it is; empty if none is known.

    Args:
        session: with the stages.
        job_id: whose stages are meant, and those of no job; 0 for all.
    """
    stages = [each for each in session.stages if not job_id or each.job_id in (0, job_id)]
    if not stages:
        return ""
    stage = next((each for each in reversed(stages) if each.done_count < each.total_count), stages[-1])
    replayed = f", {stage.replayed_count} of them from the journal" if stage.replayed_count else ""
    return f"{stage.operation}, {stage.done_count} of {_count(stage.total_count, 'task')} done{replayed}"


def _now(fleet: FleetStatus, session: SessionStatus) -> Iterator[str]:
    """What the session does now, or what it waits for."""
    core_count = sum(node.core_count for node in fleet.nodes)
    if not core_count:
        yield from _no_cores(fleet)
    yield from _left_out(fleet, session)
    if session.state == SUBMITTED:
        yield from _submitted(fleet, session)
    elif session.running_count:
        yield from _running(session)
        if stage := stage_of(session):
            yield f"Its stage at hand is {stage}."
    elif session.queued_count and not session.worker_count and _has_no_node(fleet, session):
        return  # said already
    elif session.queued_count and core_count and not session.worker_count:
        others = [each for each in fleet.sessions if each is not session and each.worker_count]
        names = ", ".join(map(_name, others)) or "workers that are just ending"
        yield (
            f"It waits: no core is free; all {core_count} are with {names}, "
            f"and {_count(session.queued_count, 'task')} of it queued."
        )
    elif session.queued_count:
        yield (
            f"{_count(session.queued_count, 'task')} queued, none at its "
            f"{_count(session.worker_count, 'worker')}: "
            "they are starting, or the driver does not take outcomes as fast as they come."
        )
    else:
        yield (
            f"It waits for its driver (process {session.pid} on {session.host}), which is preparing the next "
            f"stage; {_count(session.done_count, 'task')} done so far."
        )


def _no_cores(fleet: FleetStatus) -> Iterator[str]:
    """Why no node of the fleet gives a core."""
    states = "; ".join(f"{node.host}: {node.state or 'not reached'}" for node in fleet.nodes)
    lack = "gives cores" if any(node.is_up for node in fleet.nodes) else "is up"
    yield f"It waits: no node {lack} ({states or 'host_cores names none'})."
    if any(node.state == "stopped" for node in fleet.nodes):
        yield "Stopped nodes are available again after `quakegrid workers start`."


def _running(session: SessionStatus) -> Iterator[str]:
    """How far a session with running tasks is."""
    yield (
        f"It is executing: {_count(session.running_count, 'task')} on "
        f"{_count(session.worker_count, 'worker')}, {session.queued_count} queued, {session.done_count} done."
    )
    if session.queued_count == 0 and session.running_count < session.worker_count:
        yield (
            f"Fewer tasks than workers are left: {session.worker_count - session.running_count} of "
            f"{_count(session.worker_count, 'worker')} have nothing to do."
        )


def _left_out(fleet: FleetStatus, session: SessionStatus) -> Iterator[str]:
    """Which nodes get none of its workers, and why."""
    lines = [
        f"node {node.node or node.host} is left out: {', '.join(each.differences)}"
        for node in fleet.nodes
        for each in node.left_out
        if each.session_id == session.session_id
    ]
    if lines and not session.worker_count and _has_no_node(fleet, session):
        down = [f"node {node.node or node.host}: {node.state}" for node in fleet.nodes if not node.is_up]
        yield f"It waits: no node can work for it; {'; '.join([*lines, *down])}."
    else:
        yield from (f"N{line[1:]}." for line in lines)


def _has_no_node(fleet: FleetStatus, session: SessionStatus) -> bool:
    return all(not node.is_up or _leaves_out(node, session) for node in fleet.nodes)


def _leaves_out(node: NodeStatus, session: SessionStatus) -> bool:
    return any(each.session_id == session.session_id for each in node.left_out)


def _submitted(fleet: FleetStatus, session: SessionStatus) -> Iterator[str]:
    """For whose jobs a session waits, and which of them may keep it waiting long."""
    ahead = _ahead(fleet, session)
    names = _listed([_whose(each) for each in ahead]) or "others"
    if session.wait_reason:
        limit = "[broker] max_jobs_per_user in openquake.cfg"
        yield f"It is submitted, and waits: {session.wait_reason} ({names}); the limit is {limit}."
    else:
        limit = "serialize_jobs in openquake.cfg"
        yield f"It is submitted, and waits for its turn behind {names}: {limit} bounds how many execute."
    for each in ahead:
        if each.job_ids and each.unused_s >= NOTABLE_UNUSED_S:
            yield (
                f"{_whose(each)[0].upper()}{_whose(each)[1:]} has executed for {_time(each.unused_s)} and "
                f"submitted no task yet: its driver (process {each.pid} on {each.host}) prepares them. If "
                f"that takes too long, `quakegrid abort {each.job_ids[0]}` ends it."
            )


def _ahead(fleet: FleetStatus, session: SessionStatus) -> list[SessionStatus]:
    """The sessions before one that waits, in the order in which they begin."""
    if not session.ahead_job_ids:  # not told yet
        return [each for each in fleet.sessions if each.session_id < session.session_id]
    of_job = {job_id: each for each in fleet.sessions for job_id in each.job_ids}
    found = [of_job[job_id] for job_id in session.ahead_job_ids if job_id in of_job]
    return list({each.session_id: each for each in found}.values())


def _whose(session: SessionStatus) -> str:
    """A session and whose it is."""
    return f"{_name(session)} of {session.user_name}" if session.job_ids else _name(session)


def _listed(names: Sequence[str]) -> str:
    """Names, as many as people read."""
    if len(names) > SHOWN:
        names = [*names[:SHOWN], f"{len(names) - SHOWN} more"]
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _past(report: JobReport, *, is_over: bool, is_well: bool) -> Iterator[str]:
    if is_over:
        yield (
            f"It took {_time(report.wall_s)} with {_count(report.worker_count, 'worker')} and "
            f"{_count(report.task_count, 'task')}; {report.used_share:.0%} of the cores' time made results."
        )
    before = report.retry_count
    yield from _retries(report)
    yield from _slowness(report)
    if report.straggler_count:
        first = report.stragglers[0]
        yield (
            f"{_count(report.straggler_count, 'task')} took far longer than the median of the same kind; the "
            f"longest is task {first.task_id} ({first.operation}) on {first.node} with "
            f"{_time(first.duration_s)} against {_time(first.median_s)}."
        )
    if is_over and is_well and not before and not report.straggler_count and not list(_slowness(report)):
        yield "Nothing unusual: no task was run again, none took far longer than others of its kind."


def _retries(report: JobReport) -> Iterator[str]:
    for retry in report.retries[:SHOWN]:
        yield (
            f"Task {retry.task_id} ({retry.operation}) lost attempt {retry.attempt}: worker "
            f"{retry.worker_id} on {retry.node} ended ({retry.worker_reason})."
        )
    if len(report.retries) > SHOWN:
        reasons = Counter(retry.worker_reason for retry in report.retries[SHOWN:])
        listed = "; ".join(f"{count} x {reason}" for reason, count in reasons.most_common(SHOWN))
        yield f"{len(report.retries) - SHOWN} more attempts were lost with their workers: {listed}."


def _slowness(report: JobReport) -> Iterator[str]:
    if 0 < report.task_count < report.worker_count:
        yield (
            f"Only {_count(report.task_count, 'task')} came for {report.worker_count} workers: smaller tasks "
            "would use more cores."
        )
    if _is_notable(report.driver_s, report.wall_s):
        yield (
            f"For {_time(report.driver_s)} of {_time(report.wall_s)} the workers waited for the driver, "
            "which had no task for them between its tasks."
        )
    if _is_notable(report.tail_s, report.wall_s) and report.worker_count > 1:
        yield (
            f"At the end some cores had nothing to do for {_time(report.tail_s)} of {_time(report.wall_s)}: "
            "fewer tasks were left than cores."
        )
    if _is_notable(report.transfer_s, report.core_s):
        yield (
            f"Workers waited {_time(report.transfer_s)} of their {_time(report.core_s)} for tasks and "
            f"outcomes that travelled ({_mib(report.in_bytes)} out to them, {_mib(report.out_bytes)} back)."
        )
    if _is_notable(report.load_s, report.used_s):
        yield (
            f"{_time(report.load_s)} of the {_time(report.used_s)} of work fetched shared arguments and "
            "unpickled."
        )


def _is_notable(part_s: float, whole_s: float) -> bool:
    return part_s >= NOTABLE_S and part_s >= NOTABLE_SHARE * whole_s


def _name(session: SessionStatus) -> str:
    if not session.job_ids:
        return f"session {session.session_id} of {session.user_name}"
    return " and ".join(f"job {job_id}" for job_id in session.job_ids)


def _count(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _mib(byte_count: int) -> str:
    return f"{byte_count / 2**20:.0f} MiB"


def _time(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.3g} s"
    return f"{seconds / 60:.1f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
