"""Certificates of processes and credentials of connections, from the cluster's one secret, the authkey.

The authkey gives the cluster's CA key (mutual TLS on every gRPC port). Every process with the authkey signs
its own certificate, so there is no file to copy: two certificates of one CA key verify each other wherever
they were made. `keys/` derives the CA key, and the keys of lanes. Does not depend on addresses, or on the
messages of the connections.
"""

from __future__ import annotations

import base64
import datetime
from dataclasses import dataclass, field

import grpc

from quakegrid import errors
from quakegrid.access.principals import Principal
from quakegrid.access.proofs import Certified, ClusterKeys, KeyProof, Keyring, Proof, Renewed, keys_of
from quakegrid.transport.certificates import Authority
from quakegrid.transport.keys.derived_keys import derive

# Of a service; it makes itself another one when half of it is over.
CERTIFICATE_LIFE = datetime.timedelta(days=30)


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
        former = Authority(derive(keys.old, "tls-ca", 48), fingerprint(keys.old)), until_time
    return Authority(derive(keys.active, "tls-ca", 48), fingerprint(keys.active), former)


class Signer:
    """Signs with the key that counts now; see `Authority`.

    Args:
        proof: the authkey, or the keys of a service, which may be replaced.
    """

    def __init__(self, proof: KeyProof) -> None:
        self._proof = proof
        self._keys = keys_of(proof)
        self._authority = authority_of(self._keys)

    @property
    def authority(self) -> Authority:
        """Of the key that counts now."""
        keys = self._keys if isinstance(self._proof, str) else self._proof.keys
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


def fingerprint(authkey: str) -> str:
    """A short text that tells two authkeys apart and reveals nothing of them."""
    return base64.b32encode(derive(authkey, "fingerprint", 5)).decode().lower()
