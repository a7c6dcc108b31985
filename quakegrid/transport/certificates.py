"""The cluster's certificate authority: certificates for services, and for everybody else.

Its key is derived from the authkey, so whoever holds the authkey can sign, and any two certificates of a
cluster verify each other wherever they were made. Servers and clients can show a certificate of a service.
That of a node is also a server's, for this node alone. Only clients can show a certificate of another
principal, which has no name of a host. Knows no gRPC.
"""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from quakegrid.access import principals
from quakegrid.access.principals import ANY_NODE_NAME, PEER_NAME, Principal, PrincipalRole
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
        former: the authority before this one, and until when it counts. Who trusts in one of the two trusts
            meanwhile in what the other one signs.
    """

    __slots__ = ("_cluster", "_former", "_key", "_name")

    def __init__(
        self, secret: bytes, cluster: str, former: tuple[Authority, datetime.datetime] | None = None
    ) -> None:
        scalar = int.from_bytes(secret) % (P256_ORDER - 1) + 1
        self._key = ec.derive_private_key(scalar, ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, CA_NAME)])
        self._cluster, self._former = cluster, former

    def certify_service(self, now_time: datetime.datetime, until_time: datetime.datetime) -> Certified:
        """A new key and certificate for a process that holds the authkey."""
        term = _Term(now_time - CLOCK_SKEW, until_time)
        key = ec.generate_private_key(ec.SECP256R1())
        leaf = self._leaf(PEER_NAME, key.public_key(), term)
        names = [x509.DNSName(PEER_NAME), x509.DNSName(ANY_NODE_NAME)]
        leaf = leaf.add_extension(x509.SubjectAlternativeName(names), critical=False)
        leaf = leaf.add_extension(x509.ExtendedKeyUsage(_FOR_SERVERS), critical=False)
        return Certified(self._ca_pem(term), _key_pem(key), self._chain(leaf, now_time))

    def certify_web(
        self, names: Iterable[str], now_time: datetime.datetime, until_time: datetime.datetime
    ) -> Certified:
        """A new key and certificate for a web service: a server with names that people know.

        Args:
            names: of hosts, and addresses.
            now_time: when it is made.
            until_time: when it ends.
        """
        term = _Term(now_time - CLOCK_SKEW, until_time)
        key = ec.generate_private_key(ec.SECP256R1())
        leaf = self._leaf("QuakeGrid web service", key.public_key(), term)
        found = x509.SubjectAlternativeName(map(_general_name, names))
        leaf = leaf.add_extension(found, critical=False)
        leaf = leaf.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        return Certified(self._ca_pem(term), _key_pem(key), self._chain(leaf, now_time))

    def ca_pem(self, now_time: datetime.datetime, until_time: datetime.datetime) -> bytes:
        """The CA certificates by which others know what this authority signs, PEM."""
        return self._ca_pem(_Term(now_time - CLOCK_SKEW, until_time))

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
            The CA certificates and the certificate, PEM, this authority's first.
        Raises:
            ValueError: its name cannot be in a certificate, or the key is none.
        """
        uri = principals.to_uri(principal, self._cluster)
        term = _Term(now_time - CLOCK_SKEW, until_time)
        # Not the bare name, which may look like the name of a host.
        leaf = self._leaf(f"QuakeGrid {principal}", _public_key(public_key_pem), term)
        names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(uri)]
        is_node = principal.role is PrincipalRole.NODE
        if is_node:
            names.append(x509.DNSName(principals.node_dns_name(principal.name)))
        leaf = leaf.add_extension(x509.SubjectAlternativeName(names), critical=False)
        usages = _FOR_SERVERS if is_node else _FOR_CLIENTS
        leaf = leaf.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        return self._ca_pem(term), self._chain(leaf, now_time)

    @property
    def public_key(self) -> bytes:
        """By which others know the certificates of this authority; 33 bytes, compressed."""
        return self._key.public_key().public_bytes(
            serialization.Encoding.X962, serialization.PublicFormat.CompressedPoint
        )

    def has_signed(self, certificate_pem: bytes) -> bool:
        """Whether this authority, and not the former one, has signed a certificate."""
        try:
            certificate = x509.load_pem_x509_certificate(certificate_pem)
            self._key.public_key().verify(
                certificate.signature, certificate.tbs_certificate_bytes, ec.ECDSA(hashes.SHA256())
            )
        except (InvalidSignature, ValueError):
            return False
        return True

    def _ca_pem(self, term: _Term) -> bytes:
        """The certificates to know others by: the former authority's ends when it does not count any more."""
        own = self._sign(self._ca(self._key.public_key(), term))
        if self._former is None or self._former[1] <= term.start_time + CLOCK_SKEW:
            return own
        former, until_time = self._former
        rest = _Term(term.start_time, min(term.end_time, until_time))
        return own + former._sign(former._ca(former._key.public_key(), rest))  # noqa: SLF001  of our class

    def _chain(self, leaf: x509.CertificateBuilder, now_time: datetime.datetime) -> bytes:
        """A signed certificate, with one by which those know it who trust in the former authority only.

        Both authorities have one name, so this step of the chain is no step of the kind that a CA certificate
        without further steps (`path_length`) forbids.
        """
        if self._former is None or self._former[1] <= now_time:
            return self._sign(leaf)
        former, until_time = self._former
        term = _Term(now_time - CLOCK_SKEW, until_time)
        return self._sign(leaf) + former._sign(former._ca(self._key.public_key(), term))  # noqa: SLF001

    def _ca(self, public_key: ec.EllipticCurvePublicKey, term: _Term) -> x509.CertificateBuilder:
        builder = self._builder(self._name, public_key, term)
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        return builder.add_extension(_key_usage(is_ca=True), critical=True)

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


