"""The memory that this node and its workers use, read from /proc and the cgroup that limits the agent.

Reads files and decides nothing. A worker counts with the processes that it started.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from quakegrid.machine import process_stats
from quakegrid.services.agent.linux.user_rights import NO_RIGHTS, UserRights
from quakegrid.services.agent.rules.memory import NodeMemory, WorkerMemory
from quakegrid.services.agent.rules.roster import Member

PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_PART_BYTES = 4096
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def bounding_cgroups(proc: Path = Path("/proc"), mount: Path = Path("/sys/fs/cgroup")) -> tuple[Path, ...]:
    """Folders of our own cgroup and those above it; none where there is no cgroup version 2 for memory."""
    own = own_cgroup(proc, mount)
    if own is None:
        return ()
    return tuple(path for path in (own, *own.parents) if (path / "memory.max").exists())


def own_cgroup(proc: Path = Path("/proc"), mount: Path = Path("/sys/fs/cgroup")) -> Path | None:
    """The folder of our own cgroup of version 2, if there is one."""
    try:
        lines = (proc / "self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    for line in lines:
        if line.startswith("0::"):
            own = mount / line.removeprefix("0::").lstrip("/")
            # Where version 1 is mounted too, version 2 is mounted elsewhere and does not limit memory.
            return own if (own / "cgroup.controllers").exists() else None
    return None


@dataclass(frozen=True, slots=True)
class MemoryWatch:
    """Reads samples.

    Args:
        proc: where /proc is.
        cgroups: folders of the cgroups (version 2) that bound this process, if there are any.
        rights: of this process over other users.
    """

    proc: Path = Path("/proc")
    cgroups: tuple[Path, ...] = field(default_factory=bounding_cgroups)
    rights: UserRights = NO_RIGHTS

    def read(self, workers: Iterable[Member], template_pid: int) -> NodeMemory:
        """The memory of the node and of its workers. What they share with the template is not their own."""
        _resident, template_bytes = self._read_process(template_pid)
        template_stack = self._stack_start(template_pid)
        found = []
        for worker in workers:
            if not worker.pid:
                continue
            resident_bytes = own_bytes = 0
            with self.rights.reading(worker.pid):  # the kernel tells the stack to the owner only
                for pid in self._family(worker.pid):
                    resident, private = self._read_process(pid)
                    # A process that has started another program has another stack, and shares nothing with
                    # the template.
                    is_fork = pid == worker.pid or self._stack_start(pid) == template_stack
                    resident_bytes += resident
                    own_bytes += max(0, private - template_bytes) if is_fork else private
            found.append(WorkerMemory(worker.name, worker.session_id, resident_bytes, own_bytes))
        used_bytes, total_bytes = self.read_node()
        return NodeMemory(used_bytes, total_bytes, tuple(found))

    def read_node(self) -> tuple[int, int]:
        """Used and total bytes: of the machine, or of the cgroup that is fuller."""
        sizes = dict.fromkeys(("MemTotal", "MemAvailable"), 0)
        for line in (self.proc / "meminfo").read_text(encoding="ascii").splitlines()[:8]:
            name, _, rest = line.partition(":")
            if name in sizes:
                sizes[name] = int(rest.split()[0]) * 1024
        found = [(sizes["MemTotal"] - sizes["MemAvailable"], sizes["MemTotal"])]
        found += [bound for bound in map(_read_cgroup, self.cgroups) if bound]
        return max(found, key=lambda pair: pair[0] / pair[1])

    def cpu_s(self, pid: int) -> float:
        """CPU seconds that a process used; 0 when it is gone."""
        fields = process_stats.fields(pid, self.proc)
        ticks = fields[process_stats.USER_TICKS : process_stats.SYSTEM_TICKS + 1]
        return sum(map(int, ticks)) / TICKS_PER_S

    def _read_process(self, pid: int) -> tuple[int, int]:
        """Resident bytes of a process, and those that no file and no shared memory backs."""
        fields = self._read(f"{pid}/statm").split()
        if not fields:
            return 0, 0
        return int(fields[1]) * PAGE_BYTES, (int(fields[1]) - int(fields[2])) * PAGE_BYTES

    def _stack_start(self, pid: int) -> int:
        """Where the stack of a process begins: as in its parent, unless it has started another program."""
        fields = process_stats.fields(pid, self.proc)
        return int(fields[process_stats.STACK_START]) if fields else 0

    def _family(self, pid: int) -> Iterator[int]:
        """A process and those that its main thread started, and so on. Some kernels do not list these."""
        yield pid
        for child in self._read(f"{pid}/task/{pid}/children").split():
            yield from self._family(int(child))

    def _read(self, name: str) -> bytes:
        """The content of a file of /proc. Two a worker are read each time, so nothing else is asked of it."""
        try:
            fd = os.open(f"{self.proc}/{name}", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:  # it is gone, or not ours to read
            return b""
        try:
            return b"".join(iter(lambda: os.read(fd, _PART_BYTES), b""))
        except OSError:  # it ended just now
            return b""
        finally:
            os.close(fd)


def _read_cgroup(path: Path) -> tuple[int, int] | None:
    """Used and allowed bytes of a cgroup, without the file cache that it can drop; None if not bounded."""
    try:
        allowed = (path / "memory.max").read_text(encoding="ascii").strip()
        if not allowed.isdigit():  # "max"
            return None
        used = int((path / "memory.current").read_text(encoding="ascii"))
        lines = (path / "memory.stat").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    cache = next((int(line.split()[1]) for line in lines if line.startswith("inactive_file ")), 0)
    return max(0, used - cache), max(1, int(allowed))
