"""The work of a run: programs one after the other in each of some rows, and how each one ended."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from quakegrid import testing
from tests.engine.exports import find_differences
from tests.faults.harness.throughput import Span
from tests.support.clusters import QUAKEGRID
from tests.support.namespace_cluster import MASTER, REPOSITORY, NamespaceCluster

# What a program may take beyond the run: a minute's patience with the broker, and to be run once more.
END_S = 300.0
REFUSED_PAUSE_S = 0.5
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
        judge: says what is wrong after exit code 0.
        environ: beside the node's own.
    """

    name: str
    node: int
    command: Sequence[str]
    is_engine: bool = False
    judge: Callable[[], str] = str
    environ: dict[str, str] = field(default_factory=dict)


@dataclass
class Run:
    """A program that runs, or ran."""

    program: Program
    process: subprocess.Popen[str]
    row: int
    start_s: float
    end_s: float = 0.0
    excuse: str = ""
    wrong: str = ""

    @property
    def is_over(self) -> bool:
        """Whether it has ended and was judged."""
        return self.end_s > 0

    def span(self) -> Span:
        """For the throughput."""
        return Span(
            self.program.name,
            self.row,
            self.start_s,
            self.end_s,
            is_done=not self.wrong,
            was_killed=bool(self.wrong and self.excuse),
        )


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
        """Run it once; False if no service was there to begin with."""
        log = self._cluster.directory / "work.log"
        start_s = time.monotonic()
        with log.open("ab") as stderr:
            process = subprocess.Popen(
                self._cluster.network.inside(program.node, list(program.command)),
                env=self._cluster.environ(program.node) | program.environ,
                cwd=REPOSITORY,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=stderr if not program.is_engine else subprocess.STDOUT,
                text=True,
                start_new_session=True,
            )
        run = Run(program, process, row, start_s)
        with self._lock:
            self.runs.append(run)
        output = self._await(run)
        is_refused = program.is_engine and process.returncode == 3 and "job " not in output
        if is_refused:
            with self._lock:
                self.runs.remove(run)
            return False
        run.wrong = run.wrong or self._judge(run, output)
        with log.open("a", encoding="utf-8") as stream:
            stream.write(f"--- {program.name} {process.pid}: {process.returncode} {run.excuse}\n{output}\n")
        run.end_s = time.monotonic()
        return True

    def _await(self, run: Run) -> str:
        limit_s = END_S
        while True:
            try:
                return run.process.communicate(timeout=1.0)[0]
            except subprocess.TimeoutExpired:
                limit_s -= self._stopped.is_set()
            if limit_s <= 0:
                run.wrong = f"did not end within {END_S:.0f} s after the last fault"
                os.killpg(run.process.pid, 9)

    def _judge(self, run: Run, output: str) -> str:
        code = run.process.returncode
        if code == 0:
            return run.program.judge()
        lines = [line.strip() for line in output.splitlines() if line.strip()] or ["it said nothing"]
        return f"exit code {code}: {lines[-1]}"


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
        yield Program(work, node, [*start, work, str(sizes[work])])


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

    return Program(case, MASTER, command, is_engine=True, judge=judge)


def cluster_command(cluster: NamespaceCluster, *args: object) -> list[str]:
    """The command line of `quakegrid` on the master."""
    return [str(QUAKEGRID), "--state-dir", str(cluster.state_dir(MASTER)), *map(str, args)]
