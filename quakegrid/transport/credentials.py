"""Keys and credentials, derived from the cluster's one secret, the authkey.

HKDF-SHA256 with a label of its own for each use gives the cluster's CA key (mutual TLS on every gRPC
port). In the same way the broker's own secret gives the CURVE key pairs (every ZeroMQ
port) and the tokens of sessions and workers. Every process with the authkey signs its own certificate, so
there is no file to copy: two certificates of one CA key verify each other wherever they were made.
Does not depend on addresses, or on the messages of the connections.
"""

from __future__ import annotations

import base64
import datetime
import functools
import hmac
from dataclasses import dataclass, field

import grpc
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import x25519
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from quakegrid import errors
from quakegrid.access.principals import Principal
from quakegrid.access.proofs import Certified, ClusterKeys, KeyProof, Keyring, Proof, Renewed, keys_of
from quakegrid.transport.certificates import Authority

# Of a service; it makes itself another one when half of it is over.
CERTIFICATE_LIFE = datetime.timedelta(days=30)

_Z85 = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#"


@dataclass(frozen=True, slots=True)
class DoorKeys:
    """What a peer needs to connect to a lane, z85-encoded as ZeroMQ takes them; its `repr` shows no secret.

    The same for all peers and lanes of a broker. Its secret cannot be found from them. Behind the door a
    peer proves by a token for whom it speaks.
    """

    server_public: bytes
    client_public: bytes
    client_secret: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class CurveKeys:
    """The keys of a lane: its own secret, and those of its peers; its `repr` shows no secret."""

    server_secret: bytes = field(repr=False)
    door: DoorKeys


@dataclass(frozen=True, slots=True)
class Identity:
    """The cluster's CA certificate with this process's own key and certificate, PEM."""

    ca_pem: bytes
    key_pem: bytes = field(repr=False)
    certificate_pem: bytes
    made_time: datetime.datetime
    # Whether this process can make itself another one.
    is_own: bool = True
    # What it was made with, if that may be replaced.
    keys: ClusterKeys | None = None

    def is_due(self, now_time: datetime.datetime) -> bool:
        """Whether a new identity is needed: half its life is over, or the clock was set back."""
        return self.is_own and not self.made_time <= now_time < self.made_time + CERTIFICATE_LIFE / 2

    def is_replaced(self, proof: Proof, now_time: datetime.datetime) -> bool:
        """Whether there is another one, or has to be.

        Args:
            proof: what this one was made with.
            now_time: the time of day.
        """
        if isinstance(proof, Renewed):
            return proof.certified.certificate_pem is not self.certificate_pem
        if isinstance(proof, Keyring) and proof.keys is not self.keys:
            return True
        return self.is_due(now_time)


def _derive(authkey: str, label: str, length: int = 32) -> bytes:
    kdf = HKDF(algorithm=hashes.SHA256(), length=length, salt=b"quakegrid/v1", info=label.encode())
    return kdf.derive(authkey.encode())


def new_identity(proof: KeyProof, now_time: datetime.datetime | None = None) -> Identity:
    """Make this process's certificate, signed by the cluster's CA key.

    Args:
        proof: the cluster's secret.
        now_time: aware instant from which the certificate counts; None is now.
    """
    now_time = now_time or datetime.datetime.now(datetime.UTC)
    keys = keys_of(proof)
    made = authority_of(keys).certify_service(now_time, now_time + CERTIFICATE_LIFE)
    return Identity(made.ca_pem, made.key_pem, made.certificate_pem, now_time, keys=keys)


def identity_of(proof: Proof, now_time: datetime.datetime) -> Identity:
    """What a process shows to others.

    Raises:
        CredentialError: it has neither a key nor a certificate.
    """
    if isinstance(proof, str | Keyring):
        if not keys_of(proof).active:
            raise errors.CredentialError("this process has neither an authkey nor a certificate")
        return new_identity(proof, now_time)
    if isinstance(proof, Renewed):
        proof = proof.certified
    return Identity(proof.ca_pem, proof.key_pem, proof.certificate_pem, now_time, is_own=False)


def authority(authkey: str) -> Authority:
    """Who signs the certificates of the cluster with this authkey."""
    return authority_of(ClusterKeys(authkey))


def authority_of(keys: ClusterKeys) -> Authority:
    """Who signs the certificates of the cluster with these keys."""
    former = None
    if keys.old:
        until_time = datetime.datetime.fromtimestamp(keys.old_until_s, datetime.UTC)
        former = Authority(_derive(keys.old, "tls-ca", 48), fingerprint(keys.old)), until_time
    return Authority(_derive(keys.active, "tls-ca", 48), fingerprint(keys.active), former)


