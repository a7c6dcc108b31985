"""Which processes the kernel kills when memory is out: workers, then drivers, last agent and template."""

from __future__ import annotations

import contextlib
from pathlib import Path

# Inherited by the template. Not -1000, which would let the kernel kill every other process first.
AGENT_SCORE = -900
DRIVER_SCORE = 100
WORKER_SCORE = 500


def set_oom_score(score: int) -> None:
    """Set it for this process and those that it starts; a negative one stays 0 where it is not permitted."""
    with contextlib.suppress(PermissionError):
        Path("/proc/self/oom_score_adj").write_text(str(score), encoding="ascii")
