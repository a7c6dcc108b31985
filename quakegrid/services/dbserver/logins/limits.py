"""Who has to wait before another password is tried: each wrong one of a name or an address makes it longer.

A try counts when it begins, so tries side by side gain nothing. The wait for a name is short, since others
could lock its person out. That for an address grows long. Pure: the time comes from outside.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

# Wrong passwords that cost no wait, then the first wait, which doubles up to the longest one.
NAME_FREE_COUNT, NAME_LONGEST_S = 5, 30.0
ADDRESS_FREE_COUNT, ADDRESS_LONGEST_S = 20, 900.0
FIRST_WAIT_S = 1.0
# Without a try for so long, all is forgotten.
FORGET_S = 3600.0
# Names and addresses that are remembered, each; the one that was tried first makes room.
MOST_REMEMBERED = 10_000
_MOST_DOUBLINGS = 20


@dataclass(slots=True)
class _Tries:
    """Tries since the last right password."""

    count: int = 0
    last_s: float = 0.0


class _Counts:
    """The tries of all names, or of all addresses."""

    def __init__(self, free_count: int, longest_s: float) -> None:
        self._free_count, self._longest_s = free_count, longest_s
        self._tries: dict[str, _Tries] = {}

    def wait_s(self, key: str, now_s: float) -> float:
        tries = self._tries.get(key)
        if tries is None or tries.count < self._free_count:
            return 0.0
        doublings = min(tries.count - self._free_count, _MOST_DOUBLINGS)
        return max(0.0, tries.last_s + min(FIRST_WAIT_S * 2.0**doublings, self._longest_s) - now_s)

    def add(self, key: str, now_s: float) -> None:
        tries = self._tries.pop(key, None)
        if tries is None or now_s - tries.last_s > FORGET_S:
            tries = _Tries()
        tries.count, tries.last_s = tries.count + 1, now_s
        self._tries[key] = tries  # the last one, so the first one is the oldest
        if len(self._tries) > MOST_REMEMBERED:
            del self._tries[next(iter(self._tries))]

    def forgive(self, key: str) -> None:
        self._tries.pop(key, None)

    def __len__(self) -> int:
        return len(self._tries)


class LoginLimits:
    """Counts tries by name and by address."""

    def __init__(self) -> None:
        self._names = _Counts(NAME_FREE_COUNT, NAME_LONGEST_S)
        self._addresses = _Counts(ADDRESS_FREE_COUNT, ADDRESS_LONGEST_S)

    def begin(self, name: str, address: str, now_s: float) -> float:
        """Count a try, unless it has to wait; returns how long, 0 if the password may be looked at.

        Args:
            name: that somebody gives.
            address: from where.
            now_s: monotonic.
        """
        address = _network(address)
        wait_s = max(self._names.wait_s(name, now_s), self._addresses.wait_s(address, now_s))
        if wait_s <= 0:
            self._names.add(name, now_s)
            self._addresses.add(address, now_s)
        return wait_s

    def succeed(self, name: str, address: str) -> None:
        """Forget the tries of a name whose password was right, and of where it came from."""
        self._names.forgive(name)
        self._addresses.forgive(_network(address))

    def check(self) -> None:
        """Whether the memory has its bound."""
        assert len(self._names) <= MOST_REMEMBERED, "names"
        assert len(self._addresses) <= MOST_REMEMBERED, "addresses"


def _network(address: str) -> str:
    """Of an address of version 6 the network: whoever has one address has them all."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address
    if found.version == 4:
        return address
    return str(ipaddress.ip_network((found, 64), strict=False))
