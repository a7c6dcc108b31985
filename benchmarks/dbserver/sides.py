"""The two dbservers that are measured side by side: ours, and the one of the installed engine."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from quakegrid import testing
from quakegrid.clients.dbserver.client import DbClient
from quakegrid.machine import service_files
from quakegrid.settings import config
from quakegrid.settings.config import Settings

START_TIMEOUT_S = 60.0
REPOSITORY = Path(__file__).parents[2]


class Server:
    """A dbserver process, ours or upstream's, with a directory of its own."""

    def __init__(self, root: Path, environ: dict[str, str], command: list[str]) -> None:
        self.environ = environ
        self._command = command
        self._log = root / "log.txt"

    @contextmanager
    def up(self, is_ready: Callable[[], bool]) -> Iterator[int]:
        """It runs inside of this; gives its process id."""
        with self._log.open("wb") as log:
            process = subprocess.Popen(
                self._command, env=self.environ, cwd=REPOSITORY, stdout=log, stderr=subprocess.STDOUT
            )
        try:
            end_s = time.monotonic() + START_TIMEOUT_S
            while not is_ready():
                if process.poll() is not None or time.monotonic() > end_s:
                    raise RuntimeError(self._log.read_text(encoding="utf-8", errors="replace")[-2000:])
                time.sleep(0.05)
            yield process.pid
        finally:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def clients(self, side: str, task: str, count: int, seconds: float, job_id: int) -> float:
        """Run clients of this server; returns what they got done per second."""
        print(f"{side}: {task}, clients: {count}", file=sys.stderr, flush=True)
        arguments = map(str, (side, task, count, seconds, job_id))
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.support.dbserver_clients", *arguments],
            env=self.environ,
            cwd=REPOSITORY,
            stdout=subprocess.PIPE,
            check=True,
        )
        result = json.loads(done.stdout.splitlines()[-1])
        return float(result["count"] / result["seconds"])


class Ours(Server):
    """Our dbserver."""

    def __init__(self, root: Path) -> None:
        root.mkdir()
        path = testing.write_cluster_config(root / "state")
        environ = testing.isolated_environ(root) | {"OQ_CONFIG_FILE": str(path)}
        super().__init__(
            root,
            environ,
            [sys.executable, "-m", "quakegrid.services.dbserver", "--state-dir", str(root / "state")],
        )
        self.settings: Settings = config.load_settings(root / "state", {"OQ_CONFIG_FILE": str(path)})
        # Clients read the same file without --state-dir.
        self.environ["QUAKEGRID_STATE_DIR"] = str(root / "state")

    @contextmanager
    def running(self) -> Iterator[int]:
        """As `up`."""
        with self.up(lambda: service_files.read(self.settings, "dbserver") is not None) as pid:
            yield pid

    def new_job(self) -> int:
        """The id of a new job."""
        with DbClient(self.settings) as client:
            return client.jobs.create_job(
                data_dir="/tmp", calculation_mode="classical", description="logs", user_name="bench"
            ).id


class Upstream(Server):
    """The DbServer of the installed engine."""

    def __init__(self, root: Path) -> None:
        root.mkdir()
        self._port = testing.free_ports(1)[0]
        self.database = root / "db.sqlite3"
        path = root / "openquake.cfg"
        # The engine takes 127.0.0.1 as "no server".
        path.write_text(
            f"[dbserver]\nhost = localhost\nport = {self._port}\nfile = {self.database}\n"
            f"[zworkers]\nhost_cores = 127.0.0.1 1\nctrl_port = {self._port + 1}\n"
        )
        environ = testing.isolated_environ(root) | {"OQ_CONFIG_FILE": str(path)}
        run = f"dbserver.run_server('127.0.0.1:{self._port}', 'ERROR', True)"
        start = f"from openquake.server import dbserver; {run}"
        super().__init__(root, environ, [sys.executable, "-c", start])

    @contextmanager
    def running(self) -> Iterator[int]:
        """As `up`."""

        def is_ready() -> bool:
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", self._port)) == 0

        with self.up(is_ready) as pid:
            yield pid

    def new_job(self) -> int:
        """The id of a new job."""
        code = "from openquake.commonlib.logs import dbcmd; print(dbcmd('create_job', '/tmp'))"
        done = subprocess.run(
            [sys.executable, "-c", code], env=self.environ, stdout=subprocess.PIPE, check=True
        )
        return int(done.stdout.split()[-1])


def peak_bytes(pid: int) -> int:
    """The most memory that a process had in use."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    [line_] = [line_ for line_ in status.splitlines() if line_.startswith("VmHWM")]
    return int(line_.split()[1]) * 1024
