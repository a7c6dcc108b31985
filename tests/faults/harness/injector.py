"""Does what a plan says: kills, stops, cuts, slows, fills and restarts, and mends it again after its time."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from quakegrid.machine import process_stats
from tests.faults.harness.endings import Endings
from tests.faults.harness.plan import Fault, Kind, Victim, Way
from tests.faults.harness.services import NODE_TIMEOUT_S
from tests.faults.harness.work import Run, Work
from tests.support.namespace_cluster import MASTER, NamespaceCluster

TEMPLATE = "quakegrid.services.agent.template"
LANE = "quakegrid.services.lane"
OBSERVER = "tests.faults.harness.observer"
FILLER = "filler"
# Of restarts of a template.
FORCED_SHARE = 0.5
RESTART_S = 60.0
# A link that is whole for less than this between two cuts may be too short for a driver to come back.
COME_BACK_S = 5.0


class Outages:
    """For how long nodes are out of reach, with cuts that follow each other closely taken as one."""

    def __init__(self) -> None:
        self._spans: dict[int, tuple[float, float]] = {}

    def add_cut(self, node: int, now_s: float, duration_s: float) -> float:
        """Note a cut that begins; returns how long the node is out of reach at least, up to its end."""
        begin_s, end_s = self._spans.get(node, (now_s, now_s))
        if now_s > end_s + COME_BACK_S:
            begin_s = now_s
        self._spans[node] = begin_s, max(end_s, now_s + duration_s)
        return self._spans[node][1] - begin_s


class Injector:
    """Carries out faults on a cluster.

    Args:
        cluster: to break.
        work: whose programs are told when their own processes are killed.
        say: told of each fault.
    """

    def __init__(self, cluster: NamespaceCluster, work: Work, say: Callable[[str], None]) -> None:
        self._cluster, self._work, self._say = cluster, work, say
        self._timers: list[threading.Thread] = []
        self.ends = Endings(cluster)
        self._fillers = 0
        self.times: list[tuple[float, Fault]] = []
        self._outages, self._outages_lock = Outages(), threading.Lock()

    def run(self, plan: Iterable[Fault], duration_s: float) -> None:
        """Carry out all of it in its time, and wait until everything is mended."""
        start_s = time.monotonic()
        try:
            for fault in plan:
                time.sleep(max(0.0, start_s + fault.at_s - time.monotonic()))
                self._inject(fault)
            time.sleep(max(0.0, start_s + duration_s - time.monotonic()))
        finally:
            for timer in self._timers:
                timer.join()

    def _inject(self, fault: Fault) -> None:
        match fault.kind:
            case Kind.KILL:
                target = self._signal(fault, signal.SIGKILL)
            case Kind.STOP | Kind.SUSPEND:
                target = self._signal(fault, signal.SIGSTOP)
            case Kind.RESTART:
                target = self._restart_template(fault)
            case Kind.CUT_END | Kind.CUT_ABORT:
                target = self._cut_around_end(fault)
            case Kind.FREEZE:
                target = self._freeze(fault)
            case Kind.CUT | Kind.SLOW:
                target = self._disturb_link(fault)
            case Kind.FILL:
                target = self._fill(fault)
        self.times.append((time.monotonic(), fault))
        self._say(f"{fault}{f': {target}' if target else ': there is none'}")

    def _later(self, delay_s: float, mend: Callable[[], None]) -> None:
        timer = threading.Timer(delay_s, mend)
        timer.start()
        self._timers.append(timer)

    # --- processes

    def _signal(self, fault: Fault, number: signal.Signals) -> str:
        if fault.victim is Victim.NODE:
            return self._kill_node(fault)
        victims = self._victims(fault)
        if not victims:
            return ""
        pid = victims[int(fault.pick * len(victims))]
        if number == signal.SIGKILL:
            self._note_hits(fault, pid)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
        if fault.kind is Kind.STOP:
            self._later(fault.duration_s, lambda: _continue([pid]))
        return f"process {pid}"

    def _kill_node(self, fault: Fault) -> str:
        """Kill what runs there at once, but for who watches."""
        pids = [pid for pid in self._cluster.network.pids(fault.node) if OBSERVER not in command_line(pid)]
        for run in self._work.running():
            if run.program.node == fault.node:
                run.hit(fault)
        for number in (signal.SIGSTOP, signal.SIGKILL):  # nobody sees another one die
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)
        return f"{len(pids)} processes"

    def _freeze(self, fault: Fault) -> str:
        pids = self._cluster.network.pids(fault.node)
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)
        self._later(fault.duration_s, lambda: _continue(pids))
        return f"{len(pids)} processes"

    def _victims(self, fault: Fault) -> list[int]:
        nodes = self._cluster.nodes if fault.node < 0 else [fault.node]
        forked = [pid for node in nodes for pid in children(self._cluster.network.pids(node))]
        match fault.victim:
            case Victim.AGENT | Victim.BROKER | Victim.DBSERVER:
                node = fault.node if fault.victim is Victim.AGENT else MASTER
                process = self._cluster.services[fault.victim.value, node].process
                return [process.pid] if process and process.poll() is None else []
            case Victim.TEMPLATE:
                pids = self._cluster.network.pids(fault.node)
                mine = [pid for pid in pids if TEMPLATE in command_line(pid)]
                return [pid for pid in mine if _parent(pid) not in mine]
            case Victim.LANE:
                return [pid for pid in self._cluster.network.pids(MASTER) if LANE in command_line(pid)]
            case Victim.WORKER:
                return [pid for pid in forked if _is_worker(pid)]
            case Victim.DRIVER:
                programs = [run.process.pid for run in self._work.running() if not run.program.is_engine]
                return programs + [pid for pid in forked if not _is_worker(pid)]
            case _:
                return [run.process.pid for run in self._work.running() if run.program.is_engine]

    def _note_hits(self, fault: Fault, pid: int) -> None:
        """Tell those whose own processes are killed, and nobody else."""
        for run in self._work.running():
            if self._is_hit(run, fault, pid):
                run.hit(fault)

    def _is_hit(self, run: Run, fault: Fault, pid: int) -> bool:
        if run.process.pid == pid:
            return True
        is_above = fault.victim in (Victim.AGENT, Victim.TEMPLATE) and fault.node == run.program.node
        return run.program.is_engine and (is_above or fault.victim is Victim.DRIVER)

    # --- links and disks

    def _disturb_link(self, fault: Fault) -> str:
        def disturb(*, is_on: bool) -> None:
            if fault.kind is Kind.SLOW:
                self._cluster.network.slow(fault.node, is_slow=is_on)
            else:
                self._cut(fault.node, fault.way, is_cut=is_on)

        if fault.kind is Kind.CUT:
            self._note_outage(fault, fault.node)
        disturb(is_on=True)
        self._later(fault.duration_s, lambda: disturb(is_on=False))
        return "its link"

    def _note_outage(self, fault: Fault, node: int) -> None:
        """Tell programs of a node that cuts after one another keep out of reach for too long."""
        with self._outages_lock:
            outage_s = self._outages.add_cut(node, time.monotonic(), fault.duration_s)
        if outage_s >= NODE_TIMEOUT_S:
            for run in self._work.running():
                if run.program.node == node:
                    run.hit(fault)

    def _cut(self, node: int, way: Way, *, is_cut: bool) -> None:
        others = [other for other in self._cluster.nodes if other != node]
        out = [(node, other) for other in others]
        inward = [(other, node) for other in others]
        for source, target in {Way.OUT: out, Way.IN: inward, Way.BOTH: out + inward}[way]:
            self._cluster.network.cut(source, target, is_cut=is_cut)

    def _cut_around_end(self, fault: Fault) -> str:
        """Start a program in the background, and cut its link when it has workers beyond one."""
        how = "abort" if fault.kind is Kind.CUT_ABORT else "end"

        def end() -> None:
            with self.ends.started(how) as ending:
                nodes = ending.wait_for_nodes()
                if not nodes:
                    self._say(f"{fault}: it got no worker beyond a link")
                    return
                node = nodes[int(fault.pick * len(nodes))]
                self._note_outage(fault, node)
                self._cut(node, fault.way, is_cut=True)
                try:
                    ending.tell()
                    time.sleep(fault.duration_s)
                finally:
                    self._cut(node, fault.way, is_cut=False)
                self._say(f"{fault}: link of node {node} is whole again")

        thread = threading.Thread(target=end)
        thread.start()
        self._timers.append(thread)
        return "a program of its own"

    def _restart_template(self, fault: Fault) -> str:
        """Have `agentctl` do it, in the background; the agent may be gone."""
        how = ["--force"] if fault.pick < FORCED_SHARE else []
        process = self._cluster.start_agentctl(fault.node, "restart", *how)

        def finish() -> None:
            try:
                process.wait(RESTART_S)
            except subprocess.TimeoutExpired:  # it waits for workers, which others hold
                process.kill()
                process.wait()

        thread = threading.Thread(target=finish)
        thread.start()
        self._timers.append(thread)
        return " ".join(["agentctl restart", *how])

    def _fill(self, fault: Fault) -> str:
        self._fillers += 1
        path = self._cluster.state_dir(MASTER) / f"{FILLER}{self._fillers}"
        _fill(path)
        self._later(fault.duration_s, lambda: path.unlink(missing_ok=True))
        return str(path)


def command_line(pid: int) -> str:
    """What a process was started as."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def children(pids: Iterable[int]) -> list[int]:
    """Workers and drivers among some processes: the children of templates."""
    mine = [pid for pid in pids if TEMPLATE in command_line(pid)]
    return [pid for pid in mine if _parent(pid) in mine]


def _parent(pid: int) -> int:
    fields = process_stats.fields(pid)
    return int(fields[process_stats.PARENT]) if fields else 0


def _is_worker(pid: int) -> bool:
    """Workers are pinned to one core; drivers are not."""
    try:
        return len(os.sched_getaffinity(pid)) == 1
    except ProcessLookupError:
        return False


def _continue(pids: Iterable[int]) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def _fill(path: Path) -> None:
    with contextlib.suppress(OSError), path.open("wb", buffering=0) as filler:
        while True:
            filler.write(bytes(1 << 16))
