"""The agent's figures: how fast a killed worker is replaced.

`python benchmarks/bench_agent.py replace [--kills N] [--preload none]` kills workers in the middle of their
tasks. Prints one line a figure and ends with exit code 1 when one is short of its target. Keep the machine
quiet.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import math
import os
import signal
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.figures import Figure, report
from quakegrid import LocalCluster

REPLACE_LIMIT_S = 0.5
WAIT_S = 60.0


def tell_and_wait(door: str, number: int) -> int:
    """Tell that we run, by which process and since when; end when we are allowed to."""
    start_s = time.monotonic()  # the same clock in all processes of a machine
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as knock:
        own = f"{door}-{number}-{os.getpid()}"
        knock.bind(own)
        knock.sendto(f"{os.getpid()} {start_s}".encode(), door)
        knock.recv(1)
    Path(own).unlink()
    return number


def measure_replacements(kill_count: int, preload: str) -> list[float]:
    """Seconds from each kill until the task runs again, on a new worker."""
    durations_s = []
    with (
        contextlib.redirect_stderr(io.StringIO()),  # where each death is told
        tempfile.TemporaryDirectory() as folder,
        LocalCluster(preload=preload) as cluster,
        cluster.executor() as executor,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener,
    ):
        door = f"{folder}/door"
        listener.bind(door)
        listener.settimeout(WAIT_S)
        for number in range(kill_count):
            task = executor.submit_weighted(1.0, tell_and_wait, door, number)
            victim = int(listener.recv(100).split()[0])
            kill_s = time.monotonic()
            os.kill(victim, signal.SIGKILL)
            message, sender = listener.recvfrom(100)
            durations_s.append(float(message.split()[1]) - kill_s)
            listener.sendto(b".", sender)
            if task.result(WAIT_S) != number:
                raise RuntimeError("a task has the result of another")
    return durations_s


def replace(kill_count: int, preload: str) -> list[Figure]:
    """Figures of workers that are killed."""
    durations_s = sorted(measure_replacements(kill_count, preload))
    p99_s = durations_s[math.ceil(0.99 * len(durations_s)) - 1]
    return [
        Figure("killed worker replaced, task runs again, p50", statistics.median(durations_s), "s"),
        Figure("killed worker replaced, task runs again, p99", p99_s, "s", at_most=REPLACE_LIMIT_S),
        Figure("killed worker replaced, task runs again, most", durations_s[-1], "s"),
    ]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the parts that were asked for."""
    parts: dict[str, Callable[[argparse.Namespace], list[Figure]]] = {
        "replace": lambda args: replace(args.kills, args.preload)
    }
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[*parts, []], help="all, if none is named")
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--preload", choices=["openquake", "none"], default="openquake")
    args = parser.parse_args(argv)
    return report([figure for name in args.parts or parts for figure in parts[name](args)])


if __name__ == "__main__":
    sys.exit(main())
