"""What a node remembers while its agent does not run: how many cores it serves, and whose fleet it joined.

One JSON file in the state directory, which is replaced as a whole.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

ALL_CORES = -1
FILE_NAME = "node.json"


@dataclass(frozen=True, slots=True)
class NodeState:
    """What a node remembers: it serves `core_limit` cores, -1 for all, unless it is stopped.

    `master` is the address of a broker, empty for a node that joined no fleet.
    """

    core_limit: int = ALL_CORES
    is_stopped: bool = False
    master: str = ""


def read(state_dir: Path) -> NodeState:
    """Read the state of the node. Without a file, or with a damaged one, it is that of a new node."""
    try:
        found = json.loads((state_dir / FILE_NAME).read_text(encoding="utf-8"))
        return NodeState(int(found["core_limit"]), bool(found["is_stopped"]), str(found["master"]))
    except (OSError, ValueError, TypeError, KeyError):
        return NodeState()


def change(state_dir: Path, **changes: int | str) -> NodeState:
    """Change some fields of the state; returns the new state."""
    record = dataclasses.replace(read(state_dir), **changes)  # type: ignore[arg-type]
    state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = state_dir / f"{FILE_NAME}.tmp"
    temporary.write_text(json.dumps(dataclasses.asdict(record)), encoding="utf-8")
    temporary.replace(state_dir / FILE_NAME)
    return record
