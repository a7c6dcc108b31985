"""Moving a job to another state, and asking whose it is, for a process that runs an event loop."""

from __future__ import annotations

import grpc

from quakegrid import errors
from quakegrid.api.v1 import jobs_pb2, jobs_pb2_grpc
from quakegrid.clients.dbserver import client as dbserver
from quakegrid.clients.dbserver import job_messages
from quakegrid.jobs.row_ids import checked
from quakegrid.jobs.states import JobState
from quakegrid.jobs.values import Job
from quakegrid.transport import grpc_channels


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