class Signer:
    """Signs with the key that counts now; see `Authority`.

    Args:
        proof: the authkey, or the keys of a service, which may be replaced.
    """

    def __init__(self, proof: KeyProof) -> None:
        self.proof = proof
        self._keys = keys_of(proof)
        self._authority = authority_of(self._keys)

    @property
    def authority(self) -> Authority:
        """Of the key that counts now."""
        keys = self._keys if isinstance(self.proof, str) else self.proof.keys
        if keys is not self._keys:
            self._keys, self._authority = keys, authority_of(keys)
        return self._authority

    def certify(
        self,
        principal: Principal,
        public_key_pem: bytes,
        now_time: datetime.datetime,
        until_time: datetime.datetime,
    ) -> tuple[bytes, bytes]:
        """As `Authority.certify`."""
        return self.authority.certify(principal, public_key_pem, now_time, until_time)

    def certify_service(self, now_time: datetime.datetime, until_time: datetime.datetime) -> Certified:
        """As `Authority.certify_service`."""
        return self.authority.certify_service(now_time, until_time)


def server_credentials(proof: Proof) -> grpc.ServerCredentials:
    """Mutual TLS for a gRPC server; the certificate is renewed when it is due, at a handshake."""
    current = identity_of(proof, datetime.datetime.now(datetime.UTC))

    def configuration(identity: Identity) -> grpc.ServerCertificateConfiguration:
        pair = (identity.key_pem, identity.certificate_pem)
        return grpc.ssl_server_certificate_configuration([pair], identity.ca_pem)

    def renewed() -> grpc.ServerCertificateConfiguration | None:
        nonlocal current
        now_time = datetime.datetime.now(datetime.UTC)
        if not current.is_replaced(proof, now_time):
            return None
        current = identity_of(proof, now_time)
        return configuration(current)

    return grpc.dynamic_ssl_server_credentials(
        configuration(current),
        renewed,  # type: ignore[arg-type] # None means: keep what you have
        require_client_authentication=True,
    )


def channel_credentials(proof: Proof) -> grpc.ChannelCredentials:
    """Mutual TLS for a gRPC channel that lives less than the certificate's 30 days."""
    return credentials_of(identity_of(proof, datetime.datetime.now(datetime.UTC)))


def credentials_of(identity: Identity) -> grpc.ChannelCredentials:
    """Mutual TLS for a gRPC channel, for as long as this identity is valid."""
    return grpc.ssl_channel_credentials(identity.ca_pem, identity.key_pem, identity.certificate_pem)


@functools.lru_cache(maxsize=4)
def curve_keys(secret: str) -> CurveKeys:
    """The CURVE key pairs of a broker's lanes: one for processes that bind, one for those that connect."""
    server_public, server_secret = _curve_pair(_derive(secret, "curve-server"))
    client_public, client_secret = _curve_pair(_derive(secret, "curve-client"))
    return CurveKeys(server_secret, DoorKeys(server_public, client_public, client_secret))


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


@functools.lru_cache(maxsize=4)
def web_token_key(authkey: str) -> bytes:
    """The key that signs tokens and cookies of the web service."""
    return _derive(authkey, "web-tokens")


def web_token_keys(proof: KeyProof, now_s: float) -> tuple[bytes, ...]:
    """The keys by which those tokens are known that count: the one that signs, and the one before.

    Args:
        proof: the cluster's secret.
        now_s: seconds since 1970.
    """
    keys = keys_of(proof)
    known = (keys.active, keys.old) if keys.has_old(now_s) else (keys.active,)
    return tuple(map(web_token_key, known))


def token_key(secret: str) -> bytes:
    """The key of the tokens below; make it once."""
    return _derive(secret, "lane-tokens")


def session_token(key: bytes, session_id: int) -> str:
    """The token that the broker gives to the driver of a session, to prove itself with: 64 hex digits."""
    return hmac.digest(key, f"driver {session_id}".encode(), "sha256").hex()


def worker_token(key: bytes, session_id: int, worker_id: str) -> str:
    """The token that the broker gives to a worker that it starts, to prove itself with: 64 hex digits."""
    return hmac.digest(key, f"worker {session_id} {worker_id}".encode(errors="replace"), "sha256").hex()


def is_token(shown: str, expected: str) -> bool:
    """Compare two tokens, in a time that does not depend on where they differ."""
    return hmac.compare_digest(shown.encode(errors="replace"), expected.encode())
