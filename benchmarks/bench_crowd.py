"""A thousand real workers on one machine: how well they are used, what they cost, and what faults cost them.

`python -m benchmarks.bench_crowd [--agents 16] [--cores 64]`. The workers are real and load no engine; each
takes about 7 MB. Their tasks sleep. Prints one line a figure and ends with exit code 1 when one is short of
its target.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence

from benchmarks.crowd import bare, cluster, measures
from benchmarks.crowd.bare import Bare
from benchmarks.crowd.cluster import Crowd
from benchmarks.crowd.measures import Resting, Shared, Survived, Working
from benchmarks.support.figures import Figure
from benchmarks.support.records import report
from quakegrid.sdk.executor import ClusterExecutor

WORK_S = 20.0
REST_S = 10.0
SHARE_S = 10.0
BARE_S = 10.0
# What two cores carry: a task takes a millisecond of CPU in all.
QUARTER = 4
LEAST_PART, MOST_PART = 0.475, 0.525


def say(text: str) -> None:
    """What is being measured; the figures go to stdout."""
    print(text, file=sys.stderr, flush=True)


def measure(crowd: Crowd) -> list[Figure]:
    """All figures of one crowd."""
    begin_s = time.monotonic()
    with ClusterExecutor(crowd.settings, shows_output=False) as executor:
        say("all at work ...")
        working = measures.work(crowd, executor, crowd.worker_count, WORK_S)
        started_s = working.begin_s - begin_s
        few = crowd.worker_count // QUARTER
        say("a quarter of them at work ...")
        with ClusterExecutor(crowd.settings, few, shows_output=False) as small:
            small_working = measures.work(crowd, small, few, WORK_S)
        say("all at rest ...")
        resting = measures.rest(crowd, executor, REST_S)
        say("two jobs ...")
        shared = measures.share(crowd, executor, SHARE_S)
        say("a lane and a broker are killed ...")
        survived = measures.survive(crowd, executor)
    return [
        Figure(f"{crowd.worker_count} workers started, each has run a task", started_s, "s"),
        *work_figures(f"{crowd.worker_count} workers", working),
        *work_figures(f"{few} workers", small_working),
        *rest_figures(resting),
        *share_figures(shared),
        *fault_figures(survived),
    ]


def work_figures(who: str, working: Working) -> list[Figure]:
    """Figures of workers at work."""
    return [
        Figure(f"{who}, used of their time", 100 * working.utilisation, "%", at_least=95),
        Figure(f"{who}, tasks of 50 ms to 1 s", working.task_count / working.seconds, "/s"),
        *(Figure(f"{who}, CPU a task, {name}", working.cpu_us(name), "us") for name in working.used),
        Figure(f"{who}, CPU of the machine that is left", 100 * working.idle_part, "%"),
    ]


def bare_figures(who: str, found: Bare) -> list[Figure]:
    """What ZeroMQ alone takes of a task, beside which a crowd's figures stand."""
    parts = (("workers", found.workers), ("the process that gives naps", found.router))
    return [
        Figure(f"{who} of bare ZeroMQ, CPU a task, {name}", used.cpu_s / found.task_count * 1e6, "us")
        for name, used in parts
    ]


def rest_figures(resting: Resting) -> list[Figure]:
    """Figures of a crowd that waits."""
    parts = ((name, 100 * each.cpu_s / resting.seconds) for name, each in resting.used.items())
    return [
        Figure("idle: a worker wakes", resting.wakeups_hz, "/s", at_most=1.5),
        Figure("idle: CPU of all processes, of a core", 100 * resting.cores, "%", at_most=40),
        *(Figure(f"idle: CPU of the {name}, of a core", percent, "%") for name, percent in parts),
    ]


def share_figures(shared: Shared) -> list[Figure]:
    """Figures of two jobs."""
    bounds = {"at_least": LEAST_PART, "at_most": MOST_PART}
    return [
        Figure("two jobs, the second has its half after", shared.moved_s, "s"),
        Figure("two jobs, workers' time of the second", shared.worker_part, "", **bounds),
        Figure("two jobs, task time of the second", shared.task_part, "", **bounds),
    ]


def fault_figures(survived: Survived) -> list[Figure]:
    """Figures of a lane and a broker that were killed."""
    feeder = survived.feeder
    pauses = (("lane", survived.lane), ("broker", survived.broker))
    return [
        *(Figure(f"{name} killed, no result for", pause.silent_s, "s") for name, pause in pauses),
        *(
            Figure(f"{name} killed, all workers at work after", pause.recovered_s, "s", at_most=30)
            for name, pause in pauses
        ),
        Figure("tasks lost, or failed", feeder.lost_count + len(feeder.errors), "", at_most=0),
        Figure("results that came twice", feeder.repeated_delivery_count, "", at_most=0),
        Figure("tasks that ran twice", feeder.repeated_run_count, ""),
        Figure("workers lost", survived.lost_worker_count, "", at_most=0),
    ]


def main(argv: Sequence[str] | None = None) -> int:
    """Measure a crowd."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--agents", type=int, default=16)
    parser.add_argument("--cores", type=int, default=64, help="cores in which each agent believes")
    args = parser.parse_args(argv)
    count = args.agents * args.cores
    say("as many bare workers ...")  # before there are threads, as they are forked
    figures = bare_figures(f"{count} workers", bare.work(count, BARE_S))
    say("a crowd starts ...")
    with cluster.running_crowd(args.agents, args.cores) as crowd:
        return report("crowd", [*measure(crowd), *figures])


if __name__ == "__main__":
    sys.exit(main())
