"""Whether systemd runs the services of this machine, and so which command starts them.

`quakegrid install` leaves a note in /etc/quakegrid. Where there is one, `quakegrid up` and `down` must not
change anything: they would write files of the wrong owner, or make a second cluster with another key. Only
reads the note; `quakegrid.install` writes it.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from quakegrid import errors
from quakegrid.settings.hosts import is_loopback

NOTES = Path("/etc/quakegrid/installed.json")
STATE_DIR = Path("/var/lib/quakegrid")
# Of a machine that is master and node at once; systemd's patterns match only units that it has loaded.
ALL_UNITS = ("quakegrid-dbserver", "quakegrid-broker", "quakegrid-agent", "quakegrid-web")


@dataclass(frozen=True, slots=True)
class Installation:
    """The installation on this machine: the paths of its units, and the services' user."""

    units: frozenset[Path]
    user: str = ""

    def runs(self, state_dir: Path, environ: Mapping[str, str]) -> bool:
        """Whether the services of a state directory are those that systemd runs.

        This is so for the installation's own state directory, and if its units run this very Python
        environment, whose `openquake.cfg` is then theirs: a cluster made beside it would want the same ports.
        """
        if STATE_DIR in (state_dir, *state_dir.parents):
            return True
        return not environ.get("OQ_CONFIG_FILE") and any(map(_runs_this_environment, self.units))

    def systemctl(self, verb: str) -> str:
        """The command that does something, such as start, to all services of this machine."""
        made = {path.stem for path in self.units}
        return " ".join(["systemctl", verb, *(name for name in ALL_UNITS if name in made or not made)])


def find() -> Installation | None:
    """The installation of this machine, None if there is none."""
    try:
        notes = json.loads(NOTES.read_text(encoding="utf-8"))
        files = map(Path, notes["files"])
        units = frozenset(path for path in files if path.suffix == ".service")
        return Installation(units, str(notes.get("user", "")))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError):
        return Installation(frozenset())  # a note that is damaged still says that there is an installation


def _runs_this_environment(unit: Path) -> bool:
    try:
        return f"ExecStart={sys.prefix}/" in unit.read_text(encoding="utf-8")
    except OSError:
        return False


def refuse_if_installed(state_dir: Path, command: str, verb: str) -> None:
    """Refuse a command that would interfere with systemd.

    Args:
        state_dir: of the services that the command is for.
        command: such as `quakegrid up`.
        verb: what systemctl calls it.
    Raises:
        StateError: systemd runs these services.
    """
    found = find()
    if found is None or not found.runs(state_dir, os.environ):
        return
    raise errors.StateError(
        f"systemd runs QuakeGrid on this machine, so `{command}` has changed nothing; as root: "
        f"{found.systemctl(verb)}"
    )


def start_words(host: str = "") -> str:
    """The command that starts the services of this machine, for a sentence that goes on with "starts …".

    Args:
        host: where the service is; a loopback address is never that of an installed cluster. Empty: here.
    """
    found = find()
    if found is None or (host and is_loopback(host)):
        return "`quakegrid up`"
    return f"`{found.systemctl('start')}` as root"


def start_one_words(service: str, host: str) -> str:
    """How one service is started, as a clause.

    Args:
        service: "dbserver", "broker" or "agent".
        host: where it is.
    """
    found = find()
    if found is None or is_loopback(host):
        return "`quakegrid up` starts it"
    name = f"quakegrid-{service}"
    if found.units and name not in {path.stem for path in found.units}:
        return f"it must be started on {host}"
    return f"`systemctl start {name}` as root on {host} starts it"
