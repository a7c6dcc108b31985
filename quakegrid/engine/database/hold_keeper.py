"""The driver's leases: a thread that tells the dbserver that the driver of some jobs is alive.

When it stops, because the driver was killed or cannot reach the dbserver, the dbserver ends the jobs.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
from collections.abc import Callable, Sequence

from quakegrid import errors
from quakegrid.jobs.states import JobState

# The dbserver ends a job that was not renewed for so long: two renewals may get lost.
LEASE_S = 30.0
RENEW_EVERY_S = 10.0
AGAIN_AFTER_S = 1.0


class HoldKeeper:
    """Holds leases of jobs from its creation until `close`.

    Args:
        job_ids: jobs that this driver runs, or that wait for their turn.
        renew: (job id, holder, lease time in seconds) to the job's state; raises our errors.
        on_lost: called, once and in the keeper's thread, when somebody else has ended a job; `job_id`
            and why. Of an abort the broker tells the driver, so it is called only if that has not helped
            until the next renewal.
        lease_s: how long a job may go without a renewal.
        renew_every_s: how often it is renewed.
    """

    def __init__(
        self,
        job_ids: Sequence[int],
        renew: Callable[[int, str, float], JobState],
        on_lost: Callable[[int, str], None],
        *,
        lease_s: float = LEASE_S,
        renew_every_s: float = RENEW_EVERY_S,
    ) -> None:
        self._held = set(job_ids)
        self._aborted: set[int] = set()
        self._renew = renew
        self._on_lost = on_lost
        self._lease_s, self._renew_every_s = lease_s, renew_every_s
        self._holder = f"{socket.gethostname()}/{os.getpid()}"
        self._closing = threading.Event()
        for job_id in job_ids:  # the first time at once: a job that waits is held already
            self._keep(job_id)
        self._thread = threading.Thread(target=self._run, name="leases", daemon=True)
        self._thread.start()

    def release(self, job_id: int) -> None:
        """The driver ends this job itself."""
        self._held.discard(job_id)

    def close(self) -> None:
        """Renew no more; the jobs that have not ended are judged after their lease time."""
        self._closing.set()
        self._held.clear()

    def _run(self) -> None:
        wait_s = self._renew_every_s
        while not self._closing.wait(wait_s):
            waiting = [job_id for job_id in tuple(self._held) if not self._keep(job_id)]
            wait_s = min(AGAIN_AFTER_S, self._renew_every_s) if waiting else self._renew_every_s

    def _keep(self, job_id: int) -> bool:
        """Renew one lease; false if the dbserver could not do it now."""
        try:
            state = self._renew(job_id, self._holder, self._lease_s)
        except errors.PeerUnreachableError:
            return False
        except (errors.NotFoundError, errors.StateError) as exc:
            self._lose(job_id, str(exc))
        except errors.QuakeGridError as exc:
            print(f"the lease of job {job_id} was not renewed: {exc}", file=sys.stderr)
            return False
        except ValueError:  # the connection was closed under us
            self._closing.set()
        else:
            if state is JobState.FAILED:
                self._lose(job_id, "its lease was lost, see `quakegrid jobs logs`")
            elif state is JobState.ABORTED and job_id not in self._aborted:
                self._aborted.add(job_id)
            elif state is JobState.ABORTED:
                self._lose(job_id, "it was aborted")
            elif state.is_final:
                self._held.discard(job_id)
        return True

    def _lose(self, job_id: int, reason: str) -> None:
        if job_id in self._held and not self._closing.is_set():
            self._held.discard(job_id)
            self._on_lost(job_id, reason)
