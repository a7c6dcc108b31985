"""Gathers the facts of this machine, as the process that asks sees it.

Does not judge. Looks that do not end in time are named in `silent_probes`.
"""

from __future__ import annotations

import os
import resource
import socket
import sqlite3
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from quakegrid.access.proofs import Proof
from quakegrid.doctor import accounts, control_groups, key_files, probes
from quakegrid.doctor.facts import (
    NO_LIMIT,
    AuthkeyFacts,
    DiskFacts,
    NameFacts,
    NodeFacts,
    PeopleFacts,
    PortFacts,
    PortState,
)
from quakegrid.doctor.installed import own_versions
from quakegrid.doctor.nonces import read_nonce
from quakegrid.errors import SettingsError
from quakegrid.settings import authkeys, config
from quakegrid.settings.config import Settings
from quakegrid.transport import credentials, libsodium

SHARED_MEMORY = "/dev/shm"  # noqa: S108 - looked at, not written to
CPU_FOLDER = Path("/sys/devices/system/cpu")


@dataclass(frozen=True, slots=True)
class Errand:
    """What the asking machine wants to know.

    Args:
        shared_dir: its own `shared_dir`; empty if it has none.
        nonce_name: file in it, whose content is told.
        lane_ports: lanes that are open.
        account_names: people whose accounts it compares.
    """

    shared_dir: str = ""
    nonce_name: str = ""
    lane_ports: tuple[int, ...] = ()
    account_names: tuple[str, ...] = ()


