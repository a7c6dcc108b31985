"""Checks the input of drivers, people and agents: the limits of each field.

A wrong value is refused where it comes in, so that no other module has to check it.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterable, Mapping, Sequence

from google.protobuf.timestamp_pb2 import Timestamp

from quakegrid import errors
from quakegrid.api.v1 import fleet_pb2, nodes_pb2
from quakegrid.internal.v1 import membership_pb2, orders_pb2, sessions_pb2
from quakegrid.jobs.row_ids import LARGEST_ID
from quakegrid.nodes import worker_end_messages
from quakegrid.nodes.worker_ends import WorkerEnd
from quakegrid.settings.agent_limits import MAX_CORES_PER_WORKER
from quakegrid.settings.conversions import MAX_PORT
from quakegrid.wire.v1 import lane_pb2

MIN_WEIGHT = 0.01
MAX_WEIGHT = 100.0
# Jobs of one `oq engine --run`. A lane is told all of them in one message of `lane_sockets.CONTROL_BYTES`.
MAX_JOBS = 40_000
MAX_PID = 1 << 31
MAX_SETUP_BYTES = 32 << 20
MAX_NAME_CHARS = 255
MAX_NONCE_BYTES = 64
# Limits of what a driver tells of its progress: what any program can count, and any calendar has.
MAX_STAGES = 64
MAX_TASKS = 1 << 53
MAX_TIME_S = 1 << 33
# Limits of a fingerprint, which has names and values of settings and versions.
MAX_FINGERPRINT_ENTRIES = 256
MAX_VALUE_CHARS = 4096
# Limits of an agent's report.
MAX_CORES = 1 << 16
MAX_OLDER_TEMPLATES = 64
MAX_STATE_CHARS = 1 << 16
# Limits of the texts of a worker's end, which are sent to its lane and its driver.
MAX_REASON_CHARS = 2000
MAX_OUTPUT_LINES = 20
# Of a list of events, and of one that names no number.
MOST_EVENTS, USUAL_EVENTS = 1000, 100
_HOST = re.compile(r"[A-Za-z0-9._:%\[\]-]{1,255}")


def check_session(request: sessions_pb2.OpenSessionRequest) -> None:
    """Refuse a request for a session that is out of range.

    Raises:
        UsageError: the message names the field, its value and what is allowed.
    """
    weight = request.weight
    if weight and (math.isnan(weight) or not MIN_WEIGHT <= weight <= MAX_WEIGHT):
        raise errors.UsageError(f"the weight of a session is {MIN_WEIGHT} to {MAX_WEIGHT:.0f}, not {weight}")
    if request.cores_per_worker > MAX_CORES_PER_WORKER:
        raise errors.UsageError(
            f"a worker has 1 to {MAX_CORES_PER_WORKER} cores, not {request.cores_per_worker}"
        )
    _check_jobs(request.job_ids)
    _check_numbers(request)
    if len(request.worker_setup) > MAX_SETUP_BYTES:
        raise errors.UsageError(
            f"what each worker runs at first has at most {MAX_SETUP_BYTES >> 20} MiB, "
            f"not {len(request.worker_setup) / 2**20:.0f} MiB"
        )
    if len(request.driver_nonce) > MAX_NONCE_BYTES:
        raise errors.UsageError(f"a driver's nonce has at most {MAX_NONCE_BYTES} bytes")
    check_name(request.user_name, "a user's name")
    check_name(request.host, "a host's name")
    if not _is_fingerprint(request.fingerprint):
        raise errors.UsageError("what the nodes of a session must have is too long")


def event_count(limit: int) -> int:
    """How many events are wanted.

    Raises:
        UsageError: too many, or fewer than none.
    """
    if not 0 <= limit <= MOST_EVENTS:
        raise errors.UsageError(f"at most {MOST_EVENTS} events are listed at once, not {limit}")
    return limit or USUAL_EVENTS


def check_stages(stages: Sequence[fleet_pb2.StageProgress]) -> None:
    """Refuse what a driver tells of its progress if that cannot be.

    Raises:
        UsageError: the message names the field and what is allowed.
    """
    if len(stages) > MAX_STAGES:
        raise errors.UsageError(f"a session tells of at most {MAX_STAGES} stages, not {len(stages)}")
    for stage in stages:
        if stage.job_id:
            check_job_id(stage.job_id)
        check_name(stage.operation, "an operation's name")
        if not 0 <= stage.replayed_count <= stage.done_count <= stage.total_count <= MAX_TASKS:
            raise errors.UsageError("of a stage's tasks more are done than there are, or fewer than none")
        if not all(map(_is_time, (stage.begin_time, stage.change_time))):
            raise errors.UsageError("a stage began or went on at no time that there is")


def _is_time(time: Timestamp) -> bool:
    return 0 <= time.seconds <= MAX_TIME_S and 0 <= time.nanos < 10**9


def _check_jobs(job_ids: Sequence[int]) -> None:
    if len(job_ids) > MAX_JOBS:
        raise errors.UsageError(f"a session has at most {MAX_JOBS} jobs, not {len(job_ids)}")
    if len(set(job_ids)) < len(job_ids):
        raise errors.UsageError("a session has each of its jobs once")
    for job_id in job_ids:
        check_job_id(job_id)


def _check_numbers(request: sessions_pb2.OpenSessionRequest) -> None:
    if not 0 <= request.resumed_session_id <= LARGEST_ID:
        raise errors.UsageError(f"there is no session {request.resumed_session_id}")
    if not 0 <= request.lane_port <= MAX_PORT:
        raise errors.UsageError(f"a port is 1 to {MAX_PORT}, not {request.lane_port}")
    if not 0 <= request.pid < MAX_PID:
        raise errors.UsageError(f"there is no process {request.pid}")


def check_job_id(job_id: int) -> None:
    """Refuse a number that is no id of a job.

    Raises:
        UsageError: it is out of range.
    """
    if not 0 < job_id <= LARGEST_ID:
        raise errors.UsageError(f"there is no job {job_id}")


def check_name(name: str, what: str) -> None:
    """Refuse a name that is too long, or has characters that would break a line of a log or a terminal.

    Raises:
        UsageError: the name is refused.
    """
    if len(name) > MAX_NAME_CHARS or not (name == "" or name.isprintable()):
        raise errors.UsageError(f"{what} has at most {MAX_NAME_CHARS} characters, all of them printable")


def check_join(request: membership_pb2.JoinNodeRequest) -> None:
    """Refuse a request to join without a valid address of an agent.

    Raises:
        UsageError: host, port or instance id is missing or cannot be one.
    """
    if not (request.host and 0 < request.port <= MAX_PORT and request.instance_id):
        raise errors.UsageError("host, port or instance_id is missing")
    if not _HOST.fullmatch(request.host) or not _HOST.fullmatch(request.address or request.host):
        raise errors.UsageError("the host is neither a name nor an address")
    check_name(request.instance_id, "an instance id")


def check_report(status: nodes_pb2.AgentStatus) -> None:
    """Refuse a report of an agent that cannot be true.

    Raises:
        PeerError: the message says what is wrong with the report.
    """
    if not _is_name(status.node) or not _is_name(status.instance_id):
        raise errors.PeerError("a name in it is too long or not printable")
    if not 0 <= status.core_count <= MAX_CORES or not 0 <= status.all_core_count <= MAX_CORES:
        raise errors.PeerError(f"it has {status.core_count} of {status.all_core_count} cores")
    if not 0 <= status.cores_per_worker <= MAX_CORES_PER_WORKER:
        raise errors.PeerError(f"its workers have {status.cores_per_worker} cores each")
    _check_workers(status)
    if len(status.template_state) > MAX_STATE_CHARS:
        raise errors.PeerError("the state of its template is too long")
    fingerprints = [status.fingerprint, *(each.fingerprint for each in status.older_templates)]
    if len(fingerprints) > 1 + MAX_OLDER_TEMPLATES or not all(map(_is_fingerprint, fingerprints)):
        raise errors.PeerError("what its templates have is too long")


def check_sample(sample: nodes_pb2.NodeSample) -> None:
    """Refuse a sample of an agent that cannot be true.

    Raises:
        PeerError: a number of it is negative, or none.
    """
    numbers = (
        sample.memory_used_bytes,
        sample.memory_total_bytes,
        sample.soft_percent,
        sample.hard_percent,
        sample.load_average,
    )
    if not all(math.isfinite(number) and number >= 0 for number in numbers):
        raise errors.PeerError("its memory or load is less than none")
    ids = {each.session_id for each in sample.sessions}
    if len(sample.sessions) > MAX_CORES or len(ids) < len(sample.sessions):
        raise errors.PeerError(f"it tells the memory of {len(sample.sessions)} sessions, or of one twice")
    if not all(0 < each.session_id <= LARGEST_ID and each.own_bytes >= 0 for each in sample.sessions):
        raise errors.PeerError("it tells the memory of a session that cannot be, or less than none of it")


def _check_workers(status: nodes_pb2.AgentStatus) -> None:
    names = {each.worker_id for each in status.workers}
    if len(status.workers) > MAX_CORES or len(names) < len(status.workers):
        raise errors.PeerError(f"it has {len(status.workers)} workers, or one of them twice")
    for worker in status.workers:
        if not worker.worker_id or not _is_name(worker.worker_id) or not 0 < worker.session_id <= LARGEST_ID:
            raise errors.PeerError(f"a worker of it has the session {worker.session_id} and no proper name")


def cut_end(message: orders_pb2.WorkerEnd) -> WorkerEnd:
    """The end of a worker, with its reason and its last output cut to what a driver is told."""
    end = worker_end_messages.decode(message)
    lines = end.last_output[-MAX_OUTPUT_LINES:]
    return dataclasses.replace(
        end,
        reason=end.reason[:MAX_REASON_CHARS],
        last_output=tuple(line[:MAX_REASON_CHARS] for line in lines),
    )


def check_counts(counts: lane_pb2.LaneCounts) -> None:
    """Refuse counts of a lane that cannot be true.

    Raises:
        PeerError: a count is out of range.
    """
    values: Iterable[int] = (
        counts.queued_count,
        counts.running_count,
        counts.done_count,
        counts.failed_count,
        counts.requeued_count,
        counts.argument_bytes,
        counts.result_bytes,
    )
    if not all(0 <= value < 1 << 62 for value in values):
        raise errors.PeerError("a count is out of range")


def _is_name(name: str) -> bool:
    return len(name) <= MAX_NAME_CHARS and (name == "" or name.isprintable())


def _is_fingerprint(values: Mapping[str, str]) -> bool:
    return len(values) <= MAX_FINGERPRINT_ENTRIES and all(
        len(text) <= MAX_VALUE_CHARS for pair in values.items() for text in pair
    )
