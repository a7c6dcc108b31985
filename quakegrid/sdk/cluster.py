"""The cluster as Python programs see it: one that runs already, or one of this program's own."""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import weakref
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self, Unpack

from quakegrid import errors
from quakegrid.clients.broker import BrokerClient
from quakegrid.machine import local_services, temporary_clusters
from quakegrid.sdk.calculations.awaited import AwaitedCalculations
from quakegrid.sdk.calculations.calculations import Calculations, RunOptions
from quakegrid.sdk.calculations.jobs import ClusterJob
from quakegrid.sdk.executor import ClusterExecutor, ExecutorOptions, is_interrupt
from quakegrid.sdk.own_folder import OwnFolder
from quakegrid.settings import config
from quakegrid.settings.config import LOOPBACK, Settings

_SERVICES = ("broker", "agent")
_START_ATTEMPTS = 3


class Cluster:
    """A cluster that runs; finds `openquake.cfg`, or a credential, as the command line does.

    >>> with Cluster() as cluster:  # doctest: +SKIP
    ...     job = cluster.run("job.ini").wait()
    ...     curves = job.dataframe("hcurves")

    As a context manager it waits for what its executors run; Ctrl-C ends that at once.

    Args:
        state_dir: of the cluster of this machine; None takes the usual one.
        name: of a cluster that this user has logged in to (`quakegrid login`); empty for the usual choice.
    Raises:
        SettingsError: there is no cluster, or a setting is wrong.
        CredentialError: there is no credential for the cluster, or it has ended.
    """

    # Whether it has a database of calculations.
    _has_calculations = True

    def __init__(self, state_dir: Path | str | None = None, *, name: str = "") -> None:
        folder = Path(state_dir).expanduser() if state_dir is not None else None
        self._open(config.client_settings(name, folder))

    def _open(self, settings: Settings) -> None:
        if not settings.authkey and settings.credential is None:
            files = ", ".join(map(str, settings.paths)) or f"{settings.state_dir} and the usual places"
            raise errors.SettingsError(
                f"no cluster is set up: no authkey in {files}; `quakegrid up` makes one on this machine"
            )
        self.settings = settings
        self._executors: weakref.WeakSet[ClusterExecutor] = weakref.WeakSet()

    @functools.cached_property
    def _calculations(self) -> Calculations:
        if not self._has_calculations:
            raise errors.StateError(
                "a LocalCluster runs functions only; `quakegrid up` starts a cluster that runs calculations"
            )
        return Calculations(self.settings)

    @property
    def awaited(self) -> AwaitedCalculations:
        """`run`, `job` and `jobs` for `await`."""
        return AwaitedCalculations(self._calculations)

    def run(
        self,
        job_ini: Path | str,
        params: Mapping[str, Any] | None = None,
        hc: int | ClusterJob | None = None,
        **options: Unpack[RunOptions],
    ) -> ClusterJob:
        """Start a calculation of the engine, which goes on by itself.

        With a credential the inputs go to the master, only those that it has not.

        >>> job = cluster.run("job.ini", params={"truncation_level": 3})  # doctest: +SKIP
        >>> job.wait().state  # doctest: +SKIP
        'complete'

        Args:
            job_ini: the job file.
            params: values that take the place of those of the job file.
            hc: the calculation that it starts from, or its number; a negative one counts one's own.
            **options: `weight` and `cores_per_worker`, as those of `quakegrid run`.
        Raises:
            UsageError: the job file is wrong, in the words of the engine.
            PeerUnreachableError: the cluster is not running.
        """
        return self._calculations.run(job_ini, params, hc, **options)

    def job(self, number: int) -> ClusterJob:
        """A calculation by its number; -1 is one's last.

        Raises:
            NotFoundError: there is none.
        """
        return self._calculations.job(number)

    def jobs(self, limit: int = 20, user_name: str = "") -> list[ClusterJob]:
        """The newest calculations, at most `limit`, of one person or of all."""
        return self._calculations.jobs(limit, user_name)

    def executor(self, max_workers: int | None = None, **options: Unpack[ExecutorOptions]) -> ClusterExecutor:
        """A new executor with workers of its own; see `ExecutorOptions` for its options.

        >>> with cluster.executor(max_workers=1) as executor:
        ...     list(executor.map(abs, [-3, 1, -2]))
        [3, 1, 2]

        Raises:
            PeerUnreachableError: the cluster is not running.
            StateError: the cluster is reached by a credential.
        """
        if self.settings.credential is not None:
            raise errors.StateError(
                "functions run from machines of the cluster only; with a credential, `run` calculations"
            )
        executor = ClusterExecutor(self.settings, max_workers, **options)
        self._executors.add(executor)
        return executor

    def core_count(self) -> int:
        """Cores of all nodes that are up."""
        with BrokerClient(self.settings) as broker:
            return sum(node.core_count for node in broker.status().nodes)

    def joblib(self, n_jobs: int = -1, **config: Any) -> contextlib.AbstractContextManager[None]:
        """Run every `joblib.Parallel` of a `with` block here, with the same workers.

        >>> import joblib
        >>> with cluster.joblib():
        ...     joblib.Parallel()(joblib.delayed(pow)(2, n) for n in range(4))
        [1, 2, 4, 8]

        Args:
            n_jobs: workers at most; -1 for as many as the cluster gives. One job alone runs in this process.
            **config: for `joblib.parallel_config`.
        Raises:
            UsageError: joblib is not installed.
        """
        from quakegrid.sdk import joblib_backend  # noqa: PLC0415 - joblib is optional

        return joblib_backend.activated(self, n_jobs, **config)

    def close(self) -> None:
        """Shut down the executors that are still open, when their calls are done."""
        for executor in list(self._executors):
            executor.shutdown()
        if "_calculations" in self.__dict__:
            self._calculations.close()
            del self._calculations

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close; an interrupt that leaves the block ends the calls that its executors run."""
        if is_interrupt(kind):
            for executor in list(self._executors):
                executor.terminate_workers()
        self.close()


class LocalCluster(Cluster):
    """A cluster of this program's own: started here, on free ports, and gone with the program.

    >>> with LocalCluster(cores=2) as cluster, cluster.executor() as executor:
    ...     print(sum(executor.map(pow, range(4), [2] * 4)))
    14

    It needs no engine, no configuration file and no services; those of the user are neither read nor
    disturbed.

    Args:
        cores: how many cores of this machine to use; None, or more than there are, for all.
        preload: modules that workers find loaded, such as "numpy, scipy"; `openquake` is the engine.
        worker_memory: bytes that a worker may use, such as "4G"; "" for no limit.
    Raises:
        SettingsError: `preload` or `worker_memory` means nothing.
        QuakeGridError: the services did not start.
    """

    _has_calculations = False

    def __init__(self, cores: int | None = None, *, preload: str = "none", worker_memory: str = "") -> None:
        if cores is not None and cores < 1:
            raise ValueError("cores must be greater than 0")
        self._lifeline = -1
        self._service_pids: list[int] = []
        self._owner_pid = os.getpid()
        self._folder: OwnFolder | None = OwnFolder()
        atexit.register(self.close)
        try:
            node = {"preload": preload, "worker_memory": worker_memory}
            self._open(self._start(self._folder, cores or -1, node))
            with BrokerClient(self.settings) as broker:
                broker.wait_for_nodes(local_services.START_DEADLINE_S)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Wait for open executors, stop the services and remove their files; does nothing the second time."""
        if self._folder is None or os.getpid() != self._owner_pid:  # a fork of ours: not its business
            return
        if hasattr(self, "settings"):
            super().close()
        if self._lifeline >= 0:
            os.close(self._lifeline)  # for services that wait for it
            self._lifeline = -1
            for record in reversed(local_services.running(self.settings).values()):
                local_services.stop(record)
            local_services.reap(self._service_pids)
        self._folder.remove()
        self._folder = None
        atexit.unregister(self.close)

    def _start(self, folder: OwnFolder, cores: int, node: dict[str, str]) -> Settings:
        for attempt in range(1, _START_ATTEMPTS + 1):
            settings, environ = _configure(folder.path, cores, node)
            reader, self._lifeline = os.pipe2(os.O_CLOEXEC)
            try:
                local_services.check_ports(settings, _SERVICES)
                owner = local_services.Owner(reader, folder.hold_fd, environ)
                self._service_pids = local_services.start(settings, _SERVICES, owner)
            except errors.QuakeGridError:
                os.close(self._lifeline)
                self._lifeline = -1
                if attempt == _START_ATTEMPTS:  # else somebody may have taken a port meanwhile
                    raise
            else:
                return settings
            finally:
                os.close(reader)
        raise AssertionError("unreachable")


def _configure(folder: Path, cores: int, node: dict[str, str]) -> tuple[Settings, dict[str, str]]:
    """Write the configuration, and make it the only one that we and the services read."""
    extra: dict[str, dict[str, str | int]] = {
        "agent": {**node},
        "memory": {"soft_mem_limit": 90, "hard_mem_limit": 99},
        "zworkers": {"host_cores": f"{LOOPBACK} {cores}"},
        "distribution": {"serialize_jobs": 0},
        "directory": {"custom_tmp": str(folder)},
    }
    with contextlib.suppress(FileNotFoundError):
        (folder / config.CONFIG_NAME).unlink()
    path = temporary_clusters.write_cluster_config(folder, extra)
    environ = dict(os.environ) | {"OQ_CONFIG_FILE": str(path), config.ONLY_CONFIG: "1"}
    return config.load_settings(folder, environ), environ
