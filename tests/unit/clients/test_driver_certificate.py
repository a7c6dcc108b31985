"""A driver's certificate, and its renewal."""

from __future__ import annotations

import datetime
import threading

from quakegrid import errors
from quakegrid.access.principals import Principal, PrincipalRole
from quakegrid.access.proofs import Certified, Renewed
from quakegrid.clients.dbserver import driver_certificate
from quakegrid.clients.dbserver.driver_certificate import CertificateKeeper
from quakegrid.transport import certificates, credentials
from quakegrid.transport.renewed_channels import RenewedChannel

WAIT_S = 20.0
NOW = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
AUTHORITY = credentials.authority("a-key-of-a-cluster-that-nobody-guesses")


def certify(life: datetime.timedelta = certificates.DRIVER_LIFE) -> Certified:
    """A certificate that was made at NOW."""
    key_pem, public_pem = certificates.new_key()
    principal = Principal(PrincipalRole.DRIVER, "anna", "0" * 32, account_id=1000)
    ca_pem, certificate_pem = AUTHORITY.certify(principal, public_pem, NOW, NOW + life)
    return Certified(ca_pem, key_pem, certificate_pem)


def at(hours: float) -> float:
    """So many hours after NOW, in seconds since 1970."""
    return (NOW + datetime.timedelta(hours=hours)).timestamp()


def test_certificate_is_read_as_it_came_with_the_request() -> None:
    """PEM in JSON."""
    made = certify()

    found = driver_certificate.read(
        {
            "ca": made.ca_pem.decode(),
            "key": made.key_pem.decode(),
            "certificate": made.certificate_pem.decode(),
        }
    )

    assert found.certified == made
    assert "PRIVATE" not in repr(found)


def test_certificate_is_renewed_when_half_of_it_is_over_and_not_before() -> None:
    """A try that fails is repeated; the next certificate lives as long again."""
    given, fresh = Renewed(certify()), certify(datetime.timedelta(hours=40))
    clock = [at(1.0)]
    looked, asked, renewed = threading.Event(), threading.Event(), threading.Event()

    def now_s() -> float:
        looked.set()
        return clock[0]

    def renew() -> Certified:
        if not asked.is_set():
            asked.set()
            raise errors.PeerUnreachableError("the dbserver is away")
        renewed.set()
        return fresh

    keeper = CertificateKeeper(given, renew, look_s=0.001, clock=now_s)
    looked.clear()
    assert looked.wait(WAIT_S)
    assert not asked.is_set()
    clock[0] = at(13.0)
    assert renewed.wait(WAIT_S)
    while given.certified is not fresh:
        assert looked.wait(WAIT_S)
    renewed.clear()
    for _ in range(3):
        looked.clear()
        assert looked.wait(WAIT_S)
    keeper.close()

    assert not renewed.is_set()


def test_certificate_for_one_command_is_not_renewed() -> None:
    """It is a service's, and short."""
    before = set(threading.enumerate())

    CertificateKeeper(Renewed(certify(datetime.timedelta(hours=1))), certify, clock=lambda: at(0.0))

    assert set(threading.enumerate()) <= before


def test_channel_takes_the_certificate_that_was_renewed() -> None:
    """At the next call; until then it keeps its connection."""
    given = Renewed(certify())
    with RenewedChannel("127.0.0.1:1", given, ()) as channel:
        first = channel.current()
        assert channel.current() is first

        given.certified = certify()

        assert channel.current() is not first
        assert channel.current() is channel.current()
