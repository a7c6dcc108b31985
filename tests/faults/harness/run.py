"""One run of the harness: a cluster, work, faults by a seed, and what was wrong at the end."""

from __future__ import annotations

import bisect
import contextlib
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults.harness.injector import Injector, children
from tests.faults.harness.plan import Fault, Scale, make_plan
from tests.faults.harness.services import Options, fault_cluster
from tests.faults.harness.throughput import Throughput, measure
from tests.faults.harness.work import (
    ENGINE_KINDS,
    SIMPLE_KINDS,
    Program,
    Run,
    Work,
    call,
    engine_row,
    simple_row,
)
from tests.support.namespace_cluster import MASTER, REPOSITORY, NamespaceCluster

UP_S = 300.0
# The lease of a driver that was killed together with its broker, and the dbserver's next look.
QUIET_S = 45.0


@dataclass(frozen=True)
class Order:
    """What is wanted of a run.

    Args:
        seed: of the plan.
        scale: of the plan.
        options: of the cluster.
        sums: tasks of the work of small tasks.
        megabytes: of a large result.
        expected: exports of the plain engine by case; empty for no work of the engine.
        calm_s: before the first fault, at least, to measure by; 0 begins with faults and measures nothing.
        session_count: programs at once, one of them of the engine if there is work for it; two or more.
    """

    seed: int
    scale: Scale
    options: Options
    sums: int = 20_000
    megabytes: int = 200
    expected: dict[str, Path] = field(default_factory=dict)
    calm_s: float = 0.0
    session_count: int = 2


@dataclass
class Report:
    """What came of it. `stalls` are the longest times without a task done after each fault, seconds."""

    order: Order
    violations: list[str] = field(default_factory=list)
    stalls: list[tuple[Fault, float]] = field(default_factory=list)
    throughput: Throughput | None = None
    run_count: int = 0
    killed_count: int = 0
    resumed_count: int = 0
    without_journal_count: int = 0

    def __str__(self) -> str:
        """For people."""
        killed = f"{self.killed_count} of them killed on purpose, {self.resumed_count} times resumed"
        killed += f", {self.without_journal_count} lost without a journal"
        counts = f"{killed}, {len(self.violations)} violations"
        lines = [
            f"seed {self.order.seed}: {len(self.stalls)} faults, {self.run_count} programs, {counts}",
        ]
        lines += [f"  {self.throughput}"] if self.throughput else []
        longest: dict[str, float] = {}
        for fault, stall_s in self.stalls:
            name = f"{fault.kind} {fault.victim}"
            longest[name] = max(stall_s, longest.get(name, 0.0))
        lines += [
            f"  longest pause after {name}: {pause_s:.1f} s" for name, pause_s in sorted(longest.items())
        ]
        return "\n".join([*lines, *(f"  VIOLATION {each}" for each in self.violations)])


def carry_out(order: Order, directory: Path, say: Callable[[str], None] = print) -> Report:
    """Run once.

    Args:
        order: what is wanted.
        directory: for all files of the run; must exist, with a short path.
        say: told what happens.
    Raises:
        NamespaceError: not allowed here.
    """
    report = Report(order)
    plan = make_plan(order.seed, order.scale)
    say(f"seed {order.seed}: {len(plan)} faults in {order.scale.duration_s:.0f} s, files in {directory}")
    with fault_cluster(directory, order.options) as cluster:
        with _observed(cluster) as looks:
            wait_until_up(cluster)
            work = Work(cluster, _rows(cluster, order))
            work.start()
            _wait_for_measure(work, order)
            say("faults begin")
            start_s = time.monotonic()
            injector = Injector(cluster, work, say)
            injector.run(plan, order.scale.duration_s)
            end_s = time.monotonic()
            report.violations += injector.ends.judge()
            work.finish()
            _judge_runs(report, work.runs)
            if order.calm_s:
                spans = [run.span() for run in work.runs]
                report.throughput = measure(spans, start_s, end_s, SIMPLE_KINDS)
            _judge_rest(report, cluster)
            report.resumed_count = _resumed_count(cluster)
        report.stalls = [(fault, _pause_s(looks, at_s)) for at_s, fault in injector.times]
        report.violations += cluster.stop()
        report.violations += cluster.leftovers()
    return report


def _rows(cluster: NamespaceCluster, order: Order) -> list[Iterator[Program]]:
    """Drivers on the master, and on nodes with a link between; none on the last node, which may be lost."""
    nodes = list(cluster.nodes)[:-1]
    engine = [engine_row(cluster, order.expected)] if order.expected else []
    simple = [
        simple_row(
            cluster,
            nodes[number % len(nodes)],
            sums=order.sums,
            megabytes=order.megabytes,
            first=number // len(nodes),
        )
        for number in range(order.session_count - len(engine))
    ]
    return [*simple, *engine]


