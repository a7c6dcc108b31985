"""The systemd units of the services, as text.

`python -m quakegrid.install.units FOLDER` writes those of a master in the default places: `make reference`
does so with deploy/systemd.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

# Rights that no service needs.
_HARDENING = """\
NoNewPrivileges=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
RestrictRealtime=yes
LockPersonality=yes
"""
# Further limits for dbserver, broker and web, which run no code of people.
_CLOSED = """\
CapabilityBoundingSet=
ProtectSystem=strict
PrivateTmp=yes
PrivateDevices=yes
ProtectHome=read-only
ProtectClock=yes
ProtectControlGroups=yes
RestrictNamespaces=yes
RestrictSUIDSGID=yes
SystemCallArchitectures=native
UMask=0077
"""
# The agent's children are people's calculations: they read job files, and write exports and results where
# their person may. The workers' memory limits are cgroups below the agent's own.
_OPEN = """\
# To start what belongs to a person as this person's account, and for nothing else. Set-user-id programs,
# such as sudo, give no rights to calculations (NoNewPrivileges).
AmbientCapabilities=CAP_SETUID CAP_SETGID
CapabilityBoundingSet=CAP_SETUID CAP_SETGID
# Calculations write where their account may, wherever homes are; nobody writes to /usr, /boot or /etc.
ProtectSystem=full
# System calls that no calculation makes, and that only root could.
SystemCallArchitectures=native
SystemCallFilter=~@module @reboot @swap @obsolete @cpu-emulation @raw-io
SystemCallErrorNumber=EPERM
UMask=0022
# A cgroup for each worker with a memory limit.
Delegate=yes
TasksMax=infinity
# The kernel takes workers before the agent, and the agent goes on without them.
OOMScoreAdjust=-900
OOMPolicy=continue
"""
_TEXT = """\
[Unit]
Description=QuakeGrid {name}: {what}
After=network-online.target remote-fs.target{after}
Wants=network-online.target{wants}
RequiresMountsFor={venv} {state_dir}
# A service that cannot run is given up after ten tries in five minutes.
StartLimitIntervalSec=300
StartLimitBurst=10

[Service]
User={user}
Group={user}
WorkingDirectory={state_dir}
Environment=QUAKEGRID_STATE_DIR={state_dir}
ExecStart={command}
Restart=on-failure
RestartSec=1
# 2: the settings are wrong, and stay so until somebody mends them.
RestartPreventExitStatus=2
# SIGTERM to the service alone, which ends its children in order; what is left is killed.
KillMode=mixed
TimeoutStopSec=30
LimitNOFILE=262144
{hardening}{more}{writable}
[Install]
WantedBy=multi-user.target
"""


@dataclass(frozen=True, slots=True)
class Places:
    """Paths and users in the units.

    `writable` are folders that services write to, beside the state directory. `join` is the master that a
    node's agent joins: empty if the node's certificate names it, None on the master.
    """

    venv: Path
    state_dir: Path
    user: str
    writable: tuple[Path, ...] = ()
    join: str | None = None


def render(places: Places) -> dict[str, str]:
    """Units by file name: of all services on the master, of the agent on a node."""
    join = f" --join {places.join}" if places.join else ""
    agent = f"{places.venv}/bin/agentctl serve{join}"
    is_master = places.join is None
    broker = "quakegrid-broker.service" if is_master else ""
    found = {"agent": _unit(places, "agent", "workers and drivers", agent, after=broker, more=_OPEN)}
    if is_master:
        module = f"{places.venv}/bin/python -P -m quakegrid.services."
        unit = _unit(places, "dbserver", "jobs, logs, outputs", module + "dbserver", more=_CLOSED)
        found["dbserver"] = unit
        dbserver = "quakegrid-dbserver.service"
        found["broker"] = _unit(
            places, "broker", "sessions and tasks", module + "broker", after=dbserver, more=_CLOSED
        )
        behind = f"{dbserver} {broker}"
        found["web"] = _unit(places, "web", "pages and HTTP API", module + "web", after=behind, more=_CLOSED)
    return {f"quakegrid-{name}.service": text for name, text in sorted(found.items())}


def _unit(places: Places, name: str, what: str, command: str, *, more: str, after: str = "") -> str:
    writable = " ".join([str(places.state_dir), *(f"-{folder}" for folder in places.writable)])
    return _TEXT.format(
        name=name,
        what=what,
        venv=places.venv,
        state_dir=places.state_dir,
        user=places.user,
        command=command,
        after=f" {after}".rstrip(),
        wants=f" {after}".rstrip(),
        hardening=_HARDENING,
        more=more,
        # With "-" a folder may be missing.
        writable=f"ReadWritePaths={writable}\n" if "ProtectSystem=strict" in more else "",
    )


def main() -> None:
    """Write the units of a master in the default places into the folder that is named."""
    prefix = Path("/opt/quakegrid")
    places = Places(prefix / "venv", Path("/var/lib/quakegrid"), "quakegrid", (prefix / "shared",))
    for name, text in render(places).items():
        Path(sys.argv[1], name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
