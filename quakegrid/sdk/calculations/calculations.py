"""Starts and finds calculations of a cluster, for Python programs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypedDict, Unpack

from quakegrid import errors
from quakegrid.clients.dbserver import own_jobs
from quakegrid.clients.dbserver.client import DbClient
from quakegrid.jobs.filters import JobFilter
from quakegrid.sdk.calculations.jobs import ClusterJob
from quakegrid.sdk.calculations.places import HowToRun, place_of
from quakegrid.settings.config import Settings

# How long a program waits for a dbserver that is away.
RETRY_S = 300.0


class RunOptions(TypedDict, total=False):
    """Options of `run`, as those of `quakegrid run`.

    Args:
        weight: share of the cores beside other calculations of this person.
        cores_per_worker: of each worker.
    """

    weight: float
    cores_per_worker: int


class Calculations:
    """The calculations of one cluster.

    Args:
        settings: of the cluster, with the authkey or a credential.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings, self._place = settings, place_of(settings)
        self._database = DbClient(settings, retry_s=RETRY_S)

    def close(self) -> None:
        """Close the connection; calculations go on."""
        self._place.close()
        self._database.close()

    def run(
        self,
        job_ini: Path | str,
        params: Mapping[str, Any] | None = None,
        hc: int | ClusterJob | None = None,
        **options: Unpack[RunOptions],
    ) -> ClusterJob:
        """Start a calculation, which goes on by itself; see `Cluster.run`."""
        path = Path(job_ini).expanduser().absolute()
        if not path.is_file():
            raise errors.UsageError(f"{job_ini} does not exist, or is no file")
        parent = hc.id if isinstance(hc, ClusterJob) else hc
        if parent is not None:
            parent = own_jobs.own_job_id(self._database, parent)
        job_id = self._place.start(path, HowToRun(params or {}, parent, **options))
        return self._job(job_id)

    def job(self, number: int) -> ClusterJob:
        """A calculation by its number; a negative one counts one's own from the end.

        Raises:
            NotFoundError: there is none.
        """
        return self._job(own_jobs.own_job(self._database, number).id)

    def jobs(self, limit: int = 20, user_name: str = "") -> list[ClusterJob]:
        """The newest calculations.

        Args:
            limit: at most so many.
            user_name: only those of this person; empty for all.
        """
        found = self._database.jobs.list_jobs(limit, JobFilter(user_name=user_name))
        return [self._job(each.id) for each in found]

    def _job(self, job_id: int) -> ClusterJob:
        return ClusterJob(self._settings, self._database, self._place, job_id)
