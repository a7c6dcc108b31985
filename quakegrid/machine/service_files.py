"""Service files: by them the commands of this machine find a running service.

Each service has a JSON file in `<state>/run`. It is written when the service is ready, and removed when it
stops. A file whose process is gone does not count.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from quakegrid import __version__
from quakegrid.errors import QuakeGridError
from quakegrid.machine import process_stats
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
    # The id of the machine's start; empty in files of older versions.
    boot_id: str = ""


def write(settings: Settings, service: str, address: str) -> Path:
    """Write the file of a service, which this process is, in one step.

    Raises:
        QuakeGridError: the file cannot be written.
    """
    path = settings.run_dir / f"{service}.json"
    ticks = process_stats.start_ticks(os.getpid())
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
    """Read the file of a running service; None if it is missing, damaged, stale or not the service's own.

    Readers, among them root, may signal the process. So the file must belong to the user of the process that
    it names; then nobody can name a process of another user.
    """
    try:
        descriptor = os.open(settings.run_dir / f"{service}.json", os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        with os.fdopen(descriptor, encoding="utf-8") as file:
            owner = os.fstat(descriptor).st_uid
            record = ServiceFile(**json.load(file))
        is_live = process_stats.start_ticks(int(record.pid)) == record.start_ticks
        is_own = _process_user(int(record.pid)) == owner
    except (OSError, ValueError, TypeError):
        return None
    is_known = record.boot_id in ("", boot_id()) or _runs(int(record.pid), service)
    return record if is_own and is_live and is_known else None


def boot_id() -> str:
    """The id of this start of the machine; empty if the kernel does not give one."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _runs(pid: int, service: str) -> bool:
    """Whether a process runs a service, by its command line.

    The id of the boot does not tell it in containers: systemd-nspawn and LXD show people an invented one, and
    services that have a view of the system of their own the real one.
    """
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return False
    if f"quakegrid.services.{service}" in words:
        return True
    return service == "agent" and "agentctl" in (Path(word).name for word in words)


def _process_user(pid: int) -> int:
    """The user id of a process; -1 if the process is gone."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return -1
    line = next(line for line in status.splitlines() if line.startswith("Uid:"))
    return int(line.split()[2])  # the effective one
