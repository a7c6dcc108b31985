"""The certificates that an agent gives to drivers."""

from __future__ import annotations

import asyncio
import os

import pytest
from cryptography import x509

from quakegrid import errors
from quakegrid.access import principals
from quakegrid.access.principals import Principal, PrincipalRole
from quakegrid.access.proofs import Certified
from quakegrid.services.agent.node.doors import askers
from quakegrid.services.agent.node.doors.askers import Asker, Person
from quakegrid.services.agent.node.driver_certificates import OwnCertifier

CERTIFIER = OwnCertifier("a-key-of-a-cluster-that-nobody-guesses")
STRANGER = 4_000_123


def principal_of(made: Certified) -> Principal | None:
    """Who a certificate names."""
    leaf = x509.load_pem_x509_certificate(made.certificate_pem)
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return principals.from_names(str(name.value) for name in names)


def test_driver_is_its_person_on_this_node() -> None:
    """With the account, and an id that no other driver has."""
    first, second = (
        principal_of(asyncio.run(CERTIFIER.certify(Person("anna", account_id))))
        for account_id in (1000, None)
    )

    assert first is not None
    assert second is not None
    assert (first.role, first.name, first.account_id) == (PrincipalRole.DRIVER, "anna", 1000)
    assert (second.name, second.account_id) == ("anna", None)
    assert first.credential_id != second.credential_id


@pytest.mark.parametrize("name", ["a b", "x" * 65, "ä", ""])
def test_driver_of_a_name_that_no_certificate_carries_is_refused(name: str) -> None:
    """In words."""
    with pytest.raises(errors.UsageError, match="cannot be a person's name"):
        asyncio.run(CERTIFIER.certify(Person(name, None)))


def test_command_that_cares_for_the_cluster_acts_as_a_service() -> None:
    """Its asker can read the authkey, and could make such a certificate."""
    assert principal_of(asyncio.run(CERTIFIER.certify_command(Person("anna", 0)))) == principals.SERVICE


@pytest.mark.parametrize(
    ("uid", "mode", "argv", "expected"),
    [
        (0, "oq", ["workers", "stop"], True),
        (os.getuid(), "oq", ["purge", "7"], True),
        (STRANGER, "oq", ["workers", "stop"], False),
        (0, "run", ["workers"], False),
        (0, "oq", ["engine", "--run", "workers"], False),
        (0, "oq", ["run", "job.ini"], False),
        (0, "oq", [], False),
    ],
)
def test_only_who_can_read_the_key_cares_for_the_cluster(
    uid: int, mode: str, argv: list[str], expected: bool
) -> None:
    """And only by a command that runs no calculation."""
    request = {"argv": argv, "mode": mode}

    assert askers.cares_for_cluster(Asker(uid, 1, "x"), request) is expected
