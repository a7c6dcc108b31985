"""Our dbserver and upstream's DbServer of the installed engine, side by side on the same disk.

Logs (`side`), followers (`tails`), and a database with 50,000 jobs and ten million lines (`big`); without
arguments all. Takes some minutes; keep the machine quiet. Prints one line a figure and ends with exit code 1
when one is short of its target.
"""

from __future__ import annotations

import datetime
import json
import os
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from benchmarks.dbserver import size
from benchmarks.dbserver.sides import REPOSITORY, Ours, Upstream, peak_bytes
from benchmarks.support.figures import Figure
from benchmarks.support.records import chosen_parts, report
from quakegrid.clients.dbserver.client import DbClient
from quakegrid.clients.dbserver.log_sender import LogStream
from quakegrid.jobs.states import JobState
from quakegrid.jobs.values import LogLine

UPSTREAM_S = 6.0
OUR_LOG_S = 6.0
JOBS_S = 6.0
ROUNDS = 2
CLIENTS = 16
FOLLOWERS = 200
TAIL_S = 10.0
LINES_PER_SECOND = 5000
TICK_S = 0.01
MB = 1_000_000
LEVELS = {0: "OFF", 1: "NORMAL", 2: "FULL", 3: "EXTRA"}


def durability(path: Path) -> str:
    """How a database file is written, as a new connection of this Python would."""
    with sqlite3.connect(path) as connection:
        mode = connection.execute("PRAGMA journal_mode").fetchone()[0]
        level = connection.execute("PRAGMA synchronous").fetchone()[0]
    connection.close()
    return f"{mode.upper()}, synchronous={LEVELS[level]}"


def measure_side_by_side(root: Path) -> list[Figure]:
    """Log lines and job cycles per second, in turns."""
    ours, upstream = Ours(root / "ours"), Upstream(root / "upstream")
    rates: dict[tuple[str, str, int], list[float]] = {}
    with ours.running(), upstream.running():
        print(
            f"durability: upstream {durability(upstream.database)}, one commit a statement, "
            f"answered after it; ours {durability(ours.settings.database)}, answered after the commit",
            file=sys.stderr,
            flush=True,
        )
        jobs = {"upstream": upstream.new_job(), "ours": ours.new_job()}
        for _ in range(ROUNDS):
            for task, count in (("logs", 1), ("logs", CLIENTS), ("jobs", CLIENTS)):
                for side, server in (("upstream", upstream), ("ours", ours)):
                    seconds = UPSTREAM_S if side == "upstream" else OUR_LOG_S if task == "logs" else JOBS_S
                    rate = server.clients(side, task, count, seconds, jobs[side])
                    rates.setdefault((task, side, count), []).append(rate)
    rate = {key: median(values) for key, values in rates.items()}
    figures = []
    for task, count, what, factor in (
        ("logs", 1, "log lines, 1 producer", 20),
        ("logs", CLIENTS, f"log lines, {CLIENTS} producers", 20),
        ("jobs", CLIENTS, f"job cycles, {CLIENTS} clients", 3),
    ):
        theirs, own = rate[task, "upstream", count], rate[task, "ours", count]
        figures += [
            Figure(f"upstream: {what}", theirs, "/s"),
            Figure(f"quakegrid: {what}", own, "/s"),
            Figure(f"{what}: faster", own / theirs, "x", at_least=factor),
        ]
    return figures


def measure_tails(root: Path) -> list[Figure]:
    """From the making of a line to its arrival."""
    ours = Ours(root / "tails")
    figures = []
    with ours.running() as pid:
        for count in (1, FOLLOWERS):
            job_id = ours.new_job()
            p50, p99 = follow(ours, job_id, count)
            name = f"append to arrival, {count} follower{'s' * (count > 1)}"
            figures += [
                Figure(f"{name}: p50", p50 * 1000, "ms"),
                Figure(f"{name}: p99", p99 * 1000, "ms", at_most=50),
            ]
        figures.append(Figure(f"memory with {FOLLOWERS} followers", peak_bytes(pid) / MB, "MB", at_most=200))
    return figures


def follow(ours: Ours, job_id: int, count: int) -> tuple[float, float]:
    """Log at the wanted rate while `count` followers follow; returns latencies p50 and p99, in seconds."""
    print(f"followers: {count}", file=sys.stderr, flush=True)
    with DbClient(ours.settings) as client, LogStream(client, 1_000_000) as stream:
        client.logs.append_log(job_id, [line("the first")])
        followers = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.support.log_followers", str(count), str(job_id)],
            env=ours.environ,
            cwd=REPOSITORY,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert followers.stdout is not None
        assert followers.stdout.readline() == "ready\n"
        per_tick = int(LINES_PER_SECOND * TICK_S)
        start_s = time.monotonic()
        for tick in range(int(TAIL_S / TICK_S)):
            for number in range(per_tick):
                stream.append(job_id, line(f"line {tick * per_tick + number} of a calculation's log"))
            time.sleep(max(0.0, start_s + (tick + 1) * TICK_S - time.monotonic()))
        stream.flush(60)
        client.jobs.transition(job_id, JobState.COMPLETE)
        result = json.loads(followers.stdout.readline())
        followers.wait(60)
    expected = 1 + int(TAIL_S / TICK_S) * per_tick
    if set(result["lines"]) != {expected}:
        raise RuntimeError(f"followers got {set(result['lines'])} lines of {expected}")
    return result["p50"], result["p99"]


def line(message: str) -> LogLine:
    """A line made now."""
    return LogLine(datetime.datetime.now(datetime.UTC), "INFO", "MainProcess/1", message)


def main() -> int:
    """Measure, print, and say by the exit code whether every target is met."""
    measures = {"side": measure_side_by_side, "tails": measure_tails, "big": size.measure_big}
    chosen = chosen_parts(__doc__, measures)
    with tempfile.TemporaryDirectory(prefix="quakegrid-bench-", dir=os.environ.get("TMPDIR")) as root:
        return report("dbserver", (figure for name in chosen for figure in measures[name](Path(root))))


if __name__ == "__main__":
    sys.exit(main())
