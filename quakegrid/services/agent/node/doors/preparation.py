"""What a driver gets before it is forked: its person, a certificate that says so, an account to run as."""

from __future__ import annotations

from typing import Any

from quakegrid import errors
from quakegrid.access.proofs import Certified
from quakegrid.services.agent.node.doors import askers
from quakegrid.services.agent.node.doors.askers import Asker, Person
from quakegrid.services.agent.node.driver_certificates import DriverCertifier
from quakegrid.services.agent.node.persons.accounts import NodeAccounts
from quakegrid.services.agent.rules.persons import Account

Request = dict[str, Any]
# The first argument of a driver that starts a calculation which a service was sent.
START = "start"


class Preparation:
    """Prepares requests for drivers.

    Args:
        accounts: of this node.
        certifier: gives each driver a certificate.
    """

    def __init__(self, accounts: NodeAccounts, certifier: DriverCertifier) -> None:
        self._accounts, self._certifier = accounts, certifier

    async def for_asker(self, request: Request, asker: Asker) -> tuple[Request, Account | None]:
        """The request of a command line with all that its driver needs, and the driver's account.

        Args:
            request: checked.
            asker: the account of the command line.
        Returns:
            The request with `person`, `account_id` and `proof`; the account is None for the agent's own.
        Raises:
            QuakeGridError: there is no certificate or no account, and why.
        """
        if request["for_person"]:
            return await self._for_person(request, asker)
        person = askers.person_of(asker, request["environ"])
        request = request | {"person": person.name, "account_id": person.account_id}
        if askers.cares_for_cluster(asker, request):
            return request | {"proof": _proof(await self._certifier.certify_command(person))}, None
        return await self.again(request)

    async def _for_person(self, request: Request, asker: Asker) -> tuple[Request, Account | None]:
        """As `for_asker`, for a person who has proved to a service who they are.

        Raises:
            NotAllowedError: the command line is none of a service's account or root's, which hold the authkey
                and so could have this person's processes on every node anyway; or a calculation would run
                as the agent's account.
        """
        name = request["for_person"]
        if not asker.is_trusted:
            raise errors.NotAllowedError(f"you are {asker.name} and cannot ask for {name[:80]!a}")
        number = await self._accounts.number_for(name)
        request, account = await self.again(request | {"person": name, "account_id": number})
        if account is None and request["argv"][:1] == [START]:
            raise errors.NotAllowedError(
                f"the calculation of {name[:80]!a} would run as the account of the services, as the agent of "
                "this machine cannot change users; start it with `quakegrid run`, or let an administrator "
                "install the services with `quakegrid install`"
            )
        if account is not None:  # the environment is that of the service
            request["environ"] = request["environ"] | {"HOME": account.home, "USER": account.name}
        return request, account

    async def again(self, request: Request) -> tuple[Request, Account | None]:
        """As `for_asker`, for a request that has its person already."""
        person = Person(request["person"], request["account_id"])
        request = request | {"proof": _proof(await self._certifier.certify(person))}
        account = await self._accounts.account_of(person.name, person.account_id)
        if account is not None and account.uid != person.account_id:
            # One that is not the person's own has a home of its own.
            request["environ"] = request["environ"] | {"HOME": account.home, "USER": account.name}
        return request, account


def _proof(given: Certified) -> dict[str, str]:
    return {
        "ca": given.ca_pem.decode(),
        "key": given.key_pem.decode(),
        "certificate": given.certificate_pem.decode(),
    }
