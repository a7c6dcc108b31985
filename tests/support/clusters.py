"""A real cluster for tests: its own state, HOME and ports, the command line as its only interface."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from multiprocessing import connection
from pathlib import Path
from typing import Any

from quakegrid import testing
from quakegrid.clients.dbserver.client import DbClient
from quakegrid.jobs.states import JobState
from quakegrid.machine import service_files
from quakegrid.settings import config

QUAKEGRID = Path(sys.executable).with_name("quakegrid")
TIMEOUT_S = 600
END_TIMEOUT_S = 30.0


@dataclass(frozen=True)
class Cluster:
    """A QuakeGrid cluster on free ports of this machine."""

    state_dir: Path
    environ: dict[str, str]

    def call(self, *args: object, timeout_s: float = TIMEOUT_S) -> subprocess.CompletedProcess[str]:
        """Run `quakegrid` with these arguments to its end, whatever its exit code."""
        return subprocess.run(
            self.command(*args),
            env=self.environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    def command(self, *args: object) -> list[str]:
        """The command line `quakegrid` with these arguments."""
        return [str(QUAKEGRID), "--state-dir", str(self.state_dir), *map(str, args)]

    def start(self, *args: object) -> Running:
        """Start `quakegrid` with these arguments."""
        command = self.command(*args)
        process = subprocess.Popen(
            command,
            env=self.environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            bufsize=1,
        )
        return Running(process)

    def json(self, *args: object) -> Any:
        """Run `quakegrid` and parse what it prints."""
        done = self.call(*args, "--output", "json")
        assert done.returncode == 0, done.stderr + done.stdout
        return json.loads(done.stdout)

    def job(self, job_id: int = -1) -> dict[str, Any]:
        """A job as `jobs show` tells it; the last one by default."""
        found = self.json("jobs", "show", job_id)
        assert isinstance(found, dict)
        return found

    def ended_job(self, job_id: int = -1, timeout_s: float = END_TIMEOUT_S) -> dict[str, Any]:
        """The same when the job has ended: who notices a death may take a moment to write it down."""
        end_s, job = time.monotonic() + timeout_s, self.job(job_id)
        with DbClient(config.load_settings(self.state_dir, self.environ)) as database:
            while database.jobs.get_job(job["id"]).state == JobState.EXECUTING:
                assert time.monotonic() < end_s, f"job {job['id']} goes on"
                time.sleep(0.01)
        return self.job(job["id"])

    def log(self, job_id: int = -1) -> str:
        """The log of a job, as text."""
        return self.call("jobs", "logs", job_id).stdout

    def children(self) -> list[int]:
        """Process ids of the template's children: workers and drivers."""
        mine = processes("quakegrid.services.agent.template", self.state_dir)
        return [pid for pid in mine if _parent(pid) in mine]

    def wait_until_quiet(self) -> None:
        """Wait until no worker and no driver is left."""
        for pid in self.children():
            wait_for_end(pid)

    def kill_service(self, name: str, number: signal.Signals = signal.SIGKILL) -> None:
        """Kill a service, or tell it to end, and wait until it is gone."""
        record = service_files.read(config.load_settings(self.state_dir, self.environ), name)
        assert record is not None
        os.kill(record.pid, number)
        wait_for_end(record.pid)

    def lose_power(self) -> None:
        """Kill every process of the cluster at once, as when its machine loses power."""
        pids = processes("quakegrid.services.", self.state_dir)
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for pid in pids:
            wait_for_end(pid)

    def temporary_files(self) -> list[Path]:
        """What is in the folder for temporary files, and below.

        Python tries a folder with a file of four letters, which a process that is killed just then leaves.
        """
        folder = self.state_dir / "scratch"
        return sorted(path for path in folder.rglob("*") if path.parent != folder or not _is_trial(path))

    def template(self) -> int:
        """Process id of the template."""
        mine = processes("quakegrid.services.agent.template", self.state_dir)
        # One that has ended since has no parent.
        (template,) = [pid for pid in mine if (parent := _parent(pid)) and parent not in mine]
        return template


@dataclass(frozen=True)
class Running:
    """A `quakegrid` that runs, and what it said so far."""

    process: subprocess.Popen[str]

    def wait_for(self, word: str) -> str:
        """Read its output until a line has `word`; all that was read."""
        assert self.process.stdout is not None
        seen = ""
        for line in self.process.stdout:
            seen += line
            if word in line:
                return seen
        raise AssertionError(f"ended without saying {word!r}: {seen}")

    def finish(self) -> tuple[int, str]:
        """Wait for its end; exit code and the rest of the output."""
        rest, _ = self.process.communicate(timeout=TIMEOUT_S)
        return self.process.returncode, rest


@contextlib.contextmanager
def running_cluster(
    state_dir: Path, home: Path, extra: Mapping[str, Mapping[str, str]] | None = None
) -> Iterator[Cluster]:
    """A cluster that is up, and down again at the end, with nothing left of it."""
    scratch = state_dir / "scratch"
    scratch.mkdir(parents=True)
    # What a killed driver leaves is what most tests look at; tests of `auto` ask for it.
    extra = extra or {}
    broker = {"resume": "ask", **extra.get("broker", {})}
    own = {"directory": {"custom_tmp": str(scratch)}, **extra, "broker": broker}
    testing.write_cluster_config(state_dir, own)
    cluster = Cluster(state_dir, testing.isolated_environ(home))
    try:
        up = cluster.call("up")
        assert up.returncode == 0, up.stderr + up.stdout
        warm = cluster.call("oq", "info", "cfg")  # waits until the engine is loaded
        assert warm.returncode == 0, warm.stderr
        yield cluster
    finally:
        down = cluster.call("down", "--force")
        assert down.returncode == 0, down.stderr + down.stdout
    left = [pid for pid in _pids() if str(state_dir) in _cmdline(pid)]
    assert left == [], f"processes left: {[_cmdline(pid) for pid in left]}"
    files = cluster.temporary_files()
    assert files == [], f"temporary files left: {files}"


def wait_for_end(pid: int) -> None:
    """Wait until a process is gone."""
    with contextlib.suppress(ProcessLookupError):
        fd = os.pidfd_open(pid)
        ready = connection.wait([fd], 60)
        os.close(fd)
        assert ready, f"process {pid} did not end: {_cmdline(pid)}"


def processes(module: str, state_dir: Path) -> list[int]:
    """Processes of a cluster that run a module, the oldest first."""
    mine = [pid for pid in _pids() if module in _cmdline(pid) and f"\0{state_dir}\0" in _cmdline(pid)]
    return sorted(mine)


def _pids() -> list[int]:
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]


def _cmdline(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _is_trial(path: Path) -> bool:
    try:
        return path.is_file() and path.read_bytes() in (b"", b"blat")
    except OSError:  # it is gone
        return True


def _parent(pid: int) -> int:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return 0
    return int(stat.rpartition(")")[2].split()[1])
