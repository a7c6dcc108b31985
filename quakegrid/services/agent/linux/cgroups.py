"""A cgroup (version 2) for each worker, with its memory limit, where the agent's own cgroup is delegated.

A cgroup is delegated if the agent may write to it, it has the memory controller, and the agent is the only
process in it, as with `Delegate=yes` in a systemd unit. Elsewhere this module does nothing, and RLIMIT_DATA
and the memory watch limit the workers.
"""

from __future__ import annotations

import contextlib
import logging
import os
from dataclasses import dataclass
from pathlib import Path

from quakegrid.services.agent.node.limits.memory_samples import own_cgroup
from quakegrid.services.agent.rules.memory import in_words

log = logging.getLogger("quakegrid.agent")
PREFIX = "worker-"


@dataclass(frozen=True, slots=True)
class WorkerCgroups:
    """The workers' cgroups.

    Args:
        parent: the agent's cgroup as `prepare` gave it; None if it is not delegated.
        memory_bytes: what each worker may have.
    """

    parent: Path | None
    memory_bytes: int

    def open(self, name: str) -> str:
        """Make a worker's cgroup; returns its folder, which the worker enters, or "" if it has none."""
        if self.parent is None:
            return ""
        folder = self.parent / (PREFIX + name)
        try:
            folder.mkdir()
            (folder / "memory.max").write_text(str(self.memory_bytes), encoding="ascii")
            (folder / "memory.oom.group").write_text("1", encoding="ascii")
        except OSError as exc:
            log.warning("cgroup_refused worker=%s reason=%s", name, exc)
            return ""
        return str(folder)

    def close(self, name: str) -> str:
        """Remove a dead worker's cgroup; returns why the kernel killed a process in it, or ""."""
        if self.parent is None:
            return ""
        folder = self.parent / (PREFIX + name)
        try:
            events = (folder / "memory.events").read_text(encoding="ascii").splitlines()
        except OSError:
            return ""  # it has none
        _remove(folder)
        if not any(line.startswith("oom_kill ") and line != "oom_kill 0" for line in events):
            return ""
        return f"stopped by the kernel at [agent] worker_memory ({in_words(self.memory_bytes)})"


def prepare(memory_bytes: int, own: Path | None = None) -> WorkerCgroups:
    """Prepare the agent's cgroup to hold those of workers, if it is delegated and workers have a limit."""
    own = own or own_cgroup()
    if memory_bytes == 0 or own is None or not _is_delegated(own):
        return WorkerCgroups(None, memory_bytes)
    try:
        # A cgroup with processes of its own cannot hand on its controllers.
        (own / "agent").mkdir(exist_ok=True)
        (own / "agent" / "cgroup.procs").write_text(str(os.getpid()), encoding="ascii")
        (own / "cgroup.subtree_control").write_text("+memory", encoding="ascii")
    except OSError as exc:
        log.warning("cgroup_unusable folder=%s reason=%s", own, exc)
        return WorkerCgroups(None, memory_bytes)
    for left in own.glob(f"{PREFIX}*/"):
        _remove(left)
    return WorkerCgroups(own, memory_bytes)


def enter(folder: str) -> None:
    """Move this process into a cgroup of `WorkerCgroups.open`.

    Raises:
        OSError: it is gone, or not ours.
    """
    if folder:
        Path(folder, "cgroup.procs").write_text("0", encoding="ascii")


def _remove(folder: Path) -> None:
    """Remove the cgroup of a dead worker, and kill the processes in it that the worker started."""
    kill = folder / "cgroup.kill"
    with contextlib.suppress(OSError):
        if kill.exists():  # since Linux 5.14
            kill.write_text("1", encoding="ascii")
    try:
        folder.rmdir()
    except OSError as exc:  # its processes are not gone yet: the next agent removes it
        log.warning("cgroup_left folder=%s reason=%s", folder, exc)


def _is_delegated(own: Path) -> bool:
    try:
        controllers = (own / "cgroup.controllers").read_text(encoding="ascii").split()
        members = (own / "cgroup.procs").read_text(encoding="ascii").split()
    except OSError:
        return False
    return (
        "memory" in controllers
        and (own / "memory.max").exists()
        and members == [str(os.getpid())]
        and os.access(own / "cgroup.procs", os.W_OK)
        and os.access(own / "cgroup.subtree_control", os.W_OK)
    )
