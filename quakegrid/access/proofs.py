"""What a process proves with that it belongs to a cluster: the authkey, or a certificate of its own."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class Certified:
    """A key with its certificate, and the CA certificate to know others by, PEM; its `repr` has no key."""

    ca_pem: bytes
    key_pem: bytes = field(repr=False)
    certificate_pem: bytes


Proof: TypeAlias = str | Certified