def _wait_for_measure(work: Work, order: Order) -> None:
    """Let the work go on undisturbed for its time, and until each kind of program has been done."""
    kinds = {*SIMPLE_KINDS, *(ENGINE_KINDS if order.expected else ())}
    start_s = time.monotonic()
    while order.calm_s and (
        time.monotonic() - start_s < order.calm_s
        or not kinds <= {run.program.name for run in work.runs if run.is_over}
    ):
        time.sleep(0.1)


@contextlib.contextmanager
def _observed(cluster: NamespaceCluster) -> Iterator[list[tuple[float, int]]]:
    """The observer's looks, as they come."""
    looks: list[tuple[float, int]] = []
    command = [sys.executable, "-P", "-m", "tests.faults.harness.observer", str(cluster.state_dir(MASTER))]
    process = subprocess.Popen(
        cluster.network.inside(MASTER, command),
        env=cluster.environ(MASTER),
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )

    def read() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            at_s, done = line.split()
            looks.append((float(at_s), int(done)))

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    try:
        yield looks
    finally:
        process.kill()
        process.wait()
        thread.join()
        assert process.stdout is not None
        process.stdout.close()


def wait_until_up(cluster: NamespaceCluster) -> None:
    """Wait until every node can work.

    Raises:
        TimeoutError: that took too long.
    """
    end_s = time.monotonic() + UP_S
    while time.monotonic() < end_s:
        status = json.loads(call(cluster, "status", "--output", "json") or "{}")
        if status and all(node["state"].startswith("warm") for node in status["nodes"]):
            return
        time.sleep(0.2)
    raise TimeoutError(f"the cluster was not up after {UP_S:.0f} s; see {cluster.directory}")


def _judge_runs(report: Report, runs: list[Run]) -> None:
    report.run_count = len(runs)
    report.killed_count = sum(bool(run.hits) for run in runs)
    for run in runs:
        wrong = run.wrong if run.is_over else "it does not end"
        if wrong and run.has_no_journal:
            report.without_journal_count += 1
        elif wrong:
            report.violations.append(f"{run.program.name} on node {run.program.node}: {wrong}")
    if not any(not run.wrong for run in runs):
        report.violations.append("no program came to its end")


def _judge_rest(report: Report, cluster: NamespaceCluster) -> None:
    """Wait until nothing of any job is left, and say what is left in spite of that."""
    end_s = time.monotonic() + QUIET_S
    while True:
        left = _left_of_jobs(cluster)
        if not left:
            return
        if time.monotonic() > end_s:
            report.violations += left
            return
        time.sleep(0.2)


def _left_of_jobs(cluster: NamespaceCluster) -> list[str]:
    left = [
        f"process {pid} of an ended session on node {node}"
        for node in cluster.nodes
        for pid in children(cluster.network.pids(node))
    ]
    listing = call(cluster, "jobs", "list", "--limit", "1000", "--output", "json")
    if not listing:
        return [*left, "the dbserver does not answer"]
    jobs = json.loads(listing)
    # Not "created": of a driver that was killed while it asked for its job nobody knows that it is gone.
    left += [
        f"job {job['id']} is {job['state']}" for job in jobs if job["state"] in ("executing", "submitted")
    ]
    complete = {str(job["id"]) for job in jobs if job["state"] == "complete"}
    state_dir = cluster.state_dir(MASTER)
    journals = [path for path in state_dir.glob("journals/*/*.journal") if path.stem in complete]
    left += [f"journal {path} of a complete job" for path in journals]
    return left + [f"ticket {path} of a driver that has ended" for path in state_dir.glob("drivers/*")]


def _resumed_count(cluster: NamespaceCluster) -> int:
    """How often calculations went on."""
    jobs = json.loads(call(cluster, "jobs", "list", "--limit", "1000", "--output", "json") or "[]")
    return sum(job.get("resume_count", 0) for job in jobs)


def _pause_s(looks: list[tuple[float, int]], at_s: float, window_s: float = 40.0) -> float:
    """The longest time without a task done that began or went on within some seconds after a fault."""
    first = bisect.bisect_left(looks, (at_s, -2))
    last_s, last_done, longest_s = at_s, None, 0.0
    for look_s, done in looks[first:]:
        if done >= 0 and done != last_done:
            longest_s = max(longest_s, look_s - last_s)
            last_s, last_done = look_s, done
        if look_s > at_s + window_s:
            break
    return longest_s
