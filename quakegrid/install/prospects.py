"""Whether an installation can succeed: looked at before anything is changed.

Looks at programs of this machine, names and ports. `cli/checks/installed.py` looks at the services later.
"""

from __future__ import annotations

import shutil
import socket
from collections.abc import Iterable, Sequence

from quakegrid.errors import UsageError
from quakegrid.install.plan import Role
from quakegrid.install.steps import GetCertificate, RunCommand, Step
from quakegrid.machine import own_addresses
from quakegrid.settings.hosts import is_loopback

CONNECT_TIMEOUT_S = 5.0
_PACKAGES = {"exportfs": "nfs-kernel-server", "setpriv": "util-linux"}


def check_programs(steps: Iterable[Step]) -> None:
    """Refuse an installation that would stop half-way, since a command is missing.

    Raises:
        UsageError: with the command.
    """
    for step in steps:
        if isinstance(step, RunCommand | GetCertificate) and shutil.which(step.argv[0]) is None:
            found = _PACKAGES.get(step.argv[0])
            package = f"; the package {found} has it" if found else ""
            raise UsageError(f"this needs the command {step.argv[0]}, which is not installed{package}")


def check_master(role: Role, master: str, port: int) -> str:
    """Refuse a master that other machines cannot reach by this name, or that a node does not reach.

    Args:
        role: of this machine.
        master: name or address of the master.
        port: of its broker.
    Returns:
        A warning, empty if there is none: a master behind NAT, or with a floating address of a cloud, has an
        address that no interface of it has.
    Raises:
        UsageError: with what was found.
    """
    addresses = _addresses(master)
    if role is Role.MASTER:
        looped = [address for address in addresses if is_loopback(address)]
        if looped:
            raise UsageError(
                f"other machines cannot reach {looped[0]}, which {master} is here (/etc/hosts); give "
                "--master an address of this machine"
            )
        if not own_addresses.is_own(master):
            return _doubt(master, addresses[0])
        return ""
    if own_addresses.is_own(master):
        raise UsageError(f"{master} is this machine; a node joins another one, the master")
    try:
        socket.create_connection((master, port), CONNECT_TIMEOUT_S).close()
    except OSError as exc:
        reason = "no answer" if isinstance(exc, TimeoutError) else (exc.strerror or str(exc))
        raise UsageError(
            f"nobody answers at {master}:{port} ({reason}): is the master installed there, and does a "
            "firewall let this machine in?"
        ) from None
    return ""


def _doubt(master: str, address: str) -> str:
    if master != address:  # `plan` lets the services of a master with a name listen on all addresses
        return (
            f"{master} is {address}, which no interface of this machine has: right behind NAT or with a "
            "floating address; a mistake otherwise"
        )
    return (
        f"no interface of this machine has {address}: right behind NAT or with a floating address; a mistake "
        "otherwise. dbserver and broker then start only with [dbserver] listen = 0.0.0.0, or an address of "
        "this machine, in openquake.cfg; with a name in place of the address `install` writes that itself"
    )


def _addresses(master: str) -> Sequence[str]:
    try:
        found = socket.getaddrinfo(master, 0, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise UsageError(f"this machine does not know the name {master}; give an address") from None
    return [str(address[0]) for *_rest, address in found]
