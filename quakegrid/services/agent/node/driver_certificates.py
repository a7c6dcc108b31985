"""The certificates that drivers get when they are forked: they say for whom a driver works.

An agent that holds the authkey signs them itself. Does not depend on command lines.
"""

from __future__ import annotations

import datetime
import secrets
from typing import Protocol

from quakegrid.access import principals
from quakegrid.access.principals import Principal, PrincipalRole
from quakegrid.access.proofs import Certified, KeyProof
from quakegrid.errors import UsageError
from quakegrid.services.agent.node.doors.askers import Person
from quakegrid.transport import certificates, credentials

# Of a command that runs no calculation.
COMMAND_LIFE = datetime.timedelta(hours=1)


class DriverCertifier(Protocol):
    """Gives certificates to drivers."""

    async def certify(self, person: Person) -> Certified:
        """A certificate for a driver of a person.

        Raises:
            QuakeGridError: there is none, and why.
        """

    async def certify_command(self, person: Person) -> Certified:
        """A certificate for a driver that runs no calculation, and was asked for by who can read the authkey.

        Raises:
            QuakeGridError: there is none, and why.
        """


class OwnCertifier:
    """Signs by itself.

    Args:
        proof: the authkey of the cluster.
    """

    def __init__(self, proof: KeyProof) -> None:
        self._authority = credentials.Signer(proof)

    async def certify(self, person: Person) -> Certified:
        """A certificate for a driver of a person, for 24 hours; the driver renews it at the dbserver."""
        if not principals.is_name(person.name):
            raise UsageError(
                f"no calculation can run for {person.name[:100]!r}, which cannot be a person's name: "
                f"{principals.ALLOWED_NAMES}"
            )
        principal = Principal(
            PrincipalRole.DRIVER, person.name, secrets.token_hex(16), account_id=person.account_id
        )
        now_time = datetime.datetime.now(datetime.UTC)
        key_pem, public_pem = certificates.new_key()
        until_time = now_time + certificates.DRIVER_LIFE
        ca_pem, certificate_pem = self._authority.certify(principal, public_pem, now_time, until_time)
        return Certified(ca_pem, key_pem, certificate_pem)

    async def certify_command(self, person: Person) -> Certified:  # noqa: ARG002 - acts for the cluster
        """A certificate of a service, which the asker could make, too."""
        now_time = datetime.datetime.now(datetime.UTC)
        return self._authority.certify_service(now_time, now_time + COMMAND_LIFE)
