"""What journals cost, and what they save: calls, empty tasks, a medium calculation, a kill.

Runs a cluster with journals and one without, on this machine in turns. Takes some minutes; keep the machine
quiet. Prints one line a figure and ends with exit code 1 when one is short of its target.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benchmarks.resume import answered_calls
from benchmarks.support.figures import Figure
from benchmarks.support.records import report
from tests.engine.exports import find_differences
from tests.faults.resume import killing
from tests.support.clusters import Cluster, running_cluster

ROUNDS = 3
# The model of `bench_medium.py` with half as many sites: half a minute on two cores.
JOB_INI = Path(__file__).parent / "medium" / "classical.ini"
MEDIUM = ("-p", "region_grid_spacing=7")
PART = 0.9
MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class MediumRun:
    """A calculation: its time, the largest memory of its driver, and its journal."""

    wall_s: float
    driver_bytes: int
    outcome_count: int
    journal_bytes: int


def measured(cluster: Cluster, folder: Path, *, has_journal: bool) -> MediumRun:
    """Run the calculation to its end."""
    stop = threading.Event()
    peaks: dict[int, int] = {}
    watching = threading.Thread(target=watch_children, args=(cluster, stop, peaks))
    watching.start()
    start_s = time.perf_counter()
    if has_journal:
        watched = killing.start_files(cluster, [JOB_INI], folder, *MEDIUM)
        code, output = watched.finish()
        count, size = killing.outcome_count(watched.fd), os.fstat(watched.fd).st_size
    else:
        running = cluster.start("run", JOB_INI, "--exports", "csv", "--export-dir", folder, *MEDIUM)
        (code, output), count, size = running.finish(), 0, 0
    wall_s = time.perf_counter() - start_s
    stop.set()
    watching.join()
    assert code == 0, output
    return MediumRun(wall_s, peaks[cluster.json("jobs", "show", "-1")["pid"]], count, size)


def watch_children(cluster: Cluster, stop: threading.Event, peaks: dict[int, int]) -> None:
    """Note the largest memory of each driver and worker, by its process id."""
    while not stop.wait(0.2):
        for pid in cluster.children():
            try:
                status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
            except OSError:
                continue
            if found := re.search(r"VmHWM:\s+(\d+) kB", status):
                peaks[pid] = int(found[1]) << 10


def empty_tasks(cluster: Cluster) -> Iterator[Figure]:
    """With and without a journal in one driver, in turns."""
    folder = str(Path(__file__).parent / "resume")
    mine = dataclasses.replace(cluster, environ=cluster.environ | {"PYTHONPATH": folder})
    done = mine.call("oq", "shell", "journaled_starmap")
    assert done.returncode == 0, done.stderr
    found = json.loads(next(line for line in done.stdout.splitlines() if line.startswith('{"bytes"')))
    yield Figure("empty task of a Starmap, no journal", found["plain_us"], "us")
    yield Figure("empty task of a Starmap, journal", found["journaled_us"], "us")
    yield Figure("its ratio to none", found["journaled_us"] / found["plain_us"], "", at_most=1.1)
    cpu = found["journaled_cpu_us"] / found["plain_cpu_us"]
    yield Figure("the same of the driver's CPU time", cpu, "", at_most=1.1)
    yield Figure("journal of an empty task", found["bytes"], "B")


def medium(with_journal: Cluster, without: Cluster, root: Path) -> Iterator[Figure]:
    """A calculation in both clusters in turns, then one that is killed."""
    plain, journaled = [], []
    for number in range(ROUNDS):
        plain.append(measured(without, root / f"plain{number}", has_journal=False))
        journaled.append(measured(with_journal, root / f"journaled{number}", has_journal=True))
    whole_s = median(run.wall_s for run in journaled)
    yield Figure("medium calculation, no journal", median(run.wall_s for run in plain), "s")
    yield Figure("medium calculation, journal", whole_s, "s")
    ratio = min(run.wall_s for run in journaled) / min(run.wall_s for run in plain)
    yield Figure("its ratio to none, least of rounds", ratio, "", at_most=1.01)
    yield Figure("outcomes of tasks in it", journaled[0].outcome_count, "")
    yield Figure("bytes in its journal", journaled[0].journal_bytes / MIB, "MiB")
    peaks = [max(run.driver_bytes for run in runs) for runs in (plain, journaled)]
    yield Figure("its driver's memory, no journal", peaks[0] / MIB, "MiB")
    yield Figure("its driver's memory, journal", peaks[1] / MIB, "MiB", at_most=1.05 * peaks[0] / MIB)
    watched = killing.start_files(with_journal, [JOB_INI], root / "killed", *MEDIUM)
    assert watched.wait_for(int(PART * journaled[0].outcome_count)), "it was complete before the kill"
    start_s = time.perf_counter()
    watched.kill("driver")
    code, output = watched.finish()
    assert code == 0, output
    rest_s = time.perf_counter() - start_s
    yield Figure("killed at 90 %, to its end", rest_s, "s", at_most=0.2 * whole_s)
    differences = find_differences(root / "journaled0", root / "killed")
    yield Figure("differences of its exports", len(differences), "", at_most=0)


def figures() -> Iterator[Figure]:
    """All figures."""
    yield from answered_calls.figures()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        homes = [root / name for name in ("home", "plain_home")]
        for home in homes:
            home.mkdir()
        with (
            running_cluster(root / "cluster", homes[0], {"broker": {"resume": "auto"}}) as with_journal,
            running_cluster(root / "plain", homes[1], {"broker": {"resume": "never"}}) as without,
        ):
            yield from empty_tasks(with_journal)
            yield from medium(with_journal, without, root)


if __name__ == "__main__":
    sys.exit(report("resume", figures()))
