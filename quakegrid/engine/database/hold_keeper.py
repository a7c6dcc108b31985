"""The driver's hold on its jobs: a thread tells the dbserver every ten seconds that the driver is alive.

When the driver was killed or cannot reach the dbserver, nobody renews the hold, and the dbserver ends
the jobs.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence

from quakegrid import errors
from quakegrid.jobs.states import JobState

# The dbserver ends a job whose hold was not renewed for so long: two renewals may get lost.
HOLD_S = 30.0
RENEW_EVERY_S = 10.0
AGAIN_AFTER_S = 1.0
# How long a calculation waits for its first hold; each try waits a third of `HOLD_S` for its answer.
BEGIN_S = 60.0


class HeldJobs:
    """The jobs that a driver holds, and what it makes of the answers to its renewals. Pure.

    Args:
        job_ids: jobs that it runs, or that wait for their turn.
    """

    def __init__(self, job_ids: Sequence[int]) -> None:
        self.job_ids = set(job_ids)  # held by now
        self._aborted: set[int] = set()

    def take(self, job_id: int, answer: JobState | errors.QuakeGridError) -> tuple[bool, str]:
        """Take the answer to a renewal.

        Returns:
            Whether the renewal is to be tried again soon, and why the job was lost; empty if it was not.
        """
        match answer:
            case errors.NotFoundError() | errors.StateError():
                return False, self._lose(job_id, str(answer))
            case errors.QuakeGridError():
                return True, ""
            case JobState.FAILED:
                return False, self._lose(
                    job_id, "the driver's hold on it was lost, see `quakegrid jobs logs`"
                )
            case JobState.ABORTED if job_id in self._aborted:
                return False, self._lose(job_id, "it was aborted")
            case JobState.ABORTED:
                self._aborted.add(job_id)  # the broker tells the driver
            case JobState() if answer.is_final:
                self.job_ids.discard(job_id)
        return False, ""

    def _lose(self, job_id: int, reason: str) -> str:
        """Hold a job no more that somebody else has ended."""
        if job_id not in self.job_ids:
            return ""
        self.job_ids.discard(job_id)
        return reason


class HoldKeeper:
    """Holds jobs from its creation until `close`.

    Args:
        job_ids: jobs that this driver runs, or that wait for their turn.
        renew: takes job id, holder and hold time in seconds, returns the job's state; raises our errors.
        on_lost: called with job id and reason, once a job and in the keeper's thread, when somebody else has
            ended the job. The broker tells the driver of an abort, so `on_lost` hears of an abort only if the
            job is still held at the next renewal.
        hold_s: how long a job may go without a renewal.
        renew_every_s: time between two renewals.
    """

    def __init__(
        self,
        job_ids: Sequence[int],
        renew: Callable[[int, str, float], JobState],
        on_lost: Callable[[int, str], None],
        *,
        hold_s: float = HOLD_S,
        renew_every_s: float = RENEW_EVERY_S,
    ) -> None:
        self._held = HeldJobs(job_ids)
        self._renew = renew
        self._on_lost = on_lost
        self._hold_s, self._renew_every_s = hold_s, renew_every_s
        self._holder = f"{socket.gethostname()}/{os.getpid()}"
        self._closing = threading.Event()
        for job_id in job_ids:  # the first time at once: a job that waits is held already
            self._begin_hold(job_id)
        self._thread = threading.Thread(target=self._run, name="holds", daemon=True)
        self._thread.start()

    def _begin_hold(self, job_id: int) -> None:
        """Wait until a job is held: nobody would end one that is not, when its driver dies.

        Raises:
            PeerUnreachableError: the dbserver did not answer for long.
        """
        end_s = time.monotonic() + BEGIN_S
        while not self._renew_hold(job_id):
            if time.monotonic() >= end_s:
                raise errors.PeerUnreachableError(f"the dbserver does not take the hold on job {job_id}")
            self._closing.wait(min(AGAIN_AFTER_S, self._renew_every_s))

    def release(self, job_id: int) -> None:
        """Hold a job no more: the driver ends it itself."""
        self._held.job_ids.discard(job_id)

    def close(self) -> None:
        """Renew no more; the dbserver judges jobs that have not ended when their hold time is over."""
        self._closing.set()
        self._held.job_ids.clear()

    def _run(self) -> None:
        wait_s = self._renew_every_s
        while not self._closing.wait(wait_s):
            late = [job_id for job_id in tuple(self._held.job_ids) if not self._renew_hold(job_id)]
            wait_s = min(AGAIN_AFTER_S, self._renew_every_s) if late else self._renew_every_s

    def _renew_hold(self, job_id: int) -> bool:
        """Renew the hold on one job; returns False if it has to be tried again soon."""
        answer: JobState | errors.QuakeGridError
        try:
            answer = self._renew(job_id, self._holder, self._hold_s)
        except errors.QuakeGridError as exc:
            answer = exc
            if not isinstance(exc, errors.PeerUnreachableError | errors.NotFoundError | errors.StateError):
                print(f"the hold on job {job_id} was not renewed: {exc}", file=sys.stderr)
        except ValueError:  # the connection was closed under us
            self._closing.set()
            return True
        is_late, reason = self._held.take(job_id, answer)
        if reason and not self._closing.is_set():
            self._on_lost(job_id, reason)
        return not is_late
