"""The work of a run: programs one after the other in each of some rows, and how each one ended.

A program that was killed is run again, and a calculation goes on by itself; where its command line was
killed, which aborts it, it is resumed as a person would do it. What cannot go on is a calculation whose log
says that it has no journal, as the disk was full.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from quakegrid import testing
from tests.engine.exports import find_differences
from tests.faults.harness.plan import Fault, Victim
from tests.faults.harness.throughput import Span
from tests.support.clusters import QUAKEGRID
from tests.support.namespace_cluster import MASTER, REPOSITORY, NamespaceCluster

# What a program may take beyond the run: a minute's patience with the broker, and to be run once more.
END_S = 300.0
REFUSED_PAUSE_S = 0.5
# A calculation that was killed is at work again after so long: its driver's hold ends after 30 s, and a new
# agent loads the engine first.
GO_ON_S = 180.0
LOOK_S = 1.0
CALL_S = 60.0
ENDED_BADLY = ("failed", "aborted")
NOT_AT_WORK = (*ENDED_BADLY, "created")
_JOB = re.compile(r"\bjob (\d+)\b")
SIMPLE_KINDS = ("sums", "parts", "blocks")
ENGINE_CASES = ("classical/case_01", "event_based/case_6", "event_based_risk/case_miriam")
ENGINE_KINDS = (*ENGINE_CASES, "starmap")
STARMAP = Path(__file__).with_name("starmap_program.py")


@dataclass(frozen=True)
class Program:
    """What is run.

    Args:
        name: for people.
        node: where.
        command: inside of the node.
        is_engine: whether its driver is another process, a child of the node's template.
        exports: of a calculation, which has a job; None for everything else.
        judge: says what is wrong after its end.
        environ: beside the node's own.
    """

    name: str
    node: int
    command: Sequence[str]
    is_engine: bool = False
    exports: Path | None = None
    judge: Callable[[], str] = str
    environ: dict[str, str] = field(default_factory=dict)


@dataclass
class Run:
    """A program that runs, or ran: perhaps several times, as it was killed."""

    program: Program
    process: subprocess.Popen[str]
    row: int
    start_s: float
    end_s: float = 0.0
    output: str = ""
    hits: list[Fault] = field(default_factory=list)
    # Hits that earlier tries of it had, if it is no calculation.
    seen_count: int = 0
    # Its command line was killed, which aborts a calculation: a person has to resume it.
    is_left: bool = False
    # The disk was full when it began: its log says that it cannot be resumed.
    has_no_journal: bool = False
    wrong: str = ""

    @property
    def is_over(self) -> bool:
        """Whether it has ended and was judged."""
        return self.end_s > 0

    @property
    def job_id(self) -> int | None:
        """Of a calculation that has said which job it is."""
        found = _JOB.search(self.output)
        return int(found[1]) if found else None

    def hit(self, fault: Fault) -> None:
        """A process of its own was killed, or its node was out of reach for too long."""
        self.hits.append(fault)
        self.is_left |= fault.victim is Victim.COMMAND_LINE

    def span(self) -> Span:
        """For the throughput."""
        return Span(self.program.name, self.row, self.start_s, self.end_s, is_done=not self.wrong)


class Work:
    """Rows of programs, each row one after the other until the time is over.

    Args:
        cluster: where they work.
        rows: endless.
    """

    def __init__(self, cluster: NamespaceCluster, rows: Sequence[Iterator[Program]]) -> None:
        self._cluster, self._rows = cluster, rows
        self._stopped = threading.Event()
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()
        self.runs: list[Run] = []

    def start(self) -> None:
        """Begin."""
        for number, row in enumerate(self._rows):
            thread = threading.Thread(target=self._work_through, args=(number, row), daemon=True)
            self._threads.append(thread)
            thread.start()

    def finish(self) -> None:
        """Begin nothing more, and wait for what runs."""
        self._stopped.set()
        for thread in self._threads:
            thread.join(2 * END_S)

    def running(self) -> list[Run]:
        """What runs now."""
        with self._lock:
            return [run for run in self.runs if not run.is_over]

    def _work_through(self, number: int, row: Iterator[Program]) -> None:
        for program in row:
            while not self._stopped.is_set() and not self._run(number, program):
                time.sleep(REFUSED_PAUSE_S)
            if self._stopped.is_set():
                return

    def _run(self, row: int, program: Program) -> bool:
        """Run it to its end; False if no service was there to begin with."""
        run = Run(program, self._start(program, program.command), row, time.monotonic())
        with self._lock:
            self.runs.append(run)
        self._await(run)
        is_refused = program.is_engine and run.process.returncode == 3 and run.job_id is None and not run.hits
        if is_refused:
            with self._lock:
                self.runs.remove(run)
            return False
        while not run.wrong and run.process.returncode != 0 and (command := self._next_command(run)):
            run.process = self._start(program, command)
            self._await(run)
        run.wrong = run.wrong or program.judge()
        with self._log.open("a", encoding="utf-8") as stream:
            hits = "".join(f"\n    {fault}" for fault in run.hits)
            stream.write(f"--- {program.name} {run.process.pid}: {run.wrong}{hits}\n{run.output}\n")
        run.end_s = time.monotonic()
        return True

    @property
    def _log(self) -> Path:
        return self._cluster.directory / "work.log"

    def _start(self, program: Program, command: Sequence[str]) -> subprocess.Popen[str]:
        with self._log.open("ab") as stderr:
            return subprocess.Popen(
                self._cluster.network.inside(program.node, list(command)),
                env=self._cluster.environ(program.node) | program.environ,
                cwd=REPOSITORY,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=stderr if not program.is_engine else subprocess.STDOUT,
                text=True,
                start_new_session=True,
            )

    def _await(self, run: Run) -> None:
        """Wait for the end of its process."""
        limit_s = END_S
        while True:
            try:
                run.output += run.process.communicate(timeout=1.0)[0]
            except subprocess.TimeoutExpired:
                limit_s -= self._stopped.is_set()
            else:
                return
            if limit_s <= 0:
                run.wrong = f"did not end within {END_S:.0f} s after the last fault"
                os.killpg(run.process.pid, 9)

    def _next_command(self, run: Run) -> Sequence[str]:
        """How a program goes on that has not ended well; nothing if it does not."""
        if len(run.hits) == run.seen_count:
            lines = [line.strip() for line in run.output.splitlines() if line.strip()] or ["it said nothing"]
            run.wrong = f"exit code {run.process.returncode}: {lines[-1]}"
            return ()
        if run.program.exports is not None and run.job_id is not None:
            return self._await_job(run, run.job_id)
        if run.program.exports is not None:
            shutil.rmtree(run.program.exports)
            run.program.exports.mkdir()
        run.seen_count, run.output = len(run.hits), ""
        return run.program.command

    def _await_job(self, run: Run, job_id: int) -> Sequence[str]:
        """Wait until a job is complete, or to be resumed by a person: then by which command."""
        bad_s, limit_s = time.monotonic(), END_S
        while True:
            text = call(self._cluster, "jobs", "show", job_id, "--output", "json")
            job = json.loads(text) if text else {"state": "not known: the dbserver does not answer"}
            if job["state"] == "complete":
                return ()
            if run.is_left and job["state"] in ENDED_BADLY:
                run.is_left = False
                return cluster_command(self._cluster, "resume", job_id)
            if job["state"] not in NOT_AT_WORK:
                bad_s = time.monotonic()
            limit_s -= LOOK_S * self._stopped.is_set()
            if time.monotonic() - bad_s > GO_ON_S or limit_s <= 0:
                log = call(self._cluster, "jobs", "logs", job_id).splitlines()
                why = [line for line in log if "not resumed" in line][-1:]
                run.wrong = (
                    f"job {job_id} is {job['state']} ({job.get('state_reason')}) and does not go on {why}"
                )
                return ()
            time.sleep(LOOK_S)


def call(cluster: NamespaceCluster, *args: object) -> str:
    """What a command of `quakegrid` says on the master; empty if it failed."""
    done = subprocess.run(
        cluster.command(MASTER, *args),
        env=cluster.environ(MASTER),
        capture_output=True,
        text=True,
        check=False,
        timeout=CALL_S,
    )
    return done.stdout if done.returncode == 0 else ""


def simple_row(
    cluster: NamespaceCluster, node: int, *, sums: int, megabytes: int, first: int = 0
) -> Iterator[Program]:
    """Programs without the engine.

    Args:
        cluster: where.
        node: of their drivers.
        sums: tasks of the work of small tasks.
        megabytes: of a large result.
        first: which kind is the first, so that rows beside each other are not all at the same one.
    """
    state_dir = str(cluster.state_dir(node))
    start = [sys.executable, "-P", "-m", "tests.faults.harness.program", state_dir]
    sizes = dict(zip(SIMPLE_KINDS, (sums, 8, megabytes), strict=True))
    for number in itertools.count(first):
        work = SIMPLE_KINDS[number % len(SIMPLE_KINDS)]
        journal = [] if work == "blocks" else [f"{work}-{first}-{number}"]  # blocks would fill the disk
        yield Program(work, node, [*start, work, str(sizes[work]), *journal])


def engine_row(cluster: NamespaceCluster, expected: dict[str, Path]) -> Iterator[Program]:
    """The engine's cases and a Starmap with subtasks, on the master.

    Args:
        cluster: where.
        expected: exports of the plain engine by case.
    """
    folder = cluster.directory / "modules"
    folder.mkdir()
    (folder / STARMAP.name).write_bytes(STARMAP.read_bytes())
    for number in itertools.count():
        for case in ENGINE_CASES:
            yield _case_program(cluster, case, cluster.directory / f"case{number}" / case, expected[case])
        yield Program(
            "starmap",
            MASTER,
            cluster_command(cluster, "oq", "shell", STARMAP.stem),
            is_engine=True,
            environ={"PYTHONPATH": f"{folder}:{REPOSITORY}"},
        )


def _case_program(cluster: NamespaceCluster, case: str, directory: Path, expected: Path) -> Program:
    testing.copy_engine_case(case, directory / "inputs")
    exports = directory / "exports"
    exports.mkdir()
    job_ini = directory / "inputs" / "job.ini"
    command = cluster_command(
        cluster, "run", job_ini, "--exports", "csv", "--export-dir", exports, "-p", "concurrent_tasks=4"
    )

    def judge() -> str:
        differences = find_differences(expected, exports)
        return f"exports differ: {differences[:3]}" if differences else ""

    return Program(case, MASTER, command, is_engine=True, exports=exports, judge=judge)


def cluster_command(cluster: NamespaceCluster, *args: object) -> list[str]:
    """The command line of `quakegrid` on the master."""
    return [str(QUAKEGRID), "--state-dir", str(cluster.state_dir(MASTER)), *map(str, args)]
