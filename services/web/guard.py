"""Which requests are refused before a route sees them: of foreign sites, foreign names and strangers.

A page of another site that a person looks at can send requests to this machine in the person's name. Its own
name, or that of a site that it may read answers of, gives it away (Host, Origin, Sec-Fetch-Site). Pure.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

READING = ("GET", "HEAD", "OPTIONS")


def known_hosts(listen: str, port: int) -> frozenset[str]:
    """What `Host` may be: the names of this machine on loopback."""
    names = {"localhost", "127.0.0.1", "[::1]", f"[{listen}]" if ":" in listen else listen}
    return frozenset(f"{name}:{port}" for name in names)


def why_refused(
    method: str, headers: Mapping[str, str], hosts: Collection[str], *, is_writing: bool
) -> str | None:
    """Why a request is refused; None if it is not.

    Args:
        method: of HTTP.
        headers: with lower-case names.
        hosts: that are ours, with ports.
        is_writing: whether the route changes something, whatever the method is.
    """
    host = headers.get("host", "").lower()
    if host not in hosts:
        return f"this service is not {host or 'without a name'}; ask for {' or '.join(sorted(hosts))}"
    origin = headers.get("origin", "").lower()
    if origin and origin.partition("://")[2] not in hosts:
        return f"a page of {origin} may not ask this service"
    site = headers.get("sec-fetch-site", "none")
    if (is_writing or method not in READING) and site not in ("same-origin", "none"):
        return "a page of another site may change nothing here"
    return None
