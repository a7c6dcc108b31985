"""In which order the kernel kills processes when there is no memory: workers, drivers, agent and template."""

from __future__ import annotations

import contextlib
from pathlib import Path

# Inherited by the template. Not -1000, which would let the kernel kill every other process first.
AGENT_SCORE = -900
DRIVER_SCORE = 100
WORKER_SCORE = 500


def set_oom_score(score: int) -> None:
    """Set the score of this process and its children; without the right to a negative score it is 0."""
    with contextlib.suppress(PermissionError):
        Path("/proc/self/oom_score_adj").write_text(str(score), encoding="ascii")
