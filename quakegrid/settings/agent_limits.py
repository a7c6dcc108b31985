"""How much of its node an agent may use: the settings, their defaults and what is allowed.

Knows `[memory] soft_mem_limit` and `hard_mem_limit`, which are upstream's, and keys of `[agent]`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

MAX_NICE = 19
MAX_CORES_PER_WORKER = 1024
MAX_TIMEOUT_S = 1_000_000_000


@dataclass(frozen=True, slots=True)
class AgentLimits:
    """Limits of one node.

    `soft_percent` and `hard_percent` are of the node's memory: from the first on the node gets no new tasks,
    beyond the second its largest worker is stopped. `nice` is added to the workers' niceness; the default 0
    lets them compute as fast as other programs on the node. A worker that stays stopped (SIGSTOP) for
    `stopped_timeout_s` is killed; 0: never.
    """

    soft_percent: int = 90
    hard_percent: int = 99
    nice: int = 0
    cores_per_worker: int = 1
    stopped_timeout_s: int = 30


class Parse(Protocol):
    """Reads one value and converts it."""

    def __call__(
        self, section: str, key: str, default: int, convert: Callable[[str], int], allowed: str
    ) -> int:
        """The value or the default. The error for a wrong value names what is `allowed`."""


def read_agent_limits(parse: Parse) -> AgentLimits:
    """Read the limits of this node."""
    percent = "percent of the node's memory, 1 to 100"
    return AgentLimits(
        soft_percent=parse("memory", "soft_mem_limit", 90, _within(1, 100), percent),
        hard_percent=parse("memory", "hard_mem_limit", 99, _within(1, 100), percent),
        nice=parse("agent", "nice", 0, _within(0, MAX_NICE), "niceness of workers, 0 to 19"),
        cores_per_worker=parse(
            "agent",
            "cores_per_worker",
            1,
            _within(1, MAX_CORES_PER_WORKER),
            "cores of each worker, 1 or more",
        ),
        stopped_timeout_s=parse(
            "agent",
            "stopped_timeout",
            30,
            _within(0, MAX_TIMEOUT_S),
            "whole seconds that a worker may stay stopped, 0 for ever",
        ),
    )


def _within(least: int, most: int) -> Callable[[str], int]:
    def convert(text: str) -> int:
        if not least <= int(text) <= most:
            raise ValueError(text)
        return int(text)

    return convert
