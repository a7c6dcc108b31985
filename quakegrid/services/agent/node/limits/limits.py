"""The limits of workers on this node, memory and niceness, and the measurements that they depend on.

Once a second it takes a sample and applies the rules for memory and for stopped workers to it. It asks the
agent to kill workers, and kills none itself. Runs in the agent's event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from quakegrid.api.v1 import nodes_pb2
from quakegrid.machine.open_files import FileNeeds
from quakegrid.services.agent.linux import cgroups, processes
from quakegrid.services.agent.linux.user_rights import NO_RIGHTS, UserRights
from quakegrid.services.agent.node.limits.memory_samples import MemoryWatch
from quakegrid.services.agent.rules.memory import MemoryRules, NodeMemory
from quakegrid.services.agent.rules.roster import Member, Roster
from quakegrid.services.agent.rules.stopped_workers import StoppedWorkers
from quakegrid.settings.config import Settings

log = logging.getLogger("quakegrid.agent")
SAMPLE_S = 1.0
MEBIBYTE = 1 << 20
# Pipes for what a worker prints, and what is open for a moment when it starts.
FILES_A_CORE = 4


@dataclass(frozen=True, slots=True)
class WorkerLimits:
    """What one worker may use; `cgroup` is the folder of its cgroup, empty if it has none."""

    cores: tuple[int, ...]
    memory_bytes: int
    nice: int
    cgroup: str


class NodeLimits:
    """The limits of one node.

    Args:
        settings: of the cluster.
        node: its name.
        roster: the workers.
        template_pid: tells the template's process id, 0 if there is none.
        rights: of this process over other users.
    """

    def __init__(
        self,
        settings: Settings,
        node: str,
        roster: Roster,
        template_pid: Callable[[], int],
        rights: UserRights = NO_RIGHTS,
    ) -> None:
        limits = settings.agent_limits
        self._roster, self._template_pid = roster, template_pid
        self._nice, self._memory_bytes = limits.nice, settings.agent_memory_bytes
        self.cores_per_worker = min(limits.cores_per_worker, len(roster.cores))
        self._rules = MemoryRules(node, limits.soft_percent, limits.hard_percent, self._memory_bytes)
        self._stopped = StoppedWorkers(limits.stopped_timeout_s, SAMPLE_S)
        self._cgroups = cgroups.prepare(self._memory_bytes)
        FileNeeds("the pipes of the workers", FILES_A_CORE).look(len(roster.cores))
        self._watch = MemoryWatch(
            rights=rights
        )  # after `prepare`, which moves this process into another cgroup
        self._memory = NodeMemory(0, 1, ())

    async def watch(self, kill: Callable[[str, str], None], on_change: Callable[[], None]) -> None:
        """Look at the memory and at the workers every second, for ever.

        Args:
            kill: kills the worker of this name, for this reason.
            on_change: called when the node became short of memory, or has some again.
        """
        while True:
            was_short = self._rules.is_short
            # After a failed sample the last one stays for callers of `describe`. It may name workers that are
            # gone, so the rules do not get it.
            by_memory = self._rules.handle(self._memory) if self._sample() else ()
            stopped = [each.name for each in self._roster.workers if processes.is_stopped(each.pid)]
            for action in (*by_memory, *self._stopped.handle(stopped)):
                kill(action.name, action.reason)
            if self._rules.is_short != was_short:
                on_change()
            await asyncio.sleep(SAMPLE_S)

    def open_worker(self, member: Member) -> WorkerLimits:
        """The limits of a worker; called once, before the worker is forked."""
        cgroup = self._cgroups.open(member.name)
        return WorkerLimits(member.cores, self._memory_bytes, self._nice, cgroup)

    def close_worker(self, member: Member) -> str:
        """Forget a dead worker; returns in words which limit ended it, or ""."""
        return self._cgroups.close(member.name) or member.stop_reason

    def describe(self, status: nodes_pb2.AgentStatus, *, with_samples: bool) -> None:
        """Write the limits into a status; `with_samples` adds the memory and CPU time in use."""
        status.cores_per_worker = self.cores_per_worker
        status.is_short_of_memory = self._rules.is_short
        if not with_samples:
            return
        self._sample()
        status.memory_used_bytes = self._memory.used_bytes
        status.memory_total_bytes = self._memory.total_bytes
        with contextlib.suppress(OSError):
            status.load_average = os.getloadavg()[0]
        resident = {worker.name: worker.resident_bytes for worker in self._memory.workers}
        for worker in status.workers:
            worker.resident_bytes = resident.get(worker.worker_id, 0)
            worker.cpu_s = self._watch.cpu_s(worker.pid) if worker.pid else 0.0

    def sample(self) -> nodes_pb2.NodeSample:
        """Memory and load of the node, as `watch` saw them last; rounded, since nobody looks closer."""
        memory = self._memory
        found = nodes_pb2.NodeSample(
            memory_used_bytes=memory.used_bytes & -MEBIBYTE,
            memory_total_bytes=memory.total_bytes & -MEBIBYTE,
            soft_percent=self._rules.soft_percent,
            hard_percent=self._rules.hard_percent,
        )
        own_bytes = Counter[int]()
        for worker in memory.workers:
            own_bytes[worker.session_id] += worker.own_bytes
        for session_id, size in sorted(own_bytes.items()):
            found.sessions.add(session_id=session_id, own_bytes=size & -MEBIBYTE)
        with contextlib.suppress(OSError):
            found.load_average = round(os.getloadavg()[0], 1)
        return found

    def _sample(self) -> bool:
        """Take a sample of the memory. Without a free descriptor, keep the last sample and return False."""
        try:
            self._memory = self._watch.read(self._roster.workers, self._template_pid())
        except OSError as exc:
            log.warning("memory_not_read reason=%s", exc)
            return False
        return True
