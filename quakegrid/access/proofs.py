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


Proof: TypeAlias = str | Certified | Renewed
