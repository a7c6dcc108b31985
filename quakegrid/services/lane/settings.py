"""What the door of a lane is to know when it starts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class DoorSettings:
    """What a door knows of its cluster.

    Args:
        token_key: of `lane_keys.token_key`.
        records: directory of the task records.
        state_dir: of the cluster on this machine.
    """

    token_key: bytes
    records: Path
    state_dir: Path
