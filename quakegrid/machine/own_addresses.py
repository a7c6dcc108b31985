"""Which hosts are this machine."""

from __future__ import annotations

import contextlib
import socket
from typing import Any


def is_own(host: str) -> bool:
    """Whether a name or an address is of this machine; False for an unknown name."""
    try:
        found = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return False
    return any(_can_bind(family, address) for family, _type, _protocol, _name, address in found)


def _can_bind(family: int, address: tuple[Any, ...]) -> bool:
    """Whether this machine can bind to an address, which it can only if it has the address."""
    with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.bind(address)
        return True
    return False
