"""What proves that a process belongs to a cluster: the authkey, or a certificate that it was given."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class Certified:
    """A key with its certificate, and the CA certificate to know others by, PEM; its `repr` has no key."""

    ca_pem: bytes
    key_pem: bytes = field(repr=False)
    certificate_pem: bytes


@dataclass(slots=True, eq=False)
class Renewed:
    """A certificate that is replaced by another one before it ends; connections take the one there is."""

    certified: Certified


@dataclass(frozen=True, slots=True)
class ClusterKeys:
    """The authkey, and the one before it while that one still counts; its `repr` shows neither.

    Args:
        active: the authkey; what is signed, is signed with it.
        old: the one before; empty if there is none.
        old_until_s: until when the old one counts, in seconds since 1970.
    """

    active: str = field(repr=False)
    old: str = field(default="", repr=False)
    old_until_s: float = 0.0

    def has_old(self, now_s: float) -> bool:
        """Whether the old key counts.

        Args:
            now_s: seconds since 1970.
        """
        return bool(self.old) and now_s < self.old_until_s


@dataclass(slots=True, eq=False)
class Keyring:
    """The keys of the cluster, which are replaced while services run; connections take those there are."""

    keys: ClusterKeys


KeyProof: TypeAlias = str | Keyring
Proof: TypeAlias = KeyProof | Certified | Renewed


def keys_of(proof: KeyProof) -> ClusterKeys:
    """The keys that count now."""
    return ClusterKeys(proof) if isinstance(proof, str) else proof.keys
