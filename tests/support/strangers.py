"""Peers that are no services: raw connections, with the key and without; certificates of principals."""

from __future__ import annotations

import contextlib
import datetime
import secrets
import socket
import ssl
import struct
import tempfile
from collections.abc import Iterator

from quakegrid.access.principals import Principal, PrincipalRole
from quakegrid.access.proofs import Certified
from quakegrid.clients import node_access
from quakegrid.clients.dbserver.client import DbClient
from quakegrid.clients.node_access import NodeAccessClient
from quakegrid.settings.config import Settings
from quakegrid.settings.node_files import NodeFile
from quakegrid.transport import certificates, credentials

TIMEOUT_S = 20.0
DAY = datetime.timedelta(days=1)
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_SETTINGS, _HEADERS = 4, 1
_END_OF_STREAM_AND_HEADERS = 5


def certify(authkey: str, role: PrincipalRole, name: str, life: datetime.timedelta = DAY) -> Certified:
    """A new certificate of a cluster, for somebody who does not hold its key."""
    now_time = datetime.datetime.now(datetime.UTC)
    principal = Principal(role, name, secrets.token_hex(16))
    key_pem, public_pem = certificates.new_key()
    signed = credentials.authority(authkey).certify(principal, public_pem, now_time, now_time + life)
    return Certified(ca_pem=signed[0], key_pem=key_pem, certificate_pem=signed[1])


@contextlib.contextmanager
def connect(address: str, authkey: str) -> Iterator[ssl.SSLSocket]:
    """A TLS connection of somebody who holds the key."""
    identity = credentials.new_identity(authkey)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(cadata=identity.ca_pem.decode())
    context.set_alpn_protocols(["h2"])
    with tempfile.NamedTemporaryFile() as file:
        file.write(identity.key_pem + identity.certificate_pem)
        file.flush()
        context.load_cert_chain(file.name)
    host, _, port = address.rpartition(":")
    with (
        socket.create_connection((host, int(port)), TIMEOUT_S) as plain,
        context.wrap_socket(plain) as connection,
    ):
        yield connection


def is_let_in(address: str, server_name: str) -> bool:
    """Whether a service lets somebody in who has no certificate and asks for this server."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port)), TIMEOUT_S) as plain:
        try:
            with context.wrap_socket(plain, server_hostname=server_name) as connection:
                connection.sendall(_PREFACE)
                return bool(connection.recv(1))
        except OSError:
            return False


def call_path(address: str, authkey: str, path: bytes) -> None:
    """Make one call of a method of this name, whatever its bytes, and wait until it is answered."""
    headers = {
        b":method": b"POST",
        b":scheme": b"https",
        b":path": path,
        b":authority": b"localhost",
        b"te": b"trailers",
        b"content-type": b"application/grpc",
    }
    block = b"".join(map(_literal, headers, headers.values()))
    with connect(address, authkey) as connection:
        connection.sendall(
            _PREFACE + _frame(_SETTINGS, 0, 0, b"") + _frame(_HEADERS, _END_OF_STREAM_AND_HEADERS, 1, block)
        )
        seen = b""
        while b"grpc-status" not in seen:
            received = connection.recv(1 << 16)
            if not received:
                break
            seen += received


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def _literal(name: bytes, value: bytes) -> bytes:
    """A header field of HPACK, neither indexed nor compressed."""
    return b"\x00" + bytes([len(name)]) + name + bytes([len(value)]) + value


def join(settings: Settings, name: str) -> NodeFile:
    """The certificate of a node of this name that the dbserver knows, in the place of an earlier one."""
    addresses = (settings.dbserver_address, settings.broker_address)
    with DbClient(settings) as database:
        _, text = NodeAccessClient(database).create_token(addresses, DAY, host=name)
    return node_access.join(text, name)
