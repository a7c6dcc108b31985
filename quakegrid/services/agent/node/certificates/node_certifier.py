"""The certificates of drivers on a node without the authkey: the dbserver signs them for the node."""

from __future__ import annotations

import asyncio

from quakegrid import errors
from quakegrid.access.proofs import Certified
from quakegrid.clients import node_access
from quakegrid.services.agent.node.doors.askers import Person
from quakegrid.services.agent.node.driver_certificates import DriverCertifier, OwnCertifier
from quakegrid.settings.config import Settings


def certifier_of(settings: Settings) -> DriverCertifier:
    """Who gives certificates to the drivers of this node."""
    return NodeCertifier(settings) if settings.node_name else OwnCertifier(settings.keyring or "")


class NodeCertifier:
    """Asks the dbserver, in a thread.

    Args:
        settings: of a node that has a certificate.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    async def certify(self, person: Person) -> Certified:
        """A certificate for a driver of a person, for 24 hours; the driver renews it at the dbserver."""
        return await asyncio.to_thread(
            node_access.certify_driver, self._settings, person.name, person.account_id
        )

    async def certify_command(self, person: Person) -> Certified:
        """Refuse a command that needs the authkey, which this node does not have."""
        raise errors.NotAllowedError(
            f"this command of {person.name} is for those who can read the authkey, and the node "
            f"{self._settings.node_name} has a certificate in its place; run it on the master"
        )
