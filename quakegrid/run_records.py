"""Run records: how a service tells the commands of its machine that it is up, and where.

One JSON file a service in `<state>/run`, written when the service is ready, removed when it stops.
A record whose process is gone is stale and counts as none.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from quakegrid import __version__
from quakegrid.config import Settings
from quakegrid.errors import QuakeGridError

SERVICES = ("dbserver", "broker", "agent")


@dataclass(frozen=True, slots=True)
class RunRecord:
    """A service that runs on this machine: its process and where it listens."""

    service: str
    pid: int
    start_ticks: int
    address: str
    version: str


def write_record(settings: Settings, service: str, address: str) -> Path:
    """Announce this process as the service, atomically.

    Raises:
        QuakeGridError: the file cannot be written.
    """
    path = settings.run_dir / f"{service}.json"
    record = RunRecord(service, os.getpid(), process_start_ticks(os.getpid()), address, __version__)
    temporary = path.with_suffix(".tmp")
    try:
        settings.run_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        temporary.write_text(json.dumps(asdict(record)), encoding="utf-8")
        temporary.replace(path)
    except OSError as exc:
        raise QuakeGridError(
            f"cannot write {path}: {exc.strerror}; free space there or make it writable, and start again"
        ) from exc
    return path


def read_record(settings: Settings, service: str) -> RunRecord | None:
    """The live record of a service, or None when it is absent, damaged or stale."""
    try:
        text = (settings.run_dir / f"{service}.json").read_text(encoding="utf-8")
        record = RunRecord(**json.loads(text))
    except (OSError, ValueError, TypeError):
        return None
    return record if process_start_ticks(record.pid) == record.start_ticks else None


def process_start_ticks(pid: int) -> int:
    """When a process started, in clock ticks since boot; -1 when it is gone. Tells a reused pid."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return -1
    fields = stat.rpartition(")")[2].split()
    return -1 if fields[0] == "Z" else int(fields[19])
