"""How the broker ends jobs in the database, through the dbserver.

Knows the dbserver's address and job states; knows no session.
"""

from __future__ import annotations

import asyncio
import itertools

from quakegrid import errors, jobs_aio, rpc
from quakegrid.config import Settings
from quakegrid.jobs import JobState

RETRY_S = (0.2, 0.5, 1.0, 2.0)
LAST_RETRY_S = 5.0


async def end_job(settings: Settings, job_id: int, state: JobState, reason: str) -> bool:
    """Move a job to a final state; False if it ended already, and stays as it is.

    Raises:
        NotFoundError: there is no such job.
        PeerUnreachableError: the dbserver does not answer.
    """
    address = settings.dbserver_address
    async with rpc.open_aio_channel(address, settings.authkey) as channel:
        try:
            await jobs_aio.transition_job(channel, job_id, state, reason, address=address)
        except errors.StateError:
            return False
    return True


async def fail_job(settings: Settings, job_id: int, reason: str) -> None:
    """Fail a job whose driver is gone, unless it ended; the dbserver may be away for a while."""
    for delay_s in itertools.chain(RETRY_S, itertools.repeat(LAST_RETRY_S)):
        try:
            await end_job(settings, job_id, JobState.FAILED, reason)
        except errors.PeerUnreachableError:
            await asyncio.sleep(delay_s)
        else:
            return
