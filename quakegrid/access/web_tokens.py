"""Tokens and cookies of the web service: random texts that the cluster has signed.

The signature lets the web service refuse what the cluster has not made, without a look into the database. The
database has the ids of tokens, from which nobody can find the tokens. Pure: random bytes come from outside.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Iterable

PREFIX = "qgw_"
SECRET_BYTES = 32
_MAC_BYTES = 16
_LENGTH = len(PREFIX) + 4 * (SECRET_BYTES + _MAC_BYTES) // 3
ID_DIGITS = 32


def to_text(secret: bytes, key: bytes) -> str:
    """The token of a secret.

    Args:
        secret: `SECRET_BYTES` random bytes, for this token only.
        key: that signs.
    """
    return PREFIX + base64.urlsafe_b64encode(secret + _mac(secret, key)).decode()


def is_genuine(text: str, keys: Iterable[bytes]) -> bool:
    """Whether the cluster has made a token with one of its keys; not whether it still counts."""
    if len(text) != _LENGTH or not text.isascii() or not text.startswith(PREFIX):
        return False
    try:
        data = base64.b64decode(text.removeprefix(PREFIX), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        return False
    secret, mac = data[:SECRET_BYTES], data[SECRET_BYTES:]
    return any(hmac.compare_digest(mac, _mac(secret, key)) for key in keys)


def id_of(text: str) -> str:
    """By which the database knows a token: 32 hexadecimal digits."""
    return hashlib.sha256(text.encode(errors="replace")).hexdigest()[:ID_DIGITS]


def _mac(secret: bytes, key: bytes) -> bytes:
    return hmac.digest(key, secret, "sha256")[:_MAC_BYTES]
