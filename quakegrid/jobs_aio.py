"""Moving a job to another state, for a process that runs an event loop."""

from __future__ import annotations

import grpc

from quakegrid import jobs, rpc
from quakegrid.api.v1 import jobs_pb2, jobs_pb2_grpc
from quakegrid.job_states import JobState
from quakegrid.jobs import Job
from quakegrid.row_ids import checked


async def transition_job(
    channel: grpc.aio.Channel, job_id: int, state: JobState, reason: str = "", *, address: str = "its address"
) -> Job:
    """Move a job to another state; no change if it is there.

    Args:
        channel: to the dbserver, see `rpc.open_aio_channel`.
        job_id: which job.
        state: where to.
        reason: why, for people; stored in the job's log when it failed or was aborted.
        address: of the dbserver, for messages.
    Raises:
        NotFoundError: there is no such job.
        StateError: the move is illegal.
        PeerUnreachableError: the dbserver does not answer.
    """
    request = jobs_pb2.TransitionJobRequest(
        job_id=checked(job_id), state=jobs.encode_state(state), reason=reason
    )
    stub = jobs_pb2_grpc.JobsStub(channel)
    try:
        response = await stub.TransitionJob(request, timeout=jobs.CALL_TIMEOUT_S)
    except grpc.RpcError as exc:
        raise rpc.translate(exc, jobs.SERVICE, address) from exc
    return jobs.decode_job(response.job)
