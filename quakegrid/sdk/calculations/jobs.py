"""One calculation as Python programs see it, wherever it runs and from wherever it was started."""

from __future__ import annotations

import asyncio
import queue
import tempfile
import threading
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlencode

from quakegrid import errors
from quakegrid.clients.broker import BrokerClient
from quakegrid.clients.dbserver.client import DbClient
from quakegrid.jobs import documents, log_progress
from quakegrid.jobs.log_progress import OperationProgress
from quakegrid.jobs.values import Job, LogLine, Output
from quakegrid.sdk.calculations import tables
from quakegrid.sdk.calculations.places import FilePlace
from quakegrid.settings.config import Settings

# Lines of the log that are read to find out how far each operation is.
READ_LINES = 10_000


@dataclass(frozen=True, slots=True)
class JobProgress:
    """How far a calculation is.

    Args:
        state: such as "executing", "complete" or "failed".
        operations: the parallel parts that have begun, in their order; the engine tells their number of tasks
            as each of them begins, so there is no share of the whole.
    """

    state: str
    operations: tuple[OperationProgress, ...]


class ClusterJob:
    """One calculation. `await job` waits for its end, as `wait` does.

    Args:
        settings: of the cluster.
        database: its connection, closed by the owner.
        place: where its files are.
        job_id: its number.
    """

    def __init__(self, settings: Settings, database: DbClient, place: FilePlace, job_id: int) -> None:
        self.id = job_id
        self._settings, self._database, self._place = settings, database, place

    def __repr__(self) -> str:
        return f"<ClusterJob {self.id}>"

    def __await__(self) -> Generator[Any, Any, Self]:
        """Wait for the end, while other coroutines go on."""
        return asyncio.to_thread(self.wait).__await__()

    def info(self) -> Job:
        """All that is known of it now.

        Raises:
            NotFoundError: it was deleted.
        """
        return self._database.jobs.get_job(self.id)

    @property
    def state(self) -> str:
        """How it is now, such as "executing" or "complete"."""
        return self.info().state.value

    @property
    def progress(self) -> JobProgress:
        """How far it is now."""
        operations: dict[str, OperationProgress] = {}
        for line in self._database.logs.list_log(self.id, READ_LINES):
            found = log_progress.read(line.message)
            if found is not None:
                operations[found.operation] = found
        return JobProgress(self.state, tuple(operations.values()))

    @property
    def outputs(self) -> list[Output]:
        """What it has for export."""
        return self._database.outputs.list_outputs(self.id)

    def wait(self, timeout_s: float | None = None) -> Self:
        """Wait until it is complete.

        Raises:
            StateError: it has failed or was aborted; with the reason.
            NotFoundError: it was deleted.
            TimeoutError: it has not ended in time; it goes on.
        """
        ends: queue.Queue[errors.QuakeGridError | None] = queue.Queue()
        threading.Thread(target=self._await_end, args=(ends,), name="wait", daemon=True).start()
        try:
            trouble = ends.get(timeout=timeout_s)
        except queue.Empty:
            raise TimeoutError(f"job {self.id} has not ended in {timeout_s:g} s") from None
        if trouble is not None:
            raise trouble
        job = self.info()
        if documents.exit_code(job.state) != errors.EXIT_CLEAN:
            reason = f": {job.state_reason}" if job.state_reason else ""
            raise errors.StateError(f"job {self.id} {job.state}{reason}")
        return self

    def _await_end(self, ends: queue.Queue[errors.QuakeGridError | None]) -> None:
        try:
            self._database.logs.wait_for_end(self.id)
        except errors.QuakeGridError as exc:
            ends.put(exc)
        else:
            ends.put(None)

    def log(self) -> list[LogLine]:
        """Its log so far."""
        return list(self._database.logs.list_log(self.id))

    def follow_log(self) -> Iterator[LogLine]:
        """Its log from the first line, and new lines as they come, until it has ended."""
        return self._database.logs.tail_log(self.id)

    def export(self, folder: Path | str, formats: str | Iterable[str] = "csv") -> list[Path]:
        """Write all outputs into a folder of this machine; the paths of the files.

        Args:
            folder: is made if it is not there.
            formats: such as "csv", "csv,xml" or ["csv", "xml"]; each output is written in all that it has.
        Raises:
            UsageError: no output has one of the formats.
            QuakeGridError: an output could not be exported.
        """
        wanted = formats if isinstance(formats, str) else ",".join(formats)
        return self._place.export(self.id, Path(folder).expanduser().absolute(), wanted)

    def arrays(self, what: str, **query: Any) -> dict[str, Any]:
        """Arrays of the datastore, as the engine's extractors give them.

        Args:
            what: such as "hcurves", "agg_losses" or "gmf_data".
            **query: of the extractor, such as `kind="mean"` and `imt="PGA"`.
        Returns:
            Name to numpy's array.
        Raises:
            QuakeGridError: the engine cannot extract this, in its words.
        """
        try:
            import numpy as np  # noqa: PLC0415 - comes with the engine or with pandas, not with us
        except ImportError:
            raise errors.UsageError("arrays need numpy: pip install numpy") from None
        asked = f"{what}?{urlencode(query)}" if query else what
        with tempfile.TemporaryDirectory(prefix="quakegrid-extract-") as name:
            path = self._place.extract(self.id, asked, Path(name))
            with np.load(path) as found:
                return dict(found)

    def dataframe(self, what: str, **query: Any) -> Any:
        """The same as a table of pandas; a field within a field becomes a column such as `mean/PGA/0.1`.

        Returns:
            A pandas.DataFrame.
        Raises:
            UsageError: pandas is not installed, or this is no table.
            QuakeGridError: as `arrays`.
        """
        return tables.to_table(self.arrays(what, **query))

    def abort(self) -> None:
        """End it, wherever it runs.

        Raises:
            NotAllowedError: it is another person's.
            StateError: it has ended.
        """
        with BrokerClient(self._settings) as broker:
            broker.abort_job(self.id)
