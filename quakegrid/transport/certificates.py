"""The cluster's certificate authority: certificates for services, and for everybody else.

Its key is derived from the authkey, so whoever holds the authkey can sign, and any two certificates of a
cluster verify each other wherever they were made. Servers and clients can show a certificate of a service.
Only clients can show a certificate of another principal, which has no name of a host. Knows no gRPC.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from quakegrid.access import principals
from quakegrid.access.principals import PEER_NAME, Principal
from quakegrid.access.proofs import Certified

CA_NAME = "QuakeGrid cluster"
# Certificates count from so long before they are made: clocks differ.
CLOCK_SKEW = datetime.timedelta(days=1)
# Of a driver; it gets another one when half of it is over.
DRIVER_LIFE = datetime.timedelta(hours=24)
P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
_PEM = serialization.Encoding.PEM
_FOR_SERVERS = (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH)
_FOR_CLIENTS = (ExtendedKeyUsageOID.CLIENT_AUTH,)


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
        key = ec.generate_private_key(ec.SECP256R1())
        leaf = self._leaf(PEER_NAME, key.public_key(), term)
        leaf = leaf.add_extension(x509.SubjectAlternativeName([x509.DNSName(PEER_NAME)]), critical=False)
        leaf = leaf.add_extension(x509.ExtendedKeyUsage(_FOR_SERVERS), critical=False)
        return Certified(self._ca_pem(term), _key_pem(key), self._sign(leaf))

    def certify(
        self,
        principal: Principal,
        public_key_pem: bytes,
        now_time: datetime.datetime,
        until_time: datetime.datetime,
    ) -> tuple[bytes, bytes]:
        """A certificate for a principal that does not hold the authkey.

        Args:
            principal: who has the key.
            public_key_pem: of `new_key`, or another one on the curve P-256.
            now_time: when it is made.
            until_time: when it ends.
        Returns:
            The CA certificate and the certificate, PEM.
        Raises:
            ValueError: its name cannot be in a certificate, or the key is none.
        """
        uri = principals.to_uri(principal, self._cluster)
        term = _Term(now_time - CLOCK_SKEW, until_time)
        # Not the bare name, which may look like the name of a host.
        leaf = self._leaf(f"QuakeGrid {principal}", _public_key(public_key_pem), term)
        names = [x509.UniformResourceIdentifier(uri)]
        leaf = leaf.add_extension(x509.SubjectAlternativeName(names), critical=False)
        leaf = leaf.add_extension(x509.ExtendedKeyUsage(_FOR_CLIENTS), critical=False)
        return self._ca_pem(term), self._sign(leaf)

    def _ca_pem(self, term: _Term) -> bytes:
        builder = self._builder(self._name, self._key.public_key(), term)
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        return self._sign(builder.add_extension(_key_usage(is_ca=True), critical=True))

    def _leaf(
        self, subject: str, public_key: ec.EllipticCurvePublicKey, term: _Term
    ) -> x509.CertificateBuilder:
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject[:64])])
        builder = self._builder(name, public_key, term)
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        return builder.add_extension(_key_usage(is_ca=False), critical=True)

    def _sign(self, builder: x509.CertificateBuilder) -> bytes:
        return builder.sign(self._key, hashes.SHA256()).public_bytes(_PEM)

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


def new_key() -> tuple[bytes, bytes]:
    """A new private key, and its public key, PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    public = key.public_key().public_bytes(_PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return _key_pem(key), public


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(_PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


def _public_key(pem: bytes) -> ec.EllipticCurvePublicKey:
    """Read a public key.

    Raises:
        ValueError: it is none, or is not on the curve P-256.
    """
    try:
        key = serialization.load_pem_public_key(pem)
    except UnsupportedAlgorithm as exc:
        raise ValueError(str(exc)) from exc
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise ValueError("the key is not on the curve P-256")  # noqa: TRY004  as for any other bad key
    return key


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
