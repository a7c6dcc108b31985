"""Runs a calculation, watches its journal, and kills a part of the cluster when that has so many outcomes."""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from quakegrid.journals import files, records
from quakegrid.journals.records import RecordKind
from tests.engine.cases import Case, prepare
from tests.support.clusters import Cluster, Running, wait_for_end

TIMEOUT_S = 600.0
SERVICES = ("agent", "broker", "dbserver")


def journal_of(cluster: Cluster, job_id: int) -> Path:
    """The journal of a job of this user."""
    return files.path_of(files.own_folder(cluster.state_dir), job_id)


def outcome_count(fd: int) -> int:
    """Outcomes in an open journal, also if its name is gone."""
    size = os.fstat(fd).st_size
    if not size:
        return 0
    data = memoryview(mmap.mmap(fd, size, prot=mmap.PROT_READ))
    return sum(placed.record.kind is RecordKind.OUTCOME for placed in records.read(data))


@dataclass
class Watched:
    """A calculation that was just started, with its journal."""

    cluster: Cluster
    running: Running
    job_id: int
    fd: int

    def wait_for(self, count: int) -> bool:
        """Wait until so many outcomes are recorded; False if it has ended before."""
        has_ended = lambda: self.is_over() or self.running.process.poll() is not None  # noqa: E731 - one line
        return wait_until_there(lambda: outcome_count(self.fd) >= count, has_ended)

    @property
    def driver_pid(self) -> int:
        """Of its first driver, as its journal has it."""
        size = os.fstat(self.fd).st_size
        first = next(records.read(memoryview(mmap.mmap(self.fd, size, prot=mmap.PROT_READ))))
        return int(json.loads(bytes(first.record.frames[0]))["pid"])

    def kill(self, victim: str) -> None:
        """Kill the driver, a part of the cluster, or everything, and start services again."""
        if victim == "driver":
            with contextlib.suppress(ProcessLookupError):  # it was done
                os.kill(self.driver_pid, signal.SIGKILL)
        elif victim == "template":
            os.kill(self.cluster.template(), signal.SIGKILL)
        elif victim == "everything":
            self.cluster.lose_power()
        else:
            self.cluster.kill_service(victim)
        if victim in (*SERVICES, "everything"):
            up = self.cluster.call("up")
            assert up.returncode == 0, up.stderr

    def wait_for_driver(self) -> None:
        """Wait until the first driver is gone."""
        wait_for_end(self.driver_pid)

    @property
    def byte_count(self) -> int:
        """Of the journal."""
        return os.fstat(self.fd).st_size

    def is_over(self) -> bool:
        """Whether the journal was removed, since the calculation is complete."""
        return os.fstat(self.fd).st_nlink == 0

    def finish(self) -> tuple[int, str]:
        """Wait for the end of the command line."""
        return self.running.finish()


def start(cluster: Cluster, case: Case, folder: Path, *options: object) -> Watched:
    """Start a calculation of several files, if the case has some, and open the journal of the first."""
    job_inis = [job.job_ini for job in prepare(case, folder)]
    return start_files(cluster, job_inis, folder / "exports", *options)


def start_files(cluster: Cluster, job_inis: Sequence[Path], exports: Path, *options: object) -> Watched:
    """Start a calculation of job files, and open the journal of the first."""
    last_id = max([0, *(int(path.stem) for path in _journals(cluster))])
    running = cluster.start("run", *job_inis, "--exports", "csv", "--export-dir", exports, *options)
    found: list[Path] = []

    def is_there() -> bool:
        found[:] = sorted(path for path in _journals(cluster) if int(path.stem) > last_id)
        return bool(found)

    if not wait_until_there(is_there, lambda: running.process.poll() is not None):
        raise AssertionError(running.finish())
    fd = os.open(found[0], os.O_RDONLY)
    return Watched(cluster, running, int(found[0].stem), fd)


def undisturbed_count(cluster: Cluster, case: Case, folder: Path, *options: object) -> int:
    """Run a calculation undisturbed; how many outcomes its journal had at the end."""
    watched = start(cluster, case, folder, *options)
    code, output = watched.finish()
    assert code == 0, output
    return outcome_count(watched.fd)


def wait_until_complete(cluster: Cluster, job_id: int) -> None:
    """Wait until a job is complete: it may be failed for a moment, until the next driver takes it up."""

    def is_complete() -> bool:
        return bool(cluster.job(job_id)["state"] == "complete")

    is_refused = lambda: "not resumed: " in cluster.log(job_id)  # noqa: E731 - one line
    assert wait_until_there(is_complete, is_refused), cluster.log(job_id)


def wait_until_there(is_there: Callable[[], bool], is_over: Callable[[], bool]) -> bool:
    """Wait for something; False if something else came first, or the time is over."""
    end_s = time.monotonic() + TIMEOUT_S
    while not is_there():
        if is_over() or time.monotonic() > end_s:
            return is_there()
        time.sleep(0.01)
    return True


def _journals(cluster: Cluster) -> list[Path]:
    return list((cluster.state_dir / files.FOLDER).glob(f"*/*/*{files.SUFFIX}"))
