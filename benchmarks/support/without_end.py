"""A program that submits a million small calls, or tasks, and looks at the memory of itself and of its lane.

Run as a process of its own, since memory that Python had once stays with it:
`without_end.py executor|session bounded|unbounded`. Prints a line of JSON.
"""

from __future__ import annotations

import json
import pickle
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.support.figures import Figure
from benchmarks.support.tiny_tasks import empty_of
from quakegrid import LocalCluster
from quakegrid.sdk import function_pickles
from quakegrid.sdk.chunks import Chunk
from quakegrid.sdk.executor import DEFAULTS, _open_session
from quakegrid.sdk.unsent import MAX_PENDING
from quakegrid.session import task_window
from quakegrid.session.lane_tasks import LaneTask

COUNT = 1_000_000
TASK_COUNT = 200_000
WORKERS = 2
ROUNDS = 3


def own_mib() -> float:
    """The most memory that this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def lane_mib(state_dir: Path) -> float:
    """The most memory that a lane of a cluster has had."""
    peaks = [0.0]
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes()
            status = (folder / "status").read_text()
        except OSError:
            continue
        if b"quakegrid.services.lane" in command and str(state_dir).encode() in command:
            peaks += [int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmHWM")]
    return max(peaks)


def submit_calls(cluster: LocalCluster, limit: int) -> dict[str, float]:
    """A million calls, whose results nobody keeps, through an executor with this limit."""
    state_dir = cluster.settings.state_dir
    with cluster.executor(max_pending=limit) as executor:
        executor.submit(empty_of, 0).result()
        before_mib, lane_before_mib, most = own_mib(), lane_mib(state_dir), 0
        start_s = time.perf_counter()
        for number in range(COUNT):
            executor.submit(empty_of, number)
            if not number % 1000:
                most = max(most, executor.pending_count)
        last = executor.submit(empty_of, 0)
        last.result()
        duration_s = time.perf_counter() - start_s
        lane_grown_mib = lane_mib(state_dir) - lane_before_mib
    return {
        "most": float(most),
        "driver_mib": own_mib() - before_mib,
        "lane_mib": lane_grown_mib,
        "per_s": COUNT / duration_s,
    }


def submit_tasks(cluster: LocalCluster) -> dict[str, float]:
    """Tasks of their own, as the engine's are: all submitted, then all results taken."""
    state_dir = cluster.settings.state_dir
    session = _open_session(cluster.settings, WORKERS, DEFAULTS)
    try:
        arguments = pickle.dumps(((0,), {}), 5)
        payload = [pickle.dumps(Chunk([function_pickles.dump(empty_of)], [0], [arguments], {}), 5)]
        task = LaneTask("empty_of")
        run(session, payload, task, 1000)
        before_mib, lane_before_mib = own_mib(), lane_mib(state_dir)
        start_s = time.perf_counter()
        run(session, payload, task, TASK_COUNT)
        duration_s = time.perf_counter() - start_s
        return {
            "driver_mib": own_mib() - before_mib,
            "lane_mib": lane_mib(state_dir) - lane_before_mib,
            "per_s": TASK_COUNT / duration_s,
        }
    finally:
        session.close()


def run(session: Any, payload: list[bytes], task: LaneTask, count: int) -> None:
    """Submit so many tasks, then take their outcomes."""
    for _ in range(count):
        session.submit(payload, task)
    for _ in range(count):
        assert not session.receive().error


def figures() -> list[Figure]:
    """With the bounds and without, in turns: most memory, and the median ratio of their throughputs."""
    made = []
    for what, subject, memory, at_most in (
        ("executor", f"{COUNT} calls", "driver_mib", 60),
        ("session", f"{TASK_COUNT} tasks", "lane_mib", 30),
    ):
        rounds = [(_apart(what, "unbounded"), _apart(what, "bounded")) for _ in range(ROUNDS)]
        without_mib, within_mib = (max(each[memory] for each in way) for way in zip(*rounds, strict=True))
        ratio = statistics.median(within["per_s"] / without["per_s"] for without, within in rounds)
        owner = memory.removesuffix("_mib")
        made += [
            Figure(f"memory of the {owner}, {subject}, no bound", without_mib, "MiB"),
            Figure(f"memory of the {owner}, {subject}", within_mib, "MiB", at_most=at_most),
            Figure(f"{subject} a second, by those without", ratio, "x", at_least=0.9),
        ]
    return made


def _apart(what: str, bound: str) -> dict[str, float]:
    command = [sys.executable, "-m", __spec__.name, what, bound]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    """Measure one way."""
    what, bound = sys.argv[1:]
    if bound == "unbounded":
        task_window.TASKS = task_window.MAX_TASKS = sys.maxsize
    with LocalCluster(WORKERS) as cluster:
        if what == "executor":
            found = submit_calls(cluster, MAX_PENDING if bound == "bounded" else 0)
        else:
            found = submit_tasks(cluster)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
