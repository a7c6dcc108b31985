"""An agent that believes in more cores than there are.

`python -m benchmarks.support.roomy_agent CORES STATE_DIR [LIFELINE]`; it ends when the descriptor LIFELINE is
closed at its other end.

Everything else is the real agent. Its workers are pinned to the cores that there are, in turns.
"""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path

from quakegrid.services.agent.__main__ import run
from quakegrid.services.agent.node.limits import limits as node_limits
from quakegrid.services.agent.rules.roster import Member


def main() -> int:
    """Serve until a signal."""
    core_count, state_dir = int(sys.argv[1]), Path(sys.argv[2])
    real = sorted(os.sched_getaffinity(0))
    os.sched_getaffinity = lambda _pid: set(range(core_count))
    open_worker = node_limits.NodeLimits.open_worker

    def open_on_real_cores(self: node_limits.NodeLimits, member: Member) -> node_limits.WorkerLimits:
        found = open_worker(self, member)
        return replace(found, cores=tuple(sorted({real[core % len(real)] for core in found.cores})))

    node_limits.NodeLimits.open_worker = open_on_real_cores  # type: ignore[method-assign]
    return run(state_dir, int(sys.argv[3]) if len(sys.argv) > 3 else -1)


if __name__ == "__main__":
    sys.exit(main())
