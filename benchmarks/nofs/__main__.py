"""Calculations whose files are served to their workers, against the same with shared files.

All clusters are on this machine, and calculations run on them in turns; the shortest of some rounds counts.
One unmeasured round comes first. Bytes are those that came to the workers of one node, against those of the
datastores and source models. Keep the machine quiet. Prints one line a figure and ends with exit code 1 when
one is short of its target.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from benchmarks.nofs import environ_names, one_to_many
from benchmarks.support.figures import Figure
from benchmarks.support.records import report
from quakegrid import testing

ROUNDS = int(os.environ.get("ROUNDS", "3"))
CASES = (
    "classical/case_22",
    "classical/case_65",
    "logictree/case_13",
    "disagg/case_13",
    "event_based/case_1",
    "event_based/case_19",
    "event_based_risk/case_01",
    "event_based_risk/case_miriam",
    "scenario_risk/conditioned",
    "scenario_damage/case_9",
    "classical_bcr/case_2",
    "aftershock/case_1",
)
DELAYS_S = {"served": 0.0, "served, 2 ms a request": 0.002, "served, 20 ms a request": 0.020}
MB = 1_000_000
GB = 1 << 30
OBJECTS = 10_000
PARAMS = ("-p", "concurrent_tasks=4")


@dataclass(frozen=True)
class Side:
    """A cluster of one way."""

    name: str
    state_dir: Path
    environ: Mapping[str, str]
    bytes_path: Path

    def call(self, *args: object) -> None:
        """Run `quakegrid` to its end."""
        command = [str(Path(sys.executable).with_name("quakegrid")), "--state-dir", self.state_dir, *args]
        done = subprocess.run(
            list(map(str, command)), env=self.environ, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise RuntimeError(f"{self.name}: {args}: {done.stderr[-2000:]}")

    def run(self, case: str) -> float:
        """The wall time of a calculation, s."""
        with tempfile.TemporaryDirectory(prefix="qgb") as folder:
            inputs = testing.copy_engine_case(case, Path(folder, "inputs"))
            names = ("job.ini", "job_haz.ini", "job_eb.ini", "job_h.ini")
            job_ini = next(inputs / name for name in names if (inputs / name).exists())
            start_s = time.perf_counter()
            self.call("run", job_ini, *PARAMS)
            return time.perf_counter() - start_s

    def moved_bytes(self) -> tuple[int, int]:
        """Bytes that came to the workers, and in how many answers, since the last call."""
        counts = list(map(int, self.bytes_path.read_text().split()))
        self.bytes_path.write_text("")
        return sum(counts), len(counts)

    def file_bytes(self) -> int:
        """Bytes of the datastores of the last calculation."""
        paths = list(self.state_dir.rglob("calc_*.hdf5"))
        last = max(int(path.stem.split("_")[1]) for path in paths)
        return sum(path.stat().st_size for path in paths if path.stem.split("_")[1] == str(last))


@contextlib.contextmanager
def cluster(name: str, root: Path) -> Iterator[Side]:
    """A cluster that is warm."""
    state_dir, home = root / name.replace(" ", "").replace(",", ""), root / "home"
    home.mkdir(exist_ok=True)
    state_dir.mkdir()
    bytes_path = state_dir / "bytes"
    bytes_path.touch()
    preload = "openquake" if name not in DELAYS_S else "openquake,benchmarks.nofs.served_workers"
    testing.write_cluster_config(state_dir, {"agent": {"preload": preload}})
    environ = testing.isolated_environ(home) | {
        environ_names.DELAY_S: str(DELAYS_S.get(name, 0.0)),
        environ_names.BYTES: str(bytes_path),
        "PYTHONPATH": str(Path(__file__).parents[2]),
    }
    side = Side(name, state_dir, environ, bytes_path)
    try:
        side.call("up")
        side.call("oq", "info", "cfg")
        yield side
    finally:
        side.call("down", "--force")


def measure_calculations(root: Path) -> Iterator[Figure]:
    """Sums of wall times of all cases."""
    with contextlib.ExitStack() as stack:
        sides = [stack.enter_context(cluster(name, root)) for name in ("shared", *DELAYS_S)]
        times: dict[str, dict[str, float]] = {side.name: {} for side in sides}
        moved = there = answers = 0
        for number in range(ROUNDS + 1):
            print(f"round {number} of {ROUNDS} (0 warms up)", file=sys.stderr, flush=True)
            for case in CASES:
                for side in sides if number % 2 else reversed(sides):
                    took_s = side.run(case)
                    if number:
                        times[side.name][case] = min(took_s, times[side.name].get(case, took_s))
                    if side.name == "served":
                        byte_count, count = side.moved_bytes()
                        if number == 1:
                            moved, answers, there = (
                                moved + byte_count,
                                answers + count,
                                there + side.file_bytes(),
                            )
    shared_s = sum(times["shared"].values())
    yield Figure(f"{len(CASES)} cases, shared", shared_s, "s")
    for name in DELAYS_S:
        ratio = sum(times[name].values()) / shared_s
        yield Figure(f"{len(CASES)} cases, {name}", ratio, "x", at_most=1.05 if name == "served" else None)
    for case in CASES:
        yield Figure(f"{case}, served", times["served"][case] / times["shared"][case], "x")
    yield Figure("moved to one node", moved / MB, "MB")
    yield Figure("in the datastores of these cases", there / MB, "MB")
    yield Figure("moved against what is there", moved / there, "x")
    yield Figure("answers", answers, "")


def measure_epochs(root: Path) -> Iterator[Figure]:
    """The time that a Starmap's beginning takes the driver's main thread."""
    from quakegrid.engine.files import epochs

    for count, data in ((OBJECTS, 100), (100, 400_000)):
        path = root / f"calc_{count}.hdf5"
        with h5py.File(path, "w", libver="latest") as h5:
            for number in range(count):
                h5[f"_csm/{number}"] = np.arange(data, dtype=float)
        with h5py.File(path, "a", libver="latest") as h5:
            for way, whole_bytes in (("metadata copied", 0), ("usual rule", None)):
                start_s = time.perf_counter()
                _, source = epochs.make(h5, whole_bytes)
                took_s = time.perf_counter() - start_s
                source.close()
                size = path.stat().st_size / MB
                yield Figure(f"epoch, {count:,} objects, {size:.0f} MB, {way}", 1000 * took_s, "ms")


def measure() -> Iterator[Figure]:
    """All figures, as they are measured."""
    with tempfile.TemporaryDirectory(prefix="qgb") as folder:
        yield from measure_epochs(Path(folder))
    took_s = one_to_many.measure(GB, 8)
    yield Figure("1 GiB to 8 nodes", took_s, "s")
    yield Figure("1 GiB to 8 nodes, all together", 8 * GB / took_s / (1 << 20), "MiB/s")
    with tempfile.TemporaryDirectory(prefix="qgb") as folder:
        yield from measure_calculations(Path(folder))


if __name__ == "__main__":
    raise SystemExit(report("nofs", measure()))
