"""The nodes that joined the fleet, kept in a file: a new broker asks them at once what they have.

Without it a new broker knows only the nodes of the configuration, until the others find that nobody watches
them. One JSON file in the state directory, written whole. Knows no connection.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path

log = logging.getLogger("quakegrid.broker")
FILE_NAME = "joined_nodes.json"


def read(state_dir: Path) -> dict[str, str]:
    """Hosts and the addresses of their agents; none when there is no file, or none that can be read."""
    try:
        found = json.loads((state_dir / FILE_NAME).read_text(encoding="utf-8"))
        return {str(host): str(address) for host, address in found.items()}
    except (OSError, ValueError, AttributeError):
        return {}


def write(state_dir: Path, nodes: Mapping[str, str]) -> None:
    """Remember these nodes and no other; a disk that is full is told to the log only."""
    temporary = state_dir / f"{FILE_NAME}.tmp"
    try:
        temporary.write_text(json.dumps(dict(nodes)), encoding="utf-8")
        temporary.replace(state_dir / FILE_NAME)
    except OSError as exc:
        log.warning("joined_nodes_not_kept path=%s reason=%s", state_dir / FILE_NAME, exc)
