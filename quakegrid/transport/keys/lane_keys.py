"""What opens the door of a lane: the CURVE keys of its sockets, and the tokens of sessions and workers.

All of it is derived from the broker's own secret. Does not depend on sockets, or on messages.
"""

from __future__ import annotations

import functools
import hmac
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric import x25519

from quakegrid.transport.keys.derived_keys import derive

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


@functools.lru_cache(maxsize=4)
def curve_keys(secret: str) -> CurveKeys:
    """The CURVE key pairs of a broker's lanes: one for processes that bind, one for those that connect."""
    server_public, server_secret = _curve_pair(derive(secret, "curve-server"))
    client_public, client_secret = _curve_pair(derive(secret, "curve-client"))
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


def token_key(secret: str) -> bytes:
    """The key of the tokens below; make it once."""
    return derive(secret, "lane-tokens")


def session_token(key: bytes, session_id: int) -> str:
    """The token that the broker gives to the driver of a session, to prove itself with: 64 hex digits."""
    return hmac.digest(key, f"driver {session_id}".encode(), "sha256").hex()


def worker_token(key: bytes, session_id: int, worker_id: str) -> str:
    """The token that the broker gives to a worker that it starts, to prove itself with: 64 hex digits."""
    return hmac.digest(key, f"worker {session_id} {worker_id}".encode(errors="replace"), "sha256").hex()


def is_token(shown: str, expected: str) -> bool:
    """Compare two tokens, in a time that does not depend on where they differ."""
    return hmac.compare_digest(shown.encode(errors="replace"), expected.encode())
