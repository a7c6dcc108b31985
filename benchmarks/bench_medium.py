"""Two calculations of a minute on QuakeGrid and on the plain engine: wall time, use of the cores, memory.

A classical PSHA and an event-based risk of `benchmarks/medium`. All sides run on this machine in turns, so
that a change of its load meets each, and medians are compared. A first round of all is not measured: it fills
the caches. Takes half an hour; keep the machine quiet.

`python -m benchmarks.bench_medium risk` takes only the calculations that are named.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Self

import h5py
import psutil

from benchmarks.bench_first import BIN, PlainEngine, QuakeGrid
from benchmarks.medium import buildings
from benchmarks.support.figures import Figure
from benchmarks.support.records import chosen_parts, report
from tests.engine.exports import find_differences

MODEL = Path(__file__).parent / "medium"
ROUNDS = int(os.environ.get("ROUNDS", "3"))
CALCULATIONS = {"classical": "classical.ini", "risk": "risk.ini"}
SIDES = ("zmq", "processpool", "quakegrid")
SAMPLE_S = 0.5
MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Run:
    """One calculation.

    Attributes:
        task_s: sum of the durations of all its tasks, as the engine measured them.
        received: bytes of the tasks' results.
        master: most memory of the process that runs the calculation, proportional (PSS), bytes.
        all_processes: most memory of all processes of the side together, proportional, bytes.
    """

    wall_s: float
    task_s: float
    received: int
    master: int
    all_processes: int


class Watch:
    """Samples the memory of processes while something runs; what several share is divided among them."""

    def __init__(self, pids: Callable[[], set[int]]) -> None:
        self.peaks: dict[int, int] = {}
        self.most_together = 0
        self.mine: set[int] = set()  # those that this program started itself
        self._pids = pids
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._sample)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_exc_info: object) -> None:
        self._is_over.set()
        self._thread.join()

    def _sample(self) -> None:
        while not self._is_over.wait(SAMPLE_S):
            self.mine |= {child.pid for child in psutil.Process().children()}
            sizes = {pid: proportional_bytes(pid) for pid in self._pids()}
            self.most_together = max(self.most_together, sum(sizes.values()))
            self.peaks = {pid: max(size, self.peaks.get(pid, 0)) for pid, size in sizes.items()} | {
                pid: size for pid, size in self.peaks.items() if pid not in sizes
            }


def proportional_bytes(pid: int) -> int:
    """The memory of a process (PSS); 0 when it has ended."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="utf-8").splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) << 10
    return 0


def with_variable(name: str, value: str) -> set[int]:
    """Processes that were started with this variable in their environment."""
    wanted, found = f"{name}={value}".encode(), set()
    for pid in psutil.pids():
        with suppress(OSError):
            if wanted in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
                found.add(pid)
    return found


class Plain:
    """The engine with one of its own ways to distribute tasks."""

    def __init__(self, root: Path, distribute: str) -> None:
        self.engine = PlainEngine(root, distribute)
        self.environ = self.engine.environ
        self._command = [str(BIN / "oq"), "engine", "--run"]

    def run(self, job_ini: Path, exports: Path) -> tuple[float, dict[int, int], int, int]:
        """Wall time, peaks of processes, most memory together, the pid of the master."""
        options = ["--exports", "csv", "-p", f"export_dir={exports}"]
        with Watch(lambda: with_variable("HOME", self.environ["HOME"])) as watch:
            usage = self.engine.call([*self._command, str(job_ini), *options])
        (master,) = watch.mine & watch.peaks.keys()
        return usage.wall_s, watch.peaks, watch.most_together, master


class Ours:
    """A cluster of QuakeGrid on this machine."""

    def __init__(self, root: Path) -> None:
        self.cluster = QuakeGrid(root)
        self.environ = self.cluster.environ

    def run(self, job_ini: Path, exports: Path) -> tuple[float, dict[int, int], int, int]:
        """As for the plain engine."""
        options = ["--exports", "csv", "--export-dir", str(exports)]
        with Watch(lambda: with_variable("HOME", self.environ["HOME"])) as watch:
            usage = self.cluster.call("run", str(job_ini), *options)
        shown = subprocess.run(
            [*self.cluster.command, "jobs", "show", "-1", "--output", "json"],
            env=self.environ, check=True, capture_output=True, text=True,
        )  # fmt: skip
        return usage.wall_s, watch.peaks, watch.most_together, json.loads(shown.stdout)["pid"]


