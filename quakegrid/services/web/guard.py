"""Which requests are refused before a route sees them: of foreign sites, and for foreign names.

A page of another site that a person looks at can send requests to this machine in the person's name. Its own
name, or that of a site that it may read answers of, gives it away (Host, Origin, Sec-Fetch-Site).
"""

from __future__ import annotations

import socket
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from quakegrid.settings.config import Settings
from quakegrid.settings.hosts import is_loopback

READING = ("GET", "HEAD", "OPTIONS")
HERE = ("localhost", "127.0.0.1", "[::1]")


@dataclass(frozen=True, slots=True)
class Doors:
    """How the service is reached.

    Args:
        scheme: "http" or "https".
        origins: other sites whose pages may ask; with tokens, since they have no cookies of ours.
    """

    scheme: str = "http"
    origins: Collection[str] = ()


def own_names(settings: Settings) -> list[str]:
    """The names by which people reach the web service, without ports."""
    listen = settings.web_listen
    names = [*HERE, *settings.web_access.hosts]
    if not is_loopback(listen):
        names += [socket.gethostname(), socket.getfqdn(), settings.dbserver_host]
    if listen not in ("0.0.0.0", "::"):  # noqa: S104 - compared, not bound
        names.append(listen)
    return [f"[{name}]" if ":" in name and not name.startswith("[") else name for name in names]


def known_hosts(names: Iterable[str], port: int, *, is_default: bool = False) -> frozenset[str]:
    """What `Host` may be.

    Args:
        names: of this service.
        port: on which it listens.
        is_default: whether people may leave the port out, or see that of a proxy.
    """
    names = {name.lower() for name in names}
    return frozenset(f"{name}:{port}" for name in names) | (names if is_default else set())


def why_refused(
    method: str,
    headers: Mapping[str, str],
    hosts: Collection[str],
    *,
    is_writing: bool,
    doors: Doors = Doors(),
) -> str | None:
    """Why a request is refused; None if it is not.

    Args:
        method: of HTTP.
        headers: with lower-case names.
        hosts: that are ours, with ports.
        is_writing: whether the route changes something, whatever the method is.
        doors: how the service is reached.
    """
    host = headers.get("host", "").lower()
    if host not in hosts:
        return (
            f"this service is not {host or 'without a name'}; ask for {' or '.join(sorted(hosts))}; "
            "[web] hosts in openquake.cfg gives it more names"
        )
    origin = headers.get("origin", "").lower()
    if origin and origin in doors.origins and "cookie" not in headers:
        return None
    scheme, _, site = origin.partition("://")
    if origin and (site not in hosts or scheme != doors.scheme):
        return f"a page of {origin} may not ask this service"
    came_from = headers.get("sec-fetch-site", "none")
    if (is_writing or method not in READING) and came_from not in ("same-origin", "none"):
        return "a page of another site may change nothing here"
    return None
