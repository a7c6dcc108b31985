"""Looks at the doors of the web service of this machine, as the settings say."""

from __future__ import annotations

import socket
from pathlib import Path

from quakegrid.doctor.checks.web_checks import WebDoor
from quakegrid.settings.config import LOOPBACK, Settings
from quakegrid.settings.hosts import is_loopback
from quakegrid.transport import certificates

TIMEOUT_S = 1.0
_EVERYWHERE = ("0.0.0.0", "::")  # noqa: S104 - compared, not bound


def find(settings: Settings) -> WebDoor | None:
    """How people reach the web pages; None if this machine runs no web service."""
    if settings.credential is not None or not settings.web_port or not _is_open(settings):
        return None
    certificate, end_s = "none", 0.0
    if settings.web_access.certificate:
        certificate, end_s = "site", _end_s(Path(settings.web_access.certificate))
    elif settings.web_has_tls:
        certificate = "own"
    return WebDoor(
        f"{settings.web_scheme}://{settings.web_listen}:{settings.web_port}",
        settings.web_mode,
        is_loopback(settings.web_listen),
        certificate,
        end_s,
    )


def _is_open(settings: Settings) -> bool:
    host = LOOPBACK if settings.web_listen in _EVERYWHERE else settings.web_listen
    try:
        socket.create_connection((host, settings.web_port), TIMEOUT_S).close()
    except OSError:
        return False
    return True


def _end_s(path: Path) -> float:
    try:
        return certificates.until_s(path.read_bytes())
    except (OSError, ValueError):
        return 0.0
