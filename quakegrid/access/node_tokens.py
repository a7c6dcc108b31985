"""Tokens with which machines become nodes: one text with an address, a pin, a key and its certificate.

The pin is the public key of the cluster's CA: by it the holder of the token knows the cluster's services, and
hands nothing to others. The certificate lets the holder do one thing only, until it ends.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from dataclasses import dataclass, field

_PREFIX = "qgnode1."
_CHECKSUM_BYTES = 4
CA_KEY_BYTES = 33
KEY_BYTES = 32
# In the place of a host in the certificate of a token that any host may use.
ANY_HOST = "_any"
# Far more than any token has.
LONGEST_TEXT = 4000


@dataclass(frozen=True, slots=True)
class NodeToken:
    """What a token says.

    Args:
        dbserver: `host:port`.
        broker: `host:port`.
        ca_public_key: pins the cluster; 33 bytes, compressed, on the curve P-256.
        key: the private key, 32 bytes.
        certificate: DER.
    """

    dbserver: str
    broker: str
    ca_public_key: bytes
    key: bytes = field(repr=False)
    certificate: bytes


def to_text(token: NodeToken) -> str:
    """The token as people paste it."""
    addresses = (token.dbserver.encode(), token.broker.encode())
    parts = [bytes([len(each)]) + each for each in addresses]
    body = b"".join([*parts, token.ca_public_key, token.key, token.certificate])
    return _PREFIX + base64.urlsafe_b64encode(_checksum(body) + body).decode().rstrip("=")


def from_text(text: str) -> NodeToken:
    """Read a token.

    Raises:
        ValueError: it is none, or a part of it is missing.
    """
    text = "".join(text.split())  # mail and terminals break long lines
    if not text.startswith(_PREFIX) or len(text) > LONGEST_TEXT:
        raise ValueError(f"a token begins with {_PREFIX}")
    coded = text.removeprefix(_PREFIX)
    try:
        data = base64.b64decode(coded + "=" * (-len(coded) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("a part of the token is missing or changed") from None
    body = data[_CHECKSUM_BYTES:]
    if _checksum(body) != data[:_CHECKSUM_BYTES]:
        raise ValueError("a part of the token is missing or changed")
    dbserver, rest = _text(body)
    broker, rest = _text(rest)
    ca_public_key, rest = rest[:CA_KEY_BYTES], rest[CA_KEY_BYTES:]
    return NodeToken(dbserver, broker, ca_public_key, rest[:KEY_BYTES], rest[KEY_BYTES:])


def _checksum(body: bytes) -> bytes:
    """Of a token that was copied by hand; it proves nothing."""
    return hashlib.sha256(body).digest()[:_CHECKSUM_BYTES]


def _text(data: bytes) -> tuple[str, bytes]:
    size = data[0] if data else 0
    return data[1 : 1 + size].decode(), data[1 + size :]
