"""Our dbserver and upstream's DbServer of the installed engine, side by side on the same disk.

Logs, jobs, followers, and a database with ten million lines. Takes some minutes; keep the machine quiet.
Prints one line a figure and ends with exit code 1 when one is short of its target.
"""

from __future__ import annotations

import datetime
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

from benchmarks.support.figures import Figure, report
from quakegrid import testing
from quakegrid.clients.dbserver.client import DbClient
from quakegrid.clients.dbserver.log_sender import LogStream
from quakegrid.jobs.states import JobState
from quakegrid.jobs.values import LogLine
from quakegrid.machine import service_files
from quakegrid.settings import config
from quakegrid.settings.config import Settings

UPSTREAM_S = 6.0
OUR_LOG_S = 6.0
JOBS_S = 6.0
ROUNDS = 2
CLIENTS = 16
FOLLOWERS = 200
TAIL_S = 10.0
LINES_PER_SECOND = 5000
TICK_S = 0.01
BIG_LINES = 10_000_000
BIG_JOBS = 1000
CALLS = 50
START_TIMEOUT_S = 60.0
MB = 1_000_000
LEVELS = {0: "OFF", 1: "NORMAL", 2: "FULL", 3: "EXTRA"}
REPOSITORY = Path(__file__).parents[1]


class Server:
    """A dbserver process, ours or upstream's, with a directory of its own."""

    def __init__(self, root: Path, environ: dict[str, str], command: list[str]) -> None:
        self.environ = environ
        self._command = command
        self._log = root / "log.txt"

    @contextmanager
    def up(self, is_ready: Callable[[], bool]) -> Iterator[int]:
        """It runs inside of this; gives its process id."""
        with self._log.open("wb") as log:
            process = subprocess.Popen(
                self._command, env=self.environ, cwd=REPOSITORY, stdout=log, stderr=subprocess.STDOUT
            )
        try:
            end_s = time.monotonic() + START_TIMEOUT_S
            while not is_ready():
                if process.poll() is not None or time.monotonic() > end_s:
                    raise RuntimeError(self._log.read_text(encoding="utf-8", errors="replace")[-2000:])
                time.sleep(0.05)
            yield process.pid
        finally:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def clients(self, side: str, task: str, count: int, seconds: float, job_id: int) -> float:
        """Run clients of this server; returns what they got done per second."""
        print(f"{side}: {task}, clients: {count}", file=sys.stderr, flush=True)
        arguments = map(str, (side, task, count, seconds, job_id))
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.support.dbserver_clients", *arguments],
            env=self.environ,
            cwd=REPOSITORY,
            stdout=subprocess.PIPE,
            check=True,
        )
        result = json.loads(done.stdout.splitlines()[-1])
        return float(result["count"] / result["seconds"])


class Ours(Server):
    """Our dbserver."""

    def __init__(self, root: Path) -> None:
        root.mkdir()
        path = testing.write_cluster_config(root / "state")
        environ = testing.isolated_environ(root) | {"OQ_CONFIG_FILE": str(path)}
        super().__init__(
            root,
            environ,
            [sys.executable, "-m", "services.dbserver", "--state-dir", str(root / "state")],
        )
        self.settings: Settings = config.load_settings(root / "state", {"OQ_CONFIG_FILE": str(path)})
        # Clients read the same file without --state-dir.
        self.environ["QUAKEGRID_STATE_DIR"] = str(root / "state")

    @contextmanager
    def running(self) -> Iterator[int]:
        """As `up`."""
        with self.up(lambda: service_files.read(self.settings, "dbserver") is not None) as pid:
            yield pid

    def new_job(self) -> int:
        """The id of a new job."""
        with DbClient(self.settings) as client:
            return client.jobs.create_job(
                data_dir="/tmp", calculation_mode="classical", description="logs", user_name="bench"
            ).id


