"""TLS as peers of the services speak it: with the cluster's key, without it, and half of a handshake."""

from __future__ import annotations

import ssl
from pathlib import Path

from quakegrid.transport import credentials


def with_key(authkey: str, directory: Path) -> ssl.SSLContext:
    """A client that has the cluster's key.

    Args:
        authkey: of the cluster.
        directory: where its certificate is written, which `ssl` wants in files.
    """
    identity = credentials.new_identity(authkey)
    certificate, key = directory / "fuzz.crt", directory / "fuzz.key"
    certificate.write_bytes(identity.certificate_pem)
    key.touch(mode=0o600)
    key.write_bytes(identity.key_pem)
    context = without_key()
    context.load_cert_chain(certificate, key)
    return context


def without_key(versions: tuple[ssl.TLSVersion, ssl.TLSVersion] | None = None) -> ssl.SSLContext:
    """A client without a certificate, which asks for none of the server's."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    if versions:
        context.minimum_version, context.maximum_version = versions
    return context


def client_hello(name: bytes, random: bytes) -> bytes:
    """What a client of TLS 1.3 says first (RFC 8446, 4.1.2), as a record.

    Args:
        name: of the server that it asks for; whatever bytes.
        random: 32 bytes, which are its key share, too.
    """
    share = b"\x00\x1d" + _vector(2, random)
    extensions = (
        (0x0000, _vector(2, b"\x00" + _vector(2, name))),
        (0x0010, _vector(2, _vector(1, b"h2"))),
        (0x000A, _vector(2, b"\x00\x1d\x00\x17")),
        (0x000D, _vector(2, b"\x04\x03\x08\x04\x04\x01")),
        (0x002B, _vector(1, b"\x03\x04\x03\x03")),
        (0x0033, _vector(2, share)),
    )
    content = (
        b"\x03\x03"
        + random
        + _vector(1, random)
        + _vector(2, b"\x13\x01\x13\x02\x13\x03\xc0\x2b")
        + _vector(1, b"\x00")
        + _vector(2, b"".join(number.to_bytes(2) + _vector(2, body) for number, body in extensions))
    )
    return b"\x16\x03\x01" + _vector(2, b"\x01" + _vector(3, content))


def _vector(size: int, content: bytes) -> bytes:
    return len(content).to_bytes(size) + content
