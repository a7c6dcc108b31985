"""How the broker ends jobs in the database, through the dbserver.

Knows the dbserver's address and job states; knows no session.
"""

from __future__ import annotations

import asyncio
import itertools
import logging

from quakegrid import errors, jobs_aio, rpc
from quakegrid.config import Settings
from quakegrid.jobs import JobState

RETRY_S = (0.2, 0.5, 1.0, 2.0)
LAST_RETRY_S = 5.0
log = logging.getLogger("quakegrid.broker")


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
    """Fail a job whose driver is gone, unless it ended or was deleted.

    The dbserver may be away for a while, or have no room on its disk: it is asked until it answers.
    """
    for delay_s in itertools.chain(RETRY_S, itertools.repeat(LAST_RETRY_S)):
        try:
            await end_job(settings, job_id, JobState.FAILED, reason)
        except errors.NotFoundError:
            return
        except errors.QuakeGridError as exc:
            if delay_s == RETRY_S[0]:
                log.warning("job_not_failed_yet job=%d reason=%s", job_id, exc)
            await asyncio.sleep(delay_s)
        else:
            return
