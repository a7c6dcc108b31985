"""The cluster as Python programs see it: one that runs already, or one of this program's own.

>>> with LocalCluster(cores=2) as cluster, cluster.executor() as executor:
...     print(sum(executor.map(pow, range(4), [2] * 4)))
14
"""

from __future__ import annotations

import atexit
import contextlib
import os
import shutil
import tempfile
import weakref
from pathlib import Path
from typing import Any, Self

from quakegrid import config, embedded, errors, local_services, testing
from quakegrid.config import LOOPBACK, Settings
from quakegrid.fleet import BrokerClient
from quakegrid.sdk.executor import ClusterExecutor

_SERVICES = ("broker", "agent")
_START_ATTEMPTS = 3


class Cluster:
    """A cluster that runs; finds `openquake.cfg` as the command line does.

    Args:
        state_dir: of the cluster of this machine; None takes the usual one.
    Raises:
        SettingsError: there is no cluster, or a setting is wrong.
    """

    def __init__(self, state_dir: Path | str | None = None) -> None:
        self._open(config.load_settings(Path(state_dir).expanduser() if state_dir is not None else None))

    def _open(self, settings: Settings) -> None:
        if not settings.authkey:
            files = ", ".join(map(str, settings.paths)) or f"{settings.state_dir} and the usual places"
            raise errors.SettingsError(
                f"no cluster is set up: no authkey in {files}; `quakegrid up` makes one on this machine"
            )
        self.settings = settings
        self._executors: weakref.WeakSet[ClusterExecutor] = weakref.WeakSet()

    def executor(self, max_workers: int | None = None, **options: Any) -> ClusterExecutor:
        """A new executor with workers of its own; see `ClusterExecutor` for its options.

        Raises:
            PeerUnreachableError: the cluster is not running.
        """
        executor = ClusterExecutor(self.settings, max_workers, **options)
        self._executors.add(executor)
        return executor

    def core_count(self) -> int:
        """Cores of all nodes that are up."""
        with BrokerClient(self.settings) as broker:
            return sum(node.core_count for node in broker.status().nodes)

    def close(self) -> None:
        """Shut down the executors that are still open, when what they run is done."""
        for executor in list(self._executors):
            executor.shutdown()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


class LocalCluster(Cluster):
    """A cluster of this program's own: started here, on free ports, and gone with the program.

    It needs no engine, no configuration file and no services; those of the user are neither read nor
    disturbed.

    Args:
        cores: how many cores of this machine to use; None, or more than there are, for all.
        preload: `openquake` makes workers start with the engine loaded.
    Raises:
        QuakeGridError: the services did not start.
    """

    def __init__(self, cores: int | None = None, *, preload: str = "none") -> None:
        if cores is not None and cores < 1:
            raise ValueError("cores must be greater than 0")
        self._lifeline = -1
        self._folder = _make_folder()
        atexit.register(self.close)
        try:
            self._open(self._start(cores or -1, preload))
            with BrokerClient(self.settings) as broker:
                broker.wait_for_nodes(local_services.START_DEADLINE_S)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Wait for open executors, stop the services and remove their files; does nothing the second time."""
        if hasattr(self, "settings"):
            super().close()
        if self._lifeline >= 0:
            os.close(self._lifeline)  # for services that wait for it
            self._lifeline = -1
            for record in reversed(local_services.running(self.settings).values()):
                local_services.stop(record)
        shutil.rmtree(self._folder, ignore_errors=True)
        atexit.unregister(self.close)

    def _start(self, cores: int, preload: str) -> Settings:
        for attempt in range(1, _START_ATTEMPTS + 1):
            settings, environ = _configure(self._folder, cores, preload)
            reader, self._lifeline = os.pipe2(os.O_CLOEXEC)
            try:
                local_services.check_ports(settings, _SERVICES)
                local_services.start(settings, _SERVICES, local_services.Owner(reader, environ))
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


def _make_folder() -> Path:
    """A new private folder whose path is short enough for a unix socket."""
    folder = Path(tempfile.mkdtemp(prefix="quakegrid-"))
    if len(os.fsencode(config.agent_socket(folder))) <= embedded.MAX_SOCKET_PATH_BYTES:
        return folder
    folder.rmdir()
    return Path(tempfile.mkdtemp(prefix="quakegrid-", dir="/tmp"))


def _configure(folder: Path, cores: int, preload: str) -> tuple[Settings, dict[str, str]]:
    """Write the configuration, and make it win over the user's in our and the services' eyes."""
    extra: dict[str, dict[str, str | int]] = {
        "dbserver": {"listen": LOOPBACK},
        "broker": {
            "host": LOOPBACK,
            "listen": LOOPBACK,
            "max_attempts": "",
            "metrics_port": "",
            "node_timeout": "",
        },
        "agent": {"listen": LOOPBACK, "preload": preload, "worker_memory": ""},
        "zworkers": {"host_cores": f"{LOOPBACK} {cores}"},
        "distribution": {"serialize_jobs": 0},
    }
    with contextlib.suppress(FileNotFoundError):
        (folder / config.CONFIG_NAME).unlink()
    path = testing.write_cluster_config(folder, extra)
    environ = dict(os.environ) | {"OQ_CONFIG_FILE": str(path)}
    return config.load_settings(folder, environ), environ
