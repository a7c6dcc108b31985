"""Nodes that the dbserver has shut out: their certificate was revoked, or has ended. They are in no fleet.

Runs in the broker's event loop. Hears of them from the stream that tells which credentials count.
"""

from __future__ import annotations

import logging
from typing import Protocol

from quakegrid import errors

log = logging.getLogger("quakegrid.broker")


class Members(Protocol):
    """The nodes of the fleet, as this module needs them."""

    def part_with(self, host: str, reason: str) -> None:
        """Close the link to a node at once, and give up its workers; nothing happens if there is none."""

    def let_in(self, host: str) -> None:
        """Watch a node again that the configuration names; nothing happens for any other."""


class ShutOutNodes:
    """The nodes that may not be in the fleet.

    Args:
        fleet: the nodes that are in it.
    """

    def __init__(self, fleet: Members) -> None:
        self._fleet = fleet
        self._hosts: frozenset[str] = frozenset()

    def take(self, hosts: frozenset[str]) -> None:
        """Shut these nodes out, and no other."""
        before, self._hosts = self._hosts, hosts
        for host in hosts - before:
            log.info("node_shut_out host=%s", host)
            self._fleet.part_with(host, _reason(host))
        for host in before - hosts:
            self._fleet.let_in(host)

    def check(self, host: str) -> None:
        """Refuse a node that is shut out.

        Raises:
            CredentialError: it is.
        """
        if host in self._hosts:
            raise errors.CredentialError(f"the node {host} is {_reason(host)}")


def _reason(host: str) -> str:
    return (
        "shut out: its certificate was revoked or has ended; "
        f"`quakegrid token create --node --host {host}` makes a token for it"
    )
