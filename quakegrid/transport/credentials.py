"""Keys and credentials, all derived from the cluster's one secret, the authkey.

HKDF-SHA256 with a label of its own for each use gives the cluster's CA key (mutual TLS on every gRPC
port) and the CURVE key pairs (every ZeroMQ port). Every process signs its own certificate, so there
is no file to copy: two certificates of one CA key verify each other wherever they were made.
Does not depend on addresses, or on the messages of the connections.
"""

from __future__ import annotations

import base64
import datetime
import hmac
from dataclasses import dataclass, field

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, x25519
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.x509.oid import NameOID

# Every certificate has this name, and clients check it: each holder of the key belongs to the cluster.
PEER_NAME = "peer.quakegrid.internal"
CA_NAME = "QuakeGrid cluster"
CERTIFICATE_LIFE = datetime.timedelta(days=30)
CLOCK_SKEW = datetime.timedelta(days=1)
P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551

_Z85 = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#"


@dataclass(frozen=True, slots=True)
class CurveKeys:
    """CURVE keys of a cluster, z85-encoded as ZeroMQ takes them; its `repr` shows no secret."""

    server_public: bytes
    server_secret: bytes = field(repr=False)
    client_public: bytes
    client_secret: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Identity:
    """The cluster's CA certificate with this process's own key and certificate, PEM."""

    ca_pem: bytes
    key_pem: bytes = field(repr=False)
    certificate_pem: bytes
    made_time: datetime.datetime

    def is_due(self, now_time: datetime.datetime) -> bool:
        """Whether a new identity is needed: half its life is over, or the clock was set back."""
        return not self.made_time <= now_time < self.made_time + CERTIFICATE_LIFE / 2


def _derive(authkey: str, label: str, length: int = 32) -> bytes:
    kdf = HKDF(algorithm=hashes.SHA256(), length=length, salt=b"quakegrid/v1", info=label.encode())
    return kdf.derive(authkey.encode())


def new_identity(authkey: str, now_time: datetime.datetime | None = None) -> Identity:
    """Make this process's certificate, signed by the cluster's CA key.

    Args:
        authkey: the cluster's secret.
        now_time: aware instant from which the certificate counts; None is now.
    """
    now_time = now_time or datetime.datetime.now(datetime.UTC)
    scalar = int.from_bytes(_derive(authkey, "tls-ca", 48)) % (P256_ORDER - 1) + 1
    ca_key = ec.derive_private_key(scalar, ec.SECP256R1())
    ca_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, CA_NAME)])
    ca = _certificate(ca_name, ca_name, ca_key.public_key(), ca_key, now_time, is_ca=True)
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, PEER_NAME)])
    leaf = _certificate(name, ca_name, key.public_key(), ca_key, now_time, is_ca=False)
    key_pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    pem = serialization.Encoding.PEM
    return Identity(ca.public_bytes(pem), key_pem, leaf.public_bytes(pem), now_time)


def _certificate(
    subject: x509.Name,
    issuer: x509.Name,
    public_key: ec.EllipticCurvePublicKey,
    ca_key: ec.EllipticCurvePrivateKey,
    now_time: datetime.datetime,
    *,
    is_ca: bool,
) -> x509.Certificate:
    ca_id = x509.SubjectKeyIdentifier.from_public_key(ca_key.public_key())
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now_time - CLOCK_SKEW)
        .not_valid_after(now_time + CERTIFICATE_LIFE)
        .add_extension(x509.BasicConstraints(ca=is_ca, path_length=0 if is_ca else None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(ca_id), critical=False)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(PEER_NAME)]), critical=False)
        .sign(ca_key, hashes.SHA256())
    )


def is_of_a_cluster(certificate: bytes) -> bool:
    """Whether a certificate (DER) looks like one of a QuakeGrid cluster. This is no proof."""
    try:
        issuer = x509.load_der_x509_certificate(certificate).issuer
    except ValueError:  # strangers may send anything
        return False
    return [name.value for name in issuer.get_attributes_for_oid(NameOID.COMMON_NAME)] == [CA_NAME]


def server_credentials(authkey: str) -> grpc.ServerCredentials:
    """Mutual TLS for a gRPC server; the certificate is renewed when it is due, at a handshake."""
    current = new_identity(authkey)

    def configuration(identity: Identity) -> grpc.ServerCertificateConfiguration:
        pair = (identity.key_pem, identity.certificate_pem)
        return grpc.ssl_server_certificate_configuration([pair], identity.ca_pem)

    def renewed() -> grpc.ServerCertificateConfiguration | None:
        nonlocal current
        if not current.is_due(datetime.datetime.now(datetime.UTC)):
            return None
        current = new_identity(authkey)
        return configuration(current)

    return grpc.dynamic_ssl_server_credentials(
        configuration(current),
        renewed,  # type: ignore[arg-type] # None means: keep what you have
        require_client_authentication=True,
    )


def channel_credentials(authkey: str) -> grpc.ChannelCredentials:
    """Mutual TLS for a gRPC channel that lives less than the certificate's 30 days."""
    return credentials_of(new_identity(authkey))


def credentials_of(identity: Identity) -> grpc.ChannelCredentials:
    """Mutual TLS for a gRPC channel, for as long as this identity is valid."""
    return grpc.ssl_channel_credentials(identity.ca_pem, identity.key_pem, identity.certificate_pem)


def curve_keys(authkey: str) -> CurveKeys:
    """The CURVE key pairs of the cluster: one for processes that bind, one for those that connect."""
    server_public, server_secret = _curve_pair(_derive(authkey, "curve-server"))
    client_public, client_secret = _curve_pair(_derive(authkey, "curve-client"))
    return CurveKeys(server_public, server_secret, client_public, client_secret)


def _curve_pair(secret: bytes) -> tuple[bytes, bytes]:
    private = x25519.X25519PrivateKey.from_private_bytes(secret)
    return z85_encode(private.public_key().public_bytes_raw()), z85_encode(secret)


def z85_encode(data: bytes) -> bytes:
    """Encode bytes, a multiple of 4 long, as ZeroMQ's Z85 text (RFC 32/Z85)."""
    text: list[str] = []
    for start in range(0, len(data), 4):
        word = int.from_bytes(data[start : start + 4])
        text.extend(_Z85[word // 85**power % 85] for power in (4, 3, 2, 1, 0))
    return "".join(text).encode()


def fingerprint(authkey: str) -> str:
    """A short text that tells two authkeys apart and reveals nothing of them."""
    return base64.b32encode(_derive(authkey, "fingerprint", 5)).decode().lower()


def token_key(authkey: str) -> bytes:
    """The key of the tokens below; make it once."""
    return _derive(authkey, "lane-tokens")


def session_token(key: bytes, session_id: int) -> str:
    """The token that the broker gives to the driver of a session, to prove itself with: 64 hex digits."""
    return hmac.digest(key, f"driver {session_id}".encode(), "sha256").hex()


def worker_token(key: bytes, session_id: int, worker_id: str) -> str:
    """The token that the broker gives to a worker that it starts, to prove itself with: 64 hex digits."""
    return hmac.digest(key, f"worker {session_id} {worker_id}".encode(errors="replace"), "sha256").hex()


def is_token(shown: str, expected: str) -> bool:
    """Compare two tokens, in a time that does not depend on where they differ."""
    return hmac.compare_digest(shown.encode(errors="replace"), expected.encode())