class Gatherer:
    """Looks at this machine.

    Args:
        settings: of the process, as it read them at its start.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._probes = probes.Probes()

    def gather(self, core_count: int, errand: Errand, *, is_master: bool = False) -> NodeFacts:
        """The facts of this machine, after some seconds at most.

        Args:
            core_count: cores that it offers.
            errand: what else to look at.
            is_master: look up the names of all nodes, and at the database's folder.
        """
        settings = self._settings
        ports = {f"{port.service} {port.host}:{port.number}": port for port in _ports(settings, errand)}
        names = _names(settings, is_master=is_master)
        folders = _folders(settings, is_master=is_master)
        looks: dict[str, Callable[[], Any]] = {
            **{
                f"name {item.name} {item.setting}": _bound(probes.look_up, item.name, item.setting)
                for item in names
            },
            **{
                f"folder {role} {path}": _bound(probes.look_at_disk, role, path)
                for role, path in folders.items()
            },
            **{
                key: _bound(probes.look_at_port, port, _proof_for(port, settings))
                for key, port in ports.items()
            },
            "nonce": lambda: _read_nonce(errand),
            "settings": lambda: _disk_settings(settings),
            "accounts": lambda: accounts.look_up(errand.account_names),
            "people": lambda: accounts.look_at_people(settings),
        }
        found, silent = self._probes.run(looks)
        error, disk_fingerprint = found.get("settings", ("", ""))
        tried = (replace(port, state=found.get(key, PortState.SILENT)) for key, port in ports.items())
        facts = machine_facts(settings, core_count)
        return replace(
            facts,
            authkey=replace(facts.authkey, disk_fingerprint=disk_fingerprint),
            settings_error=error,
            nonce=found.get("nonce", ""),
            disks=tuple(item for item in found.values() if isinstance(item, DiskFacts)),
            names=tuple(item for item in found.values() if isinstance(item, NameFacts)),
            ports=tuple(tried),
            silent_probes=tuple(name for name in silent if name not in ports),
            sqlite_version=sqlite3.sqlite_version if is_master else "",
            accounts=found.get("accounts", ()),
            people=found.get("people", PeopleFacts()),
        )


def machine_facts(settings: Settings, core_count: int) -> NodeFacts:
    """The facts that are available at once."""
    limits = control_groups.read_limits()
    memory = _memory()
    key = settings.current_authkey
    key_doubts = authkeys.doubts(key, settings.authkey_path)  # have checks of their own
    return NodeFacts(
        node=socket.gethostname(),
        machine=f"{_first_line('/proc/sys/kernel/random/boot_id')} {socket.gethostname()}",
        versions=own_versions(),
        core_count=core_count,
        worker_memory_bytes=settings.agent_memory_bytes,
        settings_warnings=tuple(warning for warning in settings.warnings if warning not in key_doubts),
        is_embedded=settings.is_embedded,
        memory_bytes=memory.get("MemTotal", 0),
        memory_limit_bytes=limits.memory_bytes,
        cpu_limit=limits.cpu,
        task_limit=limits.tasks,
        swap_bytes=memory.get("SwapTotal", 0),
        swap_used_bytes=memory.get("SwapTotal", 0) - memory.get("SwapFree", 0),
        overcommit_mode=int(_first_line("/proc/sys/vm/overcommit_memory") or 0),
        governors=_governors(),
        open_file_limit=_limit(resource.RLIMIT_NOFILE),
        process_limit=_limit(resource.RLIMIT_NPROC),  # of the user, threads counted
        authkey=AuthkeyFacts(
            length=len(key),
            is_guessable=authkeys.is_guessable(key),
            fingerprint=credentials.fingerprint(key) if key else "",
        ),
        shared_dir=settings.shared_dir,
        has_slow_encryption=libsodium.find_library() is None,
        open_key_files=key_files.too_wide(config.config_paths(settings.state_dir)),
        is_root=os.geteuid() == 0,
    )


def _read_nonce(errand: Errand) -> str:
    return read_nonce(errand.shared_dir, errand.nonce_name) if errand.nonce_name else ""


def _bound(function: Callable[..., Any], *args: Any) -> Callable[[], Any]:
    return lambda: function(*args)


def _proof_for(port: PortFacts, settings: Settings) -> Proof | None:
    """The proof for looking at a port. A connection to a lane (ZeroMQ) only shows that something answers."""
    return None if port.service == "lane" or not settings.proof else settings.proof


def _ports(settings: Settings, errand: Errand) -> list[PortFacts]:
    host = settings.broker_host
    return [
        PortFacts("dbserver", settings.dbserver_host, settings.dbserver_port),
        PortFacts("broker", host, settings.broker_port),
        *(
            PortFacts("lane", host, port, is_expected=port in errand.lane_ports)
            for port in settings.lane_ports
        ),
    ]


def _names(settings: Settings, *, is_master: bool) -> list[NameFacts]:
    names = [
        NameFacts(socket.gethostname(), ""),
        NameFacts(settings.dbserver_host, "[dbserver] host"),
    ]
    if settings.broker_host != settings.dbserver_host:
        names.append(NameFacts(settings.broker_host, "[broker] host"))
    if is_master:
        names += [NameFacts(item.host, "[zworkers] host_cores") for item in settings.agent_host_cores]
    return names


def _folders(settings: Settings, *, is_master: bool) -> dict[str, str]:
    folders = {
        "state_dir": str(settings.state_dir),
        "temporary": settings.custom_tmp or tempfile.gettempdir(),
        "shared memory": SHARED_MEMORY,
    }
    if settings.shared_dir:
        folders["shared_dir"] = settings.shared_dir
    if is_master:
        folders["database"] = str(settings.database.parent)
    return folders


def _disk_settings(settings: Settings) -> tuple[str, str]:
    """Why the settings on the disk cannot be read, and the fingerprint of their key."""
    try:
        now = config.load_settings(settings.state_dir)
    except SettingsError as exc:
        return str(exc), ""
    return "", credentials.fingerprint(now.authkey) if now.authkey else ""


def _memory() -> dict[str, int]:
    """Bytes by name, of /proc/meminfo."""
    lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    fields = (line.split() for line in lines)
    return {words[0].rstrip(":"): int(words[1]) * 1024 for words in fields if len(words) == 3}


def _governors() -> tuple[str, ...]:
    """Driver and governor of each frequency policy, once each; none on machines that have no choice."""
    folders = CPU_FOLDER.glob("cpu[0-9]*/cpufreq")
    pairs = {
        f"{_first_line(str(folder / 'scaling_driver'))} {_first_line(str(folder / 'scaling_governor'))}"
        for folder in folders
    }
    return tuple(sorted(pairs))


def _first_line(path: str) -> str:
    try:
        return Path(path).read_text(encoding="ascii").partition("\n")[0].strip()
    except OSError:
        return ""


def _limit(kind: int) -> int:
    """What a service can have: it raises the soft limit of its files to the hard one, and no other."""
    soft, hard = resource.getrlimit(kind)
    limit = hard if kind == resource.RLIMIT_NOFILE else soft
    return NO_LIMIT if limit == resource.RLIM_INFINITY else limit
