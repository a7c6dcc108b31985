"""Checks of the web service's doors: who may look, and when its certificate ends. Pure."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from dataclasses import dataclass

from quakegrid.doctor.checks.findings import Finding, Severity, fine
from quakegrid.settings.web.access import WebMode

SOON_DAYS = 14
_DAY_S = 86_400


@dataclass(frozen=True, slots=True)
class WebDoor:
    """How people reach the web pages, and who may look.

    Args:
        address: as in https://0.0.0.0:8800.
        mode: who may do what.
        is_here_only: whether only this machine reaches it.
        certificate: "none", "own" for one of the cluster's authority, or "site".
        end_s: when the site's certificate ends, in seconds since 1970; 0 if that is not known.
    """

    address: str
    mode: WebMode
    is_here_only: bool = True
    certificate: str = "none"
    end_s: float = 0.0

    @property
    def words(self) -> str:
        """For people, in a line."""
        match self.certificate:
            case "own":
                told = ", certificate of the cluster's own authority, renewed by itself"
            case "site":
                until = f"until {_day(self.end_s)}" if self.end_s else "that cannot be read"
                told = f", the site's certificate {until}"
            case _:
                told = ""
        return f"{self.address}, mode {self.mode}{told}"


def check_web(door: WebDoor, now_s: float, label: str) -> Iterator[Finding]:
    """Whether the web pages are open to the right people, and stay reachable.

    Args:
        door: of the web service.
        now_s: seconds since 1970.
        label: how findings name the cluster.
    """
    if door.mode is not WebMode.RESTRICTED and not door.is_here_only:
        yield Finding(
            "web",
            Severity.NOTE,
            label,
            f"the web pages at {door.address} are open to everybody who reaches the port (mode {door.mode})",
            "everybody there sees all calculations",
            "set [web] mode = RESTRICTED in openquake.cfg, and `quakegrid user add NAME --password`",
        )
    left_s = door.end_s - now_s
    if door.certificate == "site" and not door.end_s:
        yield _ending(label, "the certificate of the web pages cannot be read by this user", "")
    elif door.certificate == "site" and left_s <= SOON_DAYS * _DAY_S:
        verb = "ended" if left_s <= 0 else "ends"
        yield _ending(
            label,
            f"the certificate of the web pages {verb} on {_day(door.end_s)}",
            "browsers, QGIS and scripts refuse the web service then",
        )
    else:
        yield fine("web", label, f"web pages at {door.words}")


def _ending(label: str, what: str, breaks: str) -> Finding:
    remedy = "put another one where [web] certificate and private_key say; no restart is needed"
    return Finding("web_certificate", Severity.NOTE, label, what, breaks, remedy)


def _day(end_s: float) -> str:
    return f"{datetime.datetime.fromtimestamp(end_s, datetime.UTC):%Y-%m-%d}"
