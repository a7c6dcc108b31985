"""ZMTP 3.1 with CURVE as a client speaks it (RFC 23, RFC 26): greetings, commands, frames. No sockets."""

from __future__ import annotations

import struct

from nacl import bindings

GREETING_BYTES = 64
COMMAND, MORE, LONG = 0x04, 0x01, 0x02
# The size of WELCOME, which is always the same.
WELCOME_BYTES = 168
_INNER_MORE, _INNER_COMMAND = 0x01, 0x02

_Z85 = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#"


def z85_decode(text: bytes) -> bytes:
    """The bytes of a key as ZeroMQ writes it."""
    data = b""
    for start in range(0, len(text), 5):
        word = 0
        for letter in text[start : start + 5].decode():
            word = word * 85 + _Z85.index(letter)
        data += word.to_bytes(4)
    return data


def greeting(mechanism: bytes = b"CURVE", version: bytes = b"\x03\x01", as_server: int = 0) -> bytes:
    """The first 64 bytes."""
    return (
        b"\xff" + bytes(8) + b"\x7f" + version + mechanism.ljust(20, b"\0") + bytes([as_server]) + bytes(31)
    )


def frame(flags: int, content: bytes) -> bytes:
    """A frame with its size."""
    if len(content) > 255:
        return bytes([flags | LONG]) + len(content).to_bytes(8) + content
    return bytes([flags, len(content)]) + content


def metadata(**properties: bytes) -> bytes:
    """Properties of READY and INITIATE."""
    parts = [
        bytes([len(name)]) + name + len(value).to_bytes(4) + value
        for name, value in ((name.replace("_", "-").encode(), value) for name, value in properties.items())
    ]
    return b"".join(parts)


class CurveClient:
    """A client's side of the handshake.

    Args:
        server_key: the lane's public key.
        public_key: ours, which the lane must know.
        secret_key: of `public_key`.
        seed: 32 bytes, of the keys of this connection.
    """

    def __init__(self, server_key: bytes, public_key: bytes, secret_key: bytes, seed: bytes) -> None:
        self._server, self._public, self._secret = server_key, public_key, secret_key
        self._short_public, self._short_secret = bindings.crypto_box_seed_keypair(seed)
        self._nonce = 1
        self._cookie = b""
        self._short_server = bytes(32)

    def hello(self) -> bytes:
        """The first command."""
        box = self._box(bytes(64), b"CurveZMQHELLO---", self._server, self._short_secret)
        body = b"\x05HELLO\x01\x00" + bytes(72) + self._short_public + self._nonce_bytes() + box
        self._nonce += 1
        return body

    def on_welcome(self, body: bytes) -> bool:
        """Take the answer; tells whether it is one."""
        if len(body) != WELCOME_BYTES or not body.startswith(b"\x07WELCOME"):
            return False
        nonce, box = b"WELCOME-" + body[8:24], body[24:]
        content = bindings.crypto_box_open(box, nonce, self._server, self._short_secret)
        self._short_server, self._cookie = content[:32], content[32:]
        return True

    def initiate(self, properties: bytes, vouch: bytes | None = None) -> bytes:
        """The second command.

        Args:
            properties: metadata.
            vouch: in place of the right one, which proves our key.
        """
        if vouch is None:
            nonce = bytes(16)
            content = self._short_public + self._server
            vouch = nonce + _boxed(content, b"VOUCH---" + nonce, self._short_server, self._secret)
        content = self._public + vouch + properties
        box = self._box(content, b"CurveZMQINITIATE", self._short_server, self._short_secret)
        body = b"\x08INITIATE" + self._cookie + self._nonce_bytes() + box
        self._nonce += 1
        return body

    def message(
        self, content: bytes, *, is_command: bool = False, has_more: bool = False, skip: int = 0
    ) -> bytes:
        """A message, or a command such as PING; `skip` leaves out nonces, or goes back."""
        self._nonce = max(0, self._nonce + skip)
        flags = _INNER_COMMAND * is_command | _INNER_MORE * has_more
        content = bytes([flags]) + content
        box = self._box(content, b"CurveZMQMESSAGEC", self._short_server, self._short_secret)
        body = b"\x07MESSAGE" + self._nonce_bytes() + box
        self._nonce += 1
        return body

    def _box(self, content: bytes, prefix: bytes, public: bytes, secret: bytes) -> bytes:
        return _boxed(content, prefix + self._nonce_bytes(), public, secret)

    def _nonce_bytes(self) -> bytes:
        return struct.pack(">Q", self._nonce & 0xFFFFFFFFFFFFFFFF)


def _boxed(content: bytes, nonce: bytes, public: bytes, secret: bytes) -> bytes:
    box: bytes = bindings.crypto_box(content, nonce, public, secret)
    return box
