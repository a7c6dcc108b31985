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


@dataclass(slots=True)
class NodeProof:
    """The certificate of this node, replaced by newer ones while the agent runs.

    Args:
        host: the node's name.
        certified: the newest one.
    """

    host: str
    certified: Certified


Proof: TypeAlias = str | Certified | NodeProof
