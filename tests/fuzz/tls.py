"""TLS as peers of the services speak it: with the cluster's key, without it, and half of a handshake."""

from __future__ import annotations

import ssl
from pathlib import Path

from quakegrid import security


def with_key(authkey: str, directory: Path) -> ssl.SSLContext:
    """A client that has the cluster's key.

    Args:
        authkey: of the cluster.
        directory: where its certificate is written, which `ssl` wants in files.
    """
    identity = security.new_identity(authkey)
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


def client_hello(name: str) -> bytes:
    """What a client says first.

    Args:
        name: of the server that it asks for.
    """
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    talk = without_key().wrap_bio(incoming, outgoing, server_hostname=name)
    try:
        talk.do_handshake()
    except ssl.SSLWantReadError:
        return outgoing.read()
    raise AssertionError("a handshake without an answer")
