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
from quakegrid.errors import QuakeGridError
from quakegrid.settings.config import Settings

# What a cluster needs, and what people may want beside it.
SERVICES = ("dbserver", "broker", "agent")
ALL_SERVICES = (*SERVICES, "web")


@dataclass(frozen=True, slots=True)
class ServiceFile:
    """A service that runs on this machine: its process and where it listens."""

    service: str
    pid: int
    start_ticks: int
    address: str
    version: str
    # Of the machine's start; empty in records of versions that did not note it.
    boot_id: str = ""


def write(settings: Settings, service: str, address: str) -> Path:
    """Announce this process as the service, atomically.

    Raises:
        QuakeGridError: the file cannot be written.
    """
    path = settings.run_dir / f"{service}.json"
    ticks = process_start_ticks(os.getpid())
    record = ServiceFile(service, os.getpid(), ticks, address, __version__, boot_id())
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


def read(settings: Settings, service: str) -> ServiceFile | None:
    """The live record of a service, or None when it is absent, damaged, stale or not the service's own.

    Whoever believes it may signal its process, root too. So the file must belong to the user of the process
    that it names: nobody can name another user's process.
    """
    try:
        descriptor = os.open(settings.run_dir / f"{service}.json", os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        with os.fdopen(descriptor, encoding="utf-8") as file:
            owner = os.fstat(descriptor).st_uid
            record = ServiceFile(**json.load(file))
        is_live = process_start_ticks(int(record.pid)) == record.start_ticks
        is_own = _process_user(int(record.pid)) == owner
    except (OSError, ValueError, TypeError):
        return None
    return record if is_own and is_live and record.boot_id in ("", boot_id()) else None


def boot_id() -> str:
    """What tells this start of the machine from every other; empty where the kernel does not say."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _process_user(pid: int) -> int:
    """User id of a process; -1 when it is gone."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return -1
    line = next(line for line in status.splitlines() if line.startswith("Uid:"))
    return int(line.split()[2])  # the effective one


def process_start_ticks(pid: int) -> int:
    """When a process started, in clock ticks since boot; -1 when it is gone. Tells a reused pid."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return -1
    fields = stat.rpartition(")")[2].split()
    return -1 if fields[0] == "Z" else int(fields[19])
