"""The cluster's certificate authority: certificates for services, and for everybody else.

Its key is derived from the authkey, so whoever holds the authkey can sign, and any two certificates of a
cluster verify each other wherever they were made. Servers and clients can show a certificate of a service.
Only clients can show a certificate of another principal, which has no name of a host. Knows no gRPC.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass, field

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from quakegrid.access import principals
from quakegrid.access.principals import PEER_NAME, Principal

CA_NAME = "QuakeGrid cluster"
# Certificates count from so long before they are made: clocks differ.
CLOCK_SKEW = datetime.timedelta(days=1)
P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
_PEM = serialization.Encoding.PEM
_FOR_SERVERS = (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH)
_FOR_CLIENTS = (ExtendedKeyUsageOID.CLIENT_AUTH,)


@dataclass(frozen=True, slots=True)
class Certified:
    """A key with its certificate, and the CA certificate to know others by, PEM; its `repr` has no key."""

    ca_pem: bytes
    key_pem: bytes = field(repr=False)
    certificate_pem: bytes


@dataclass(frozen=True, slots=True)
class _Term:
    """From when until when a certificate counts."""

    start_time: datetime.datetime
    end_time: datetime.datetime


class Authority:
    """Signs certificates of one cluster.

    Args:
        secret: 48 bytes, derived from the authkey.
        cluster: what tells the cluster apart for people, lower-case letters and digits.
    """

    __slots__ = ("_cluster", "_key", "_name")

    def __init__(self, secret: bytes, cluster: str) -> None:
        scalar = int.from_bytes(secret) % (P256_ORDER - 1) + 1
        self._key = ec.derive_private_key(scalar, ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, CA_NAME)])
        self._cluster = cluster

    def certify_service(self, now_time: datetime.datetime, until_time: datetime.datetime) -> Certified:
        """A new key and certificate for a process that holds the authkey."""
        term = _Term(now_time - CLOCK_SKEW, until_time)
        return self._certify(PEER_NAME, x509.DNSName(PEER_NAME), _FOR_SERVERS, term)

    def certify(
        self, principal: Principal, now_time: datetime.datetime, until_time: datetime.datetime
    ) -> Certified:
        """A new key and certificate for a principal that does not hold the authkey.

        Raises:
            ValueError: its name cannot be in a certificate.
        """
        uri = principals.to_uri(principal, self._cluster)
        term = _Term(now_time - CLOCK_SKEW, until_time)
        # Not the bare name, which may look like the name of a host.
        return self._certify(
            f"QuakeGrid {principal}", x509.UniformResourceIdentifier(uri), _FOR_CLIENTS, term
        )

    def _certify(
        self,
        subject: str,
        alternative: x509.GeneralName,
        uses: tuple[x509.ObjectIdentifier, ...],
        term: _Term,
    ) -> Certified:
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject[:64])])
        leaf = (
            self._builder(name, key.public_key(), term)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(is_ca=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage(uses), critical=False)
            .add_extension(x509.SubjectAlternativeName([alternative]), critical=False)
        )
        ca = (
            self._builder(self._name, self._key.public_key(), term)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_key_usage(is_ca=True), critical=True)
        )
        key_pem = key.private_bytes(_PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        signed = [each.sign(self._key, hashes.SHA256()).public_bytes(_PEM) for each in (ca, leaf)]
        return Certified(signed[0], key_pem, signed[1])

    def _builder(
        self, subject: x509.Name, public_key: ec.EllipticCurvePublicKey, term: _Term
    ) -> x509.CertificateBuilder:
        ca_id = x509.SubjectKeyIdentifier.from_public_key(self._key.public_key())
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(term.start_time)
            .not_valid_after(term.end_time)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(ca_id), critical=False
            )
        )


def _key_usage(*, is_ca: bool) -> x509.KeyUsage:
    """A CA signs certificates, everybody else signs handshakes."""
    return x509.KeyUsage(
        digital_signature=not is_ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=is_ca,
        crl_sign=is_ca,
        encipher_only=False,
        decipher_only=False,
    )


def is_of_a_cluster(certificate: bytes) -> bool:
    """Whether a certificate (DER) looks like one of a QuakeGrid cluster; this proves nothing."""
    try:
        issuer = x509.load_der_x509_certificate(certificate).issuer
    except ValueError:  # whatever others send
        return False
    return [name.value for name in issuer.get_attributes_for_oid(NameOID.COMMON_NAME)] == [CA_NAME]


def until_s(certificate_pem: bytes) -> float:
    """When a certificate ends, in seconds since 1970.

    Raises:
        ValueError: it is none.
    """
    return x509.load_pem_x509_certificate(certificate_pem).not_valid_after_utc.timestamp()
