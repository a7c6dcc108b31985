"""Where a request comes from: what proxies say counts only if the settings name them. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from quakegrid.settings.hosts import is_loopback
from quakegrid.settings.web.access import WebAccess

# Of a name in a header, far more than any has.
_LONGEST_NAME = 256


@dataclass(frozen=True, slots=True)
class Peer:
    """Where a request comes from.

    Args:
        address: of whoever asks, as far as it is known.
        is_secure: whether TLS protects the request on its way, up to us or up to a proxy.
        is_proxy: whether a proxy that is believed has passed it on.
        user: who has logged in at that proxy; empty for nobody.
    """

    address: str
    is_secure: bool
    is_proxy: bool = False
    user: str = ""

    @property
    def network(self) -> str:
        """From where, as far as somebody without a name can be told from others.

        That is an address of version 4, and of version 6 its first half: the rest, anybody may choose.
        """
        try:
            found = ipaddress.ip_address(self.address)
        except ValueError:
            return self.address
        return str(found if found.version == 4 else ipaddress.ip_network((int(found), 64), strict=False))

    @property
    def is_here(self) -> bool:
        """Whether a process of this machine asks for itself, so that the kernel knows whose it is."""
        return not self.is_proxy and is_loopback(self.address)


def joined(headers: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Headers by their names; lines of one name are a list, as HTTP has it.

    Some proxies add a line of their own behind the one that the asker has sent, so the first one says
    nothing. A list of names is nobody's name.
    """
    found: dict[str, str] = {}
    for name, value in headers:
        found[name] = f"{found[name]}, {value}" if name in found else value
    return found


def read(
    address: str,
    headers: Mapping[str, str],
    access: WebAccess,
    *,
    is_tls: bool,
    account: Callable[[], str],
) -> Peer:
    """Where a request comes from.

    Args:
        address: of the other end of the connection.
        headers: with lower-case names, each once: see `joined`.
        access: the settings.
        is_tls: whether the connection is.
        account: finds whose the other end is, on this machine; empty if nobody knows.
    """
    address = _plain(address)
    named = [proxy for proxy in access.proxies if proxy.address == address]
    if not named or not any(not proxy.account or proxy.account == account() for proxy in named):
        return Peer(address, is_tls)
    is_secure = headers.get("x-forwarded-proto", "").rpartition(",")[2].strip().lower() == "https"
    user = headers.get(access.proxy_user_header, "") if access.proxy_user_header else ""
    told = _first_foreign(headers.get("x-forwarded-for", ""), access)
    return Peer(told or address, is_secure or is_tls, is_proxy=True, user=user.strip()[:_LONGEST_NAME])


def _first_foreign(text: str, access: WebAccess) -> str:
    """The last address of a list that is no proxy's of ours: what is before it, anybody may have written."""
    ours = {proxy.address for proxy in access.proxies}
    for part in reversed(text.split(",")[-20:]):
        found = _plain(part.strip())
        try:
            ipaddress.ip_address(found)
        except ValueError:
            return ""
        if found not in ours:
            return found
    return ""


def _plain(address: str) -> str:
    """An address as it is compared: one of version 4 that is written as one of version 6 is of version 4."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return str(mapped or found)
