"""How a worker ended, as every layer tells it: agent, fleet core, lane and driver. Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class WorkerEnd:
    """A worker's process has ended.

    Args:
        session_id: of the session that the worker belonged to.
        worker_id: the fleet's name of the worker.
        reason: in words, such as "exit code 1" or "killed by SIGKILL (perhaps out of memory)".
        is_clean: whether the worker ended by request and in order.
        node: where it ran, as the node's agent calls itself.
        last_output: the end of its stderr, a line each; empty if the worker ended in order.
        is_blameless: whether people ended the worker, so that its task has no part in that.
        peak_memory_bytes: largest resident memory of its life; 0 if nobody knows.
        exit_code: as a shell tells it: 128 + n after signal n.
        signal: that ended the process; 0 for none.
    """

    session_id: int
    worker_id: str
    reason: str
    is_clean: bool
    node: str = ""
    last_output: tuple[str, ...] = ()
    is_blameless: bool = False
    peak_memory_bytes: int = 0
    exit_code: int = 0
    signal: int = 0

    @property
    def words(self) -> str:
        """The reason, with the worker's peak memory where that is known."""
        if not self.peak_memory_bytes:
            return self.reason
        return f"{self.reason}, peak memory {self.peak_memory_bytes / 2**20:.0f} MiB"
