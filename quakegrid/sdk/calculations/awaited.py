"""Calculations for `await`: each call of the others runs in a thread, while other coroutines go on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Generator, Iterable, Mapping
from pathlib import Path
from typing import Any, Self

from quakegrid.jobs.values import Job, LogLine, Output
from quakegrid.sdk.calculations.calculations import Calculations
from quakegrid.sdk.calculations.jobs import ClusterJob, JobProgress


class AwaitedJob:
    """A `ClusterJob` whose calls are awaited.

    Args:
        job: the calculation.
    """

    def __init__(self, job: ClusterJob) -> None:
        self.job, self.id = job, job.id

    async def wait(self, timeout_s: float | None = None) -> AwaitedJob:
        """See `ClusterJob.wait`."""
        await asyncio.to_thread(self.job.wait, timeout_s)
        return self

    def __await__(self) -> Generator[Any, Any, Self]:
        """`await job` waits for its end, as `wait` does."""
        return self._waited().__await__()

    async def _waited(self) -> Self:
        await self.wait()
        return self

    async def info(self) -> Job:
        """See `ClusterJob.info`."""
        return await asyncio.to_thread(self.job.info)

    async def state(self) -> str:
        """See `ClusterJob.state`."""
        return await asyncio.to_thread(lambda: self.job.state)

    async def progress(self) -> JobProgress:
        """See `ClusterJob.progress`."""
        return await asyncio.to_thread(lambda: self.job.progress)

    async def log(self) -> list[LogLine]:
        """See `ClusterJob.log`."""
        return await asyncio.to_thread(self.job.log)

    async def follow_log(self) -> AsyncIterator[LogLine]:
        """See `ClusterJob.follow_log`."""
        lines = iter(self.job.follow_log())
        while (line := await asyncio.to_thread(next, lines, None)) is not None:
            yield line

    async def outputs(self) -> list[Output]:
        """See `ClusterJob.outputs`."""
        return await asyncio.to_thread(lambda: self.job.outputs)

    async def export(self, folder: Path | str, formats: str | Iterable[str] = "csv") -> list[Path]:
        """See `ClusterJob.export`."""
        return await asyncio.to_thread(self.job.export, folder, formats)

    async def arrays(self, what: str, **query: Any) -> dict[str, Any]:
        """See `ClusterJob.arrays`."""
        return await asyncio.to_thread(self.job.arrays, what, **query)

    async def dataframe(self, what: str, **query: Any) -> Any:
        """See `ClusterJob.dataframe`."""
        return await asyncio.to_thread(self.job.dataframe, what, **query)

    async def abort(self) -> None:
        """See `ClusterJob.abort`."""
        await asyncio.to_thread(self.job.abort)


class AwaitedCalculations:
    """The calculations of a cluster, for `await`: `cluster.awaited`.

    Args:
        calculations: of the cluster.
    """

    def __init__(self, calculations: Calculations) -> None:
        self._calculations = calculations

    async def run(
        self,
        job_ini: Path | str,
        params: Mapping[str, Any] | None = None,
        hc: int | ClusterJob | AwaitedJob | None = None,
        **options: Any,
    ) -> AwaitedJob:
        """See `Cluster.run`."""
        parent = hc.job if isinstance(hc, AwaitedJob) else hc
        return AwaitedJob(await asyncio.to_thread(self._calculations.run, job_ini, params, parent, **options))

    async def job(self, number: int) -> AwaitedJob:
        """See `Cluster.job`."""
        return AwaitedJob(await asyncio.to_thread(self._calculations.job, number))

    async def jobs(self, limit: int = 20, user_name: str = "") -> list[AwaitedJob]:
        """See `Cluster.jobs`."""
        return list(map(AwaitedJob, await asyncio.to_thread(self._calculations.jobs, limit, user_name)))
