"""The cluster as a backend of joblib, and so of what is built on it, such as scikit-learn.

joblib is optional, and only this module needs it. Calls that tasks themselves make through joblib stay in
their worker, which has one core.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from quakegrid import errors

try:
    import joblib
    from joblib.parallel import AutoBatchingMixin, ParallelBackendBase, SequentialBackend
except ImportError as exc:
    raise errors.UsageError("joblib is not installed: pip install 'joblib>=1.5'") from exc

if TYPE_CHECKING:
    from quakegrid.sdk.cluster import Cluster
    from quakegrid.sdk.executor import ClusterExecutor

NAME = "quakegrid"


def register() -> None:
    """Teach joblib the name "quakegrid", for `joblib.parallel_config` and `joblib.Parallel`."""
    joblib.register_parallel_backend(NAME, QuakeGridBackend)


@contextlib.contextmanager
def activated(cluster: Cluster, n_jobs: int | None, **config: Any) -> Iterator[None]:
    """Send every `joblib.Parallel` of this thread to a cluster; the same workers serve all of them.

    Args:
        cluster: that runs.
        n_jobs: workers at most; -1 for as many as the cluster gives.
        **config: for `joblib.parallel_config`.
    """
    register()
    backend = QuakeGridBackend(cluster)
    try:
        with joblib.parallel_config(backend=backend, n_jobs=n_jobs, **config):
            yield
    finally:
        backend.close()


class QuakeGridBackend(AutoBatchingMixin, ParallelBackendBase):  # type: ignore[misc]
    """Runs joblib's batches on an executor, which it keeps for the next call.

    Args:
        cluster: None for the one that `openquake.cfg` names.
        nesting_level: joblib's own.
    Raises:
        SettingsError: there is no cluster.
    """

    # joblib's smallest, and half its largest: a batch of a task's length balances badly.
    MIN_IDEAL_BATCH_DURATION = 0.2
    MAX_IDEAL_BATCH_DURATION = 1.0
    supports_retrieve_callback = True
    default_n_jobs = -1

    def __init__(self, cluster: Cluster | None = None, nesting_level: int | None = None) -> None:
        super().__init__(nesting_level=nesting_level)
        from quakegrid.sdk.cluster import Cluster  # noqa: PLC0415 - it offers this backend

        self._cluster = cluster or Cluster()
        self._executor: ClusterExecutor | None = None
        self._n_jobs = 0

    def effective_n_jobs(self, n_jobs: int | None) -> int:
        """How many calls run side by side: never more than the cluster has cores."""
        if n_jobs == 0:
            raise ValueError("n_jobs == 0 in Parallel has no meaning")
        if n_jobs is None:
            return 1
        core_count = self._cluster.core_count()
        return min(n_jobs, core_count) if n_jobs > 0 else max(core_count + 1 + n_jobs, 1)

    def configure(self, n_jobs: int = 1, parallel: Any = None, **_options: Any) -> int:
        """Get ready for a call; one job alone runs in this process, as joblib wants it."""
        self.parallel = parallel
        self.reset_batch_stats()
        count = self.effective_n_jobs(n_jobs)
        if count > 1 and (self._executor is None or self._n_jobs != count):
            self.close()
            self._executor, self._n_jobs = self._cluster.executor(max_workers=count), count
        return count

    def submit(self, func: Callable[[], Any], callback: Callable[[Any], Any] | None = None) -> Future[Any]:
        """Send a batch of calls."""
        assert self._executor is not None
        future = self._executor.submit(func)
        if callback:
            future.add_done_callback(callback)
        return future

    def retrieve_result_callback(self, out: Future[Any]) -> Any:
        """Results of a batch, or the exception of one of its calls."""
        return out.result()

    def abort_everything(self, ensure_ready: bool = True) -> None:
        """Stop all calls, workers included: nobody will ask for the results."""
        if self._executor is None:
            return
        self._executor.terminate_workers()
        self._executor = None
        if ensure_ready:
            self.configure(self._n_jobs, self.parallel)

    def get_nested_backend(self) -> tuple[Any, None]:
        """What `Parallel` means inside a task: one call after the other."""
        return SequentialBackend(nesting_level=(self.nesting_level or 0) + 1), None

    def close(self) -> None:
        """Give the workers back when they are done; they return with the next call."""
        if self._executor is not None:
            self._executor.shutdown()
            self._executor = None