def public_keys_of(certificates_pem: bytes) -> list[bytes]:
    """The public keys of some certificates; each 33 bytes, compressed.

    Raises:
        ValueError: one is no certificate, or has another kind of key.
    """
    found = x509.load_pem_x509_certificates(certificates_pem)
    return [public_key_of(each.public_bytes(_PEM)) for each in found]


def public_key_of(certificate_pem: bytes) -> bytes:
    """The public key of a certificate; 33 bytes, compressed.

    Raises:
        ValueError: it is no certificate, or has another kind of key.
    """
    key = x509.load_pem_x509_certificate(certificate_pem).public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise ValueError("the key is not an elliptic one")  # noqa: TRY004  as for any other bad certificate
    return key.public_bytes(serialization.Encoding.X962, serialization.PublicFormat.CompressedPoint)


def trust_in(ca_public_key: bytes, now_time: datetime.datetime) -> bytes:
    """A CA certificate, PEM, that lets TLS trust in an authority of which only the public key is known.

    What counts of a certificate that a client trusts in are its name and its key. Its signature, which nobody
    checks, is of a key that is thrown away.

    Args:
        ca_public_key: as `Authority.public_key`.
        now_time: it counts for an hour around.
    Raises:
        ValueError: it is no public key.
    """
    key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), ca_public_key)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, CA_NAME)])
    hour = datetime.timedelta(hours=1)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now_time - hour)
        .not_valid_after(now_time + hour)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(is_ca=True), critical=True)
    )
    return builder.sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256()).public_bytes(_PEM)


def new_key() -> tuple[bytes, bytes]:
    """A new private key, and its public key, PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    public = key.public_key().public_bytes(_PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return _key_pem(key), public


def key_bytes(key_pem: bytes) -> bytes:
    """A private key of `new_key`, as 32 bytes."""
    key = serialization.load_pem_private_key(key_pem, None)
    assert isinstance(key, ec.EllipticCurvePrivateKey), "it is one of ours"
    return key.private_numbers().private_value.to_bytes(32)


def certificate_bytes(certificate_pem: bytes) -> bytes:
    """A certificate as DER."""
    return x509.load_pem_x509_certificate(certificate_pem).public_bytes(serialization.Encoding.DER)


def certified(ca_pem: bytes, key: bytes, certificate: bytes) -> Certified:
    """A key and its certificate from bytes.

    Raises:
        ValueError: they are none, or do not belong together.
    """
    private = ec.derive_private_key(int.from_bytes(key), ec.SECP256R1())
    found = x509.load_der_x509_certificate(certificate)
    if found.public_key() != private.public_key():
        raise ValueError("the certificate is of another key")
    return Certified(ca_pem, _key_pem(private), found.public_bytes(_PEM))


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


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


def signer_of(certificate: bytes) -> bytes:
    """What tells apart by which key a certificate, DER, is signed; empty if it does not say so.

    Raises:
        ValueError: it is none.
    """
    found = x509.load_der_x509_certificate(certificate).extensions
    try:
        signer = found.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier
    except x509.ExtensionNotFound:
        return b""
    return signer or b""


def until_s(certificate_pem: bytes) -> float:
    """When a certificate ends, in seconds since 1970.

    Raises:
        ValueError: it is none.
    """
    return x509.load_pem_x509_certificate(certificate_pem).not_valid_after_utc.timestamp()
