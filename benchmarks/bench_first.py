"""A small calculation on a warm QuakeGrid and on the plain engine: wall time, CPU time, memory.

Runs both on this machine in turns, so that a change of the machine's load meets both, and compares
medians. One unmeasured round comes first and warms every cache. Takes some minutes; keep the machine
quiet. Prints one line a figure and ends with exit code 1 when one is short of its target.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benchmarks.support.figures import Figure
from benchmarks.support.records import report
from benchmarks.support.worker_memory import our_worker_bytes, plain_worker_bytes
from quakegrid import testing

ROUNDS = 3
OUR_RUNS_PER_ROUND = 3
CASE = "classical/case_01"
BIN = Path(sys.executable).parent
MB = 1_000_000
# How long what a run leaves behind may take to end by itself.
LINGER_S = 10.0


@dataclass(frozen=True, slots=True)
class Usage:
    """What one run of a program took; CPU time includes the children it waited for, and no service."""

    wall_s: float
    cpu_s: float


def run_program(command: list[str], environ: dict[str, str], log: Path) -> Usage:
    """Run a program to its end and until everything it started has ended too.

    Raises:
        RuntimeError: the program failed; the message ends with what it said.
    """
    with log.open("wb") as stream:
        start_s = time.perf_counter()
        process = subprocess.Popen(
            command,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            _, status, usage = os.wait4(process.pid, 0)
            wall_s = time.perf_counter() - start_s
            process.returncode = os.waitstatus_to_exitcode(status)
        finally:
            end_session(process.pid)
    if process.returncode:
        said = log.read_text(encoding="utf-8", errors="replace")[-2000:]
        raise RuntimeError(f"{' '.join(command)} ended with exit code {process.returncode}:\n{said}")
    return Usage(wall_s, usage.ru_utime + usage.ru_stime)


def end_session(session_id: int) -> None:
    """Wait until no process of a session is left; kill those that stay."""
    deadline_s = time.monotonic() + LINGER_S
    while time.monotonic() < deadline_s:
        try:
            os.killpg(session_id, 0)
        except ProcessLookupError:
            return
        time.sleep(0.02)
    with suppress(ProcessLookupError):
        os.killpg(session_id, signal.SIGKILL)


class PlainEngine:
    """`oq engine --run` with one of the engine's own ways to distribute tasks."""

    def __init__(self, root: Path, distribute: str) -> None:
        root.mkdir()
        self._root = root
        port, first, *_, last = testing.free_port_range(5)
        settings = root / "openquake.cfg"
        settings.write_text(
            f"[dbserver]\nhost = 127.0.0.1\nfile = {root}/db.sqlite3\nreceiver_host = 127.0.0.1\n"
            f"receiver_ports = {first}-{last}\n"
            f"[zworkers]\nhost_cores = 127.0.0.1 -1\nctrl_port = {port}\n",
            encoding="utf-8",
        )
        self.environ = testing.isolated_environ(root) | {
            "OQ_CONFIG_FILE": str(settings),
            "OQ_DISTRIBUTE": distribute,
            "TMPDIR": str(root),
        }

    def run(self, job_ini: Path) -> Usage:
        """Run one calculation."""
        return self.call([str(BIN / "oq"), "engine", "--run", str(job_ini)])

    def call(self, command: list[str]) -> Usage:
        """Run a command of the engine."""
        return run_program(command, self.environ, self._root / "log.txt")


class QuakeGrid:
    """A cluster of our own on this machine."""

    def __init__(self, root: Path) -> None:
        root.mkdir()
        self._root = root
        self.state_dir = root / "state"
        testing.write_cluster_config(self.state_dir)
        self.command = [str(BIN / "quakegrid"), "--state-dir", str(self.state_dir)]
        self.environ = testing.isolated_environ(root)

    def call(self, *args: str) -> Usage:
        """Run `quakegrid` with these arguments."""
        return run_program([*self.command, *args], self.environ, self._root / "log.txt")

    def run(self, job_ini: Path) -> Usage:
        """Run one calculation."""
        return self.call("run", str(job_ini))

    @contextmanager
    def up(self) -> Iterator[None]:
        """The cluster is up inside of this; its services outlive the command that starts them."""
        self._order("up")
        try:
            yield
        finally:
            self._order("down", "--force")

    def _order(self, *args: str) -> None:
        subprocess.run([*self.command, *args], env=self.environ, stdout=subprocess.DEVNULL, check=True)


def measure(root: Path) -> list[Figure]:
    """Take all the figures; everything that is written goes below `root`."""
    job_ini = testing.copy_engine_case(CASE, root / "case") / "job.ini"
    zmq = PlainEngine(root / "zmq", "zmq")
    pool = PlainEngine(root / "pool", "processpool")
    ours = QuakeGrid(root / "ours")
    usages: dict[str, list[Usage]] = {"zmq": [], "pool": [], "run": [], "help": []}
    with ours.up():
        for number in range(ROUNDS + 1):
            print(f"round {number} of {ROUNDS} (0 warms up)", file=sys.stderr, flush=True)
            if number == 1:
                usages = {name: [] for name in usages}
            usages["zmq"].append(zmq.run(job_ini))
            usages["pool"].append(pool.run(job_ini))
            usages["run"] += [ours.run(job_ini) for _ in range(OUR_RUNS_PER_ROUND)]
            usages["help"] += [ours.call("--help") for _ in range(OUR_RUNS_PER_ROUND)]
        worker_mb = our_worker_bytes(ours.state_dir, lambda: ours.run(job_ini)) / MB
    plain_worker_mb = plain_worker_bytes(root) / MB
    wall_s = {name: median(usage.wall_s for usage in runs) for name, runs in usages.items()}
    cpu_s = {name: median(usage.cpu_s for usage in runs) for name, runs in usages.items()}
    return [
        Figure("plain engine, zmq: wall time", wall_s["zmq"], "s"),
        Figure("plain engine, processpool: wall time", wall_s["pool"], "s"),
        Figure("quakegrid run: wall time", wall_s["run"], "s"),
        Figure("quakegrid run: faster than zmq", wall_s["zmq"] / wall_s["run"], "x", at_least=15),
        Figure("quakegrid run: faster than processpool", wall_s["pool"] / wall_s["run"], "x", at_least=8),
        Figure("quakegrid run: CPU time of the command", cpu_s["run"], "s", at_most=0.3),
        Figure("quakegrid --help: CPU time of the command", cpu_s["help"], "s", at_most=0.3),
        Figure("plain engine: unshared memory of a worker", plain_worker_mb, "MB"),
        Figure("quakegrid: unshared memory of a worker", worker_mb, "MB", at_most=60),
    ]


def main() -> int:
    """Measure, print, and say by the exit code whether every target is met."""
    with tempfile.TemporaryDirectory(prefix="quakegrid-bench-") as root:
        return report("first", measure(Path(root)))


if __name__ == "__main__":
    sys.exit(main())
