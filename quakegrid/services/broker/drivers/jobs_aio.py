"""Moving a job to another state, and asking whose jobs are, for a process that runs an event loop."""

from __future__ import annotations

from collections.abc import Sequence

import grpc

from quakegrid import errors
from quakegrid.api.v1 import database_pb2, database_pb2_grpc, jobs_pb2, jobs_pb2_grpc
from quakegrid.clients.dbserver import client as dbserver
from quakegrid.clients.dbserver import job_messages
from quakegrid.jobs import engine_values
from quakegrid.jobs.row_ids import checked
from quakegrid.jobs.states import JobState
from quakegrid.jobs.values import Job
from quakegrid.transport import grpc_channels

# In one question.
JOBS_AT_ONCE = 1000


async def transition_job(
    channel: grpc.aio.Channel, job_id: int, state: JobState, reason: str = "", *, address: str = "its address"
) -> Job:
    """Move a job to another state, unless it is in that state already.

    Args:
        channel: to the dbserver, see `rpc.open_aio_channel`.
        job_id: which job.
        state: the new state.
        reason: why, for people; stored in the job's log when it failed or was aborted.
        address: of the dbserver, for messages.
    Raises:
        NotFoundError: there is no such job.
        StateError: the move is illegal.
        PeerUnreachableError: the dbserver does not answer.
    """
    request = jobs_pb2.TransitionJobRequest(
        job_id=checked(job_id), state=job_messages.encode_state(state), reason=reason
    )
    stub = jobs_pb2_grpc.JobsStub(channel)
    try:
        response = await stub.TransitionJob(request, timeout=dbserver.CALL_TIMEOUT_S)
    except grpc.RpcError as exc:
        raise grpc_channels.translate(exc, dbserver.SERVICE, address) from exc
    return job_messages.decode_job(response.job)


async def own_jobs(
    channel: grpc.aio.Channel, job_ids: Sequence[int], person: str, *, address: str
) -> set[int]:
    """Those of these jobs that belong to a person.

    Args:
        channel: to the dbserver.
        job_ids: of any number of jobs.
        person: whose jobs count.
        address: of the dbserver, for messages.
    Raises:
        PeerUnreachableError: the dbserver does not answer.
    """
    found: set[int] = set()
    stub = database_pb2_grpc.DatabaseStub(channel)
    for start in range(0, len(job_ids), JOBS_AT_ONCE):
        some = [checked(job_id) for job_id in job_ids[start : start + JOBS_AT_ONCE]]
        request = database_pb2.QueryRequest(
            sql=f"SELECT id FROM job WHERE id IN ({','.join(map(str, some))}) AND user_name = ?",  # noqa: S608  numbers
            max_row_count=JOBS_AT_ONCE,
        )
        engine_values.fill_all(request.parameters, [person])
        try:
            response = await stub.Query(request, timeout=dbserver.CALL_TIMEOUT_S)
        except grpc.RpcError as exc:
            raise grpc_channels.translate(exc, dbserver.SERVICE, address) from exc
        found.update(row.items[0].integer for row in response.rows)
    return found


async def owner_of_job(channel: grpc.aio.Channel, job_id: int, *, address: str) -> str | None:
    """The user whose job this is; None if there is no such job.

    Args:
        channel: to the dbserver.
        job_id: which job.
        address: of the dbserver, for messages.
    Raises:
        PeerUnreachableError: the dbserver does not answer.
    """
    request = jobs_pb2.GetJobRequest(job_id=checked(job_id))
    try:
        response = await jobs_pb2_grpc.JobsStub(channel).GetJob(request, timeout=dbserver.CALL_TIMEOUT_S)
    except grpc.RpcError as exc:
        error = grpc_channels.translate(exc, dbserver.SERVICE, address)
        if isinstance(error, errors.NotFoundError):
            return None
        raise error from exc
    return response.job.user_name
