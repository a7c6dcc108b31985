"""How `agentctl status` shows a node: a few lines for it, then its workers, or their sessions. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from quakegrid.clients.agent import AgentStatus, WorkerStatus
from quakegrid.services.agent.rules.memory import in_words

# Up to this many workers have a line each; with more, each session has a line.
MAX_LINES = 16


def summary(status: AgentStatus) -> dict[str, Any]:
    """The node in a few lines."""
    template = str(status.template_state)
    if status.is_refreshing:
        template += "; newer code is loading"
    if status.engine_version:
        template = f"{template} (openquake.engine {status.engine_version})"
    cores = str(status.core_count)
    if status.core_count != status.all_core_count:
        cores += f" of {status.all_core_count} (agentctl cores)"
    if status.cores_per_worker > 1:
        cores += f", {status.cores_per_worker} each worker"
    used, total = status.memory_used_bytes, status.memory_total_bytes
    memory = f"{in_words(used)} of {in_words(total)} ({100 * used / max(1, total):.0f} %)"
    if status.is_short_of_memory:
        memory += ", beyond soft_mem_limit: one worker goes on"
    return {
        "node": status.node,
        "service": status.service,
        "cores": cores,
        "memory": memory,
        "load": status.load_average,
        "template": template,
        **({"master": _master(status)} if status.master else {}),
        "version": status.version,
    }


def _master(status: AgentStatus) -> str:
    """The master whose fleet the node joined, and whether the master watches the node."""
    return status.master if status.is_watched else f"{status.master} (not joined yet: agentctl doctor)"


def workers(status: AgentStatus, *, is_long: bool) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """Rows and columns of the workers; of their sessions if there are many and no long list is wanted."""
    if is_long or len(status.workers) <= MAX_LINES:
        rows = [_row(worker) for worker in sorted(status.workers, key=lambda worker: worker.cores)]
    else:
        sessions = sorted({worker.session_id for worker in status.workers})
        rows = [_sum([each for each in status.workers if each.session_id == found]) for found in sessions]
    return rows, {name: name.replace("_", " ") for name in rows[0]}


def _row(worker: WorkerStatus) -> dict[str, Any]:
    return {
        "worker": worker.worker_id,
        "session": worker.session_id,
        "pid": worker.pid,
        "core": ",".join(map(str, worker.cores)),
        "resident": in_words(worker.resident_bytes),
        "cpu_s": worker.cpu_s,
    }


def _sum(crew: Sequence[WorkerStatus]) -> dict[str, Any]:
    largest = max(crew, key=lambda worker: worker.resident_bytes)
    return {
        "session": largest.session_id,
        "workers": len(crew),
        "resident": in_words(sum(worker.resident_bytes for worker in crew)),
        "cpu_s": sum(worker.cpu_s for worker in crew),
        "largest_worker": largest.worker_id,
        "its_pid": largest.pid,
        "its_resident": in_words(largest.resident_bytes),
    }
