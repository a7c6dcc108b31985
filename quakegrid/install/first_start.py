"""Waits for the dbserver of a master that was just installed, so that the next command finds it."""

from __future__ import annotations

import socket
import subprocess
import time
from pathlib import Path

from quakegrid import errors
from quakegrid.settings import config

UNIT = "quakegrid-dbserver"
# It answers after a second or two; the upgrade of a large database takes longer, and goes on by itself.
LONGEST_WAIT_S = 30.0
_POLL_S = 0.1


def wait_for_dbserver(state_dir: Path, timeout_s: float = LONGEST_WAIT_S) -> None:
    """Wait until the dbserver of a master takes connections; returns at once if systemd does not run it.

    Args:
        state_dir: of the services.
        timeout_s: how long.
    Raises:
        PeerUnreachableError: it does not answer.
    """
    settings = config.load_settings(state_dir, {})
    end_s = time.monotonic() + timeout_s
    while _is_run_by_systemd():
        try:
            socket.create_connection((settings.dbserver_host, settings.dbserver_port), _POLL_S * 10).close()
        except OSError as exc:
            if time.monotonic() > end_s:
                raise errors.PeerUnreachableError(
                    f"all is installed, and the dbserver does not answer at {settings.dbserver_address} "
                    f"({exc.strerror or exc}): `journalctl -u {UNIT}` says why"
                ) from exc
            time.sleep(_POLL_S)
        else:
            return


def _is_run_by_systemd() -> bool:
    """Whether systemd has a process for it, or is about to start it again."""
    asked = ["systemctl", "show", "--value", "--property=ActiveState", UNIT]
    try:
        said = subprocess.run(asked, check=False, capture_output=True, text=True).stdout.strip()
    except FileNotFoundError:
        return False
    return said in ("active", "activating", "reloading")