def measured(side: Plain | Ours, job_ini: Path, exports: Path) -> Run:
    """Run a calculation to its end, and read what the engine noted of its tasks."""
    exports.mkdir(parents=True)
    wall_s, peaks, together, master = side.run(job_ini, exports)
    newest = max(Path(side.environ["HOME"]).rglob("calc_*.hdf5"), key=lambda path: path.stat().st_mtime)
    with h5py.File(newest) as datastore:
        tasks = datastore["task_info"][:]
    return Run(
        wall_s, float(tasks["duration"].sum()), int(tasks["received"].sum()), peaks.get(master, 0), together
    )


def measure(root: Path, calculations: Sequence[str]) -> Iterator[Figure]:
    """All figures of these calculations; everything that is written goes below `root`."""
    shutil.copytree(MODEL, root / "model")
    buildings.write(root / "model" / "exposure.csv")
    ours = Ours(root / "ours")
    sides = {
        "zmq": Plain(root / "zmq", "zmq"),
        "processpool": Plain(root / "pool", "processpool"),
        "quakegrid": ours,
    }
    with ours.cluster.up():
        for name in calculations:
            runs: dict[str, list[Run]] = {side: [] for side in SIDES}
            for number in range(ROUNDS + 1):
                for side in SIDES:
                    print(
                        f"{name}, round {number} of {ROUNDS} (0 warms up): {side}",
                        file=sys.stderr,
                        flush=True,
                    )
                    exports = root / name / side / str(number)
                    run = measured(sides[side], root / "model" / CALCULATIONS[name], exports)
                    runs[side] += [run] if number else []
            yield from figures(name, runs)
            expected, actual = (root / name / side / "1" for side in ("processpool", "quakegrid"))
            yield Figure(f"{name}: differences", len(find_differences(expected, actual)), "", at_most=0)


def figures(name: str, runs: dict[str, list[Run]]) -> Iterator[Figure]:
    """The figures of one calculation."""
    cores = os.cpu_count() or 1
    wall_s = {side: median(run.wall_s for run in runs[side]) for side in SIDES}
    for side in SIDES:
        yield Figure(f"{name}: wall time, {side}", wall_s[side], "s")
    yield Figure(f"{name}: faster than zmq", wall_s["zmq"] / wall_s["quakegrid"], "x", at_least=1.2)
    yield Figure(
        f"{name}: faster than processpool", wall_s["processpool"] / wall_s["quakegrid"], "x", at_least=1.05
    )
    for side in SIDES:
        bound = median(run.wall_s * cores / run.task_s for run in runs[side])
        limit = 1.05 if side == "quakegrid" else None
        yield Figure(f"{name}: by tasks' time / cores, {side}", bound, "x", at_most=limit)
    for side in SIDES:
        yield Figure(f"{name}: tasks' time, {side}", median(run.task_s for run in runs[side]), "s")
    for side in SIDES:
        yield Figure(f"{name}: memory of the master, {side}", most(runs[side], "master"), "MiB")
    for side in SIDES:
        yield Figure(f"{name}: memory of all, {side}", most(runs[side], "all_processes"), "MiB")
    for side in SIDES:
        yield Figure(
            f"{name}: results of tasks, {side}", median(run.received for run in runs[side]) / MIB, "MiB"
        )


def most(runs: Sequence[Run], attribute: str) -> float:
    """The median of a memory, MiB."""
    return median(float(getattr(run, attribute)) for run in runs) / MIB


def main() -> int:
    """Measure, print, and say by the exit code whether every target is met."""
    names = chosen_parts(__doc__, CALCULATIONS)
    with tempfile.TemporaryDirectory(prefix="quakegrid-bench-") as root:
        return report("medium", measure(Path(root), names))


if __name__ == "__main__":
    sys.exit(main())