class Upstream(Server):
    """The DbServer of the installed engine."""

    def __init__(self, root: Path) -> None:
        root.mkdir()
        self._port = testing.free_ports(1)[0]
        self.database = root / "db.sqlite3"
        path = root / "openquake.cfg"
        # The engine takes 127.0.0.1 as "no server".
        path.write_text(
            f"[dbserver]\nhost = localhost\nport = {self._port}\nfile = {self.database}\n"
            f"[zworkers]\nhost_cores = 127.0.0.1 1\nctrl_port = {self._port + 1}\n"
        )
        environ = testing.isolated_environ(root) | {"OQ_CONFIG_FILE": str(path)}
        run = f"dbserver.run_server('127.0.0.1:{self._port}', 'ERROR', True)"
        start = f"from openquake.server import dbserver; {run}"
        super().__init__(root, environ, [sys.executable, "-c", start])

    @contextmanager
    def running(self) -> Iterator[int]:
        """As `up`."""

        def is_ready() -> bool:
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", self._port)) == 0

        with self.up(is_ready) as pid:
            yield pid

    def new_job(self) -> int:
        """The id of a new job."""
        code = "from openquake.commonlib.logs import dbcmd; print(dbcmd('create_job', '/tmp'))"
        done = subprocess.run(
            [sys.executable, "-c", code], env=self.environ, stdout=subprocess.PIPE, check=True
        )
        return int(done.stdout.split()[-1])


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


def measure_big(root: Path) -> list[Figure]:
    """Reading from a database with many lines."""
    ours = Ours(root / "big")
    with ours.running():
        pass
    print(f"filling a database with {BIG_LINES} lines", file=sys.stderr, flush=True)
    fill(ours.settings.database)
    with ours.running() as pid, DbClient(ours.settings) as client:
        client.jobs.get_job(1)
        last = timed(lambda: len(list(client.logs.list_log(1, tail_count=100))) == 100)
        other = timed(lambda: len(list(client.logs.list_log(BIG_JOBS, tail_count=100))) == 100)
        listing = timed(lambda: len(client.jobs.list_jobs(limit=50)) == 50)
        count = sum(1 for _ in client.logs.slice_log(1, 0, 200_000))
        assert count == 200_000
        memory = peak_bytes(pid)
    size = ours.settings.database.stat().st_size
    return [
        Figure("10 million lines: size of the file", size / MB, "MB"),
        Figure("10 million lines: last 100 of a long log", last * 1000, "ms", at_most=10),
        Figure("10 million lines: last 100 of a short log", other * 1000, "ms", at_most=10),
        Figure("10 million lines: list of 50 jobs", listing * 1000, "ms", at_most=10),
        Figure("10 million lines: memory", memory / MB, "MB", at_most=200),
    ]


def fill(path: Path) -> None:
    """Jobs and lines; half of the lines are job 1's, the others are spread over all jobs."""
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA journal_mode = OFF")
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("PRAGMA cache_size = -200000")
        # An index that is made at the end takes a fraction of the time.
        [index] = connection.execute("SELECT sql FROM sqlite_master WHERE name = 'log_job_id'").fetchone()
        connection.execute("DROP INDEX log_job_id")
        connection.execute(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?) "
            "INSERT INTO job (id, description, user_name, calculation_mode, status, is_running, ds_calc_dir) "
            "SELECT i, 'job ' || i, 'bench', 'classical', 'complete', 0, '/tmp/calc_' || i FROM n",
            [BIG_JOBS],
        )
        connection.execute(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?) "
            "INSERT INTO log (job_id, timestamp, level, process, message) "
            "SELECT CASE WHEN i % 2 THEN 1 ELSE 1 + i / 2 % ? END, '2026-01-01 00:00:00.123456', 'INFO', "
            "'MainProcess/4711', 'Sent 312 classical tasks, 24.31 KB, received ' || i FROM n",
            [BIG_LINES, BIG_JOBS],
        )
        connection.execute(index)
    connection.close()


def timed(call: Callable[[], bool]) -> float:
    """The median time of a call, in seconds; the first one is not counted."""
    times = []
    for _ in range(CALLS + 1):
        start_s = time.perf_counter()
        assert call()
        times.append(time.perf_counter() - start_s)
    return median(times[1:])


def peak_bytes(pid: int) -> int:
    """The most memory that a process had in use."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    [line_] = [line_ for line_ in status.splitlines() if line_.startswith("VmHWM")]
    return int(line_.split()[1]) * 1024


def main() -> int:
    """Measure, print, and say by the exit code whether every target is met."""
    parts = {"side": measure_side_by_side, "tails": measure_tails, "big": measure_big}
    chosen = sys.argv[1:] or list(parts)
    with tempfile.TemporaryDirectory(prefix="quakegrid-bench-", dir=os.environ.get("TMPDIR")) as root:
        return report(figure for name in chosen for figure in parts[name](Path(root)))


if __name__ == "__main__":
    sys.exit(main())
