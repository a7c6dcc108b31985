"""The gRPC ports of all services: strangers before TLS, and holders of the key whose HTTP/2 is damaged.

A path that is not UTF-8 closes gRPC's port and is not part of it: `test_paths.py` has that one. So where a
frame says what it is not, so that what follows may be read as headers, all bytes are ASCII.
"""

from __future__ import annotations

import itertools
import random
import socket
import ssl
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import ClassVar

from tests.fuzz import http2, tls, values
from tests.fuzz.door import Door
from tests.fuzz.scenes import ClusterScene
from tests.fuzz.sockets import Address, deliver, drain

WAIT_S = 2.0
SILENT_COUNT = 100
# What a name of a server may not have, such as a line of a log.
_NAMES_OF_SERVERS = (
    b"\nforged_event reason=none",
    b"\x1b]0;title\x07",
    b"\0",
    b"\xff\xfe",
    b"%s%n",
    b"../../",
    b"",
    b"a" * 5000,
)
_NAMES = (
    b"te",
    b"grpc-timeout",
    b"grpc-encoding",
    b"user-agent",
    b"content-length",
    b"x-bin",
    b":path",
    b"",
    b"A",
)
_TIMEOUTS = (
    b"0n",
    b"1n",
    b"99999999H",
    b"-1S",
    b"1",
    b"\x7f",
    b"quakegrid/0 api/99999999999999999999",
    b"-1",
)


def addresses(scene: ClusterScene) -> list[Address]:
    """The ports of dbserver, broker and agent."""
    settings = scene.settings
    ports = settings.dbserver_port, settings.broker_port, settings.agent_port
    return [("127.0.0.1", port) for port in ports]


class TlsStrangers(Door):
    """Peers that do not have the key."""

    name: ClassVar[str] = "tls-strangers"
    neighbours: ClassVar[tuple[str, ...]] = ("dbserver", "broker", "agent")
    batch_count: ClassVar[int] = 60
    test_count: ClassVar[int] = 1200

    def make(self, chance: random.Random) -> tuple[bytes, bool]:
        """What is sent, and whether the connection is kept."""
        is_silent = chance.random() < 0.02
        kind = chance.random()
        if kind < 0.1:
            return chance.randbytes(chance.choice((0, 1, 5, 6, 100, 3000))), is_silent
        if kind < 0.2:
            plain = (
                b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
                http2.PREFACE + http2.frame(http2.SETTINGS, 0, 0, b""),
            )
            return chance.choice(plain), is_silent
        hello = tls.client_hello(b"a" + chance.choice(_NAMES_OF_SERVERS), chance.randbytes(32))
        if kind < 0.35:
            size = chance.choice((0, 1, 0x3FFF, 0x4000, 0xFFFF))
            record = bytes([chance.choice((20, 21, 22, 23, 24, 255)), 3, chance.randrange(5)])
            return record + size.to_bytes(2) + chance.randbytes(chance.choice((0, 50, 5000))), is_silent
        return (hello if kind < 0.5 else values.mutate(chance, hello)), is_silent

    def open(self, scene: ClusterScene) -> None:
        """Find the ports."""
        self._addresses = itertools.cycle(addresses(scene))
        self._silent: deque[socket.socket] = deque()

    def send(self, batch: Sequence[tuple[bytes, bool]]) -> None:
        """Send to the services in turn; the silent ones stay until others take their place."""
        address = next(self._addresses)
        deliver(address, [content for content, is_silent in batch if not is_silent])
        for content, is_silent in batch:
            if is_silent:
                connection = socket.create_connection(address, WAIT_S)
                self._silent.append(connection)
                with suppress(OSError):
                    connection.sendall(content)
        while len(self._silent) > SILENT_COUNT:
            self._silent.popleft().close()
        self._shake_hands(address)

    def close(self) -> None:
        """Close the silent ones."""
        while self._silent:
            self._silent.pop().close()

    def _shake_hands(self, address: Address) -> None:
        """A handshake that is right but for the certificate, which is missing."""
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            context = tls.without_key((version, version))
            with socket.create_connection(address, WAIT_S) as connection, suppress(OSError):
                connection.settimeout(WAIT_S)
                with context.wrap_socket(connection, server_hostname="a") as secure:
                    secure.sendall(http2.PREFACE)
                    drain(secure)


class Http2Holders(Door):
    """Peers that have the key: frames, settings, resets, windows, pings, messages with other lengths."""

    name: ClassVar[str] = "http2-holders"
    neighbours: ClassVar[tuple[str, ...]] = ("dbserver", "broker", "agent")
    log_bytes_each: ClassVar[int] = 400
    batch_count: ClassVar[int] = 30
    test_count: ClassVar[int] = 450

    def make(self, chance: random.Random) -> bytes:
        """What one connection sends."""
        preface = http2.PREFACE if chance.random() < 0.97 else chance.randbytes(24)
        settings = http2.frame(http2.SETTINGS, 0, 0, self._settings(chance) if chance.random() < 0.2 else b"")
        frames = [self._frame(chance) for _ in range(chance.choice((1, 2, 5, 20)))]
        return preface + settings + b"".join(frames)

    def open(self, scene: ClusterScene) -> None:
        """Find the ports and make a certificate."""
        self._context = tls.with_key(scene.settings.authkey, scene.directory)
        self._addresses = itertools.cycle(addresses(scene))

    def send(self, batch: Sequence[bytes]) -> None:
        """One connection after the other, to the services in turn."""
        for content in batch:
            with socket.create_connection(next(self._addresses), WAIT_S) as connection:
                connection.settimeout(WAIT_S)
                with suppress(OSError), self._context.wrap_socket(connection, server_hostname="a") as secure:
                    secure.sendall(content)
                    secure.sendall(http2.frame(http2.GOAWAY, 0, 0, bytes(8)))
                    connection.shutdown(socket.SHUT_WR)
                    drain(secure)

    def _frame(self, chance: random.Random) -> bytes:
        stream = chance.choice((0, 1, 1, 3, 5, 2, 0x7FFFFFFF, 0x80000001))
        flags = chance.choice((0, 1, 4, 5, 8, 0x20, 0xFF))
        match chance.randrange(9):
            case 0:
                return self._call(chance, stream)
            case 1:
                return http2.frame(http2.SETTINGS, flags & 1, stream & 2, self._settings(chance))
            case 2:  # rapid reset
                pairs = range(1, 2 * chance.choice((2, 20, 200)), 2)
                return b"".join(
                    http2.frame(http2.HEADERS, http2.END_HEADERS, each, http2.request(b"/a/b"))
                    + http2.frame(http2.RST_STREAM, 0, each, bytes(3) + b"\x08")
                    for each in pairs
                )
            case 3:
                window = values.integer(chance, 32, is_signed=False).to_bytes(4)
                return http2.frame(http2.WINDOW_UPDATE, 0, stream, window)
            case 4:
                pings = chance.choice((1, 10, 500))
                return http2.frame(http2.PING, flags & 1, 0, chance.randbytes(8)) * pings
            case 5:
                kind = chance.choice((http2.DATA, http2.PRIORITY, http2.RST_STREAM, http2.GOAWAY, http2.PING))
                return http2.frame(kind, flags, stream, values.data(chance)[:16000])
            case 6:  # what it is not, or not so long
                text = bytes(byte & 0x7F for byte in values.data(chance)[:2000])
                length = chance.choice((None, None, 0, 1, 16384, 16385, 0xFFFFFF))
                return http2.frame(chance.randrange(256), flags, stream, text, length)
            case 7:
                block = self.headers(chance)
                cut = chance.randrange(len(block))
                first = http2.frame(http2.HEADERS, chance.choice((0, 1)), stream, block[:cut])
                return first + http2.frame(http2.CONTINUATION, chance.choice((0, 4)), stream, block[cut:])
            case _:
                body = http2.message(values.data(chance), chance.choice((None, 0, 5, 1 << 26, 0xFFFFFFFF)))
                return http2.frame(http2.DATA, flags & 1, stream, body[:16000])

    def _call(self, chance: random.Random, stream: int) -> bytes:
        head = http2.frame(
            http2.HEADERS, http2.END_HEADERS | chance.randrange(2), stream, self.headers(chance)
        )
        content = bytes(chance.choice((0, 1))) + values.data(chance)
        body = http2.message(
            content, chance.choice((None, None, 0, 7, 1 << 31)), chance.choice((0, 0, 1, 2, 255))
        )
        return head + http2.frame(http2.DATA, http2.END_STREAM, stream, body[:16000])

    def headers(self, chance: random.Random) -> bytes:
        """Headers whose path is text: every byte is ASCII, or in a value that is not a path."""
        paths = (
            b"/",
            b"",
            b"/a/b",
            b"*",
            b"/quakegrid.api.v1.Fleet/GetStatus",
            b"/quakegrid.api.v1.Jobs/ListJobs",
        )
        long = b"/" + b"x" * chance.choice((10, 5000, 9000))
        others = [
            (name, bytes(byte & 0x7F for byte in value))
            for name, value in (
                (chance.choice(_NAMES), chance.choice((*_TIMEOUTS, values.data(chance)[:3000])))
                for _ in range(chance.choice((0, 1, 3, 60)))
            )
        ]
        return http2.request(chance.choice((*paths, long)), *others)

    def _settings(self, chance: random.Random) -> bytes:
        pairs = range(chance.choice((1, 2, 6, 100)))
        return b"".join(
            chance.choice((1, 2, 3, 4, 5, 6, 8, 0xFE03, 0xFFFF)).to_bytes(2)
            + values.integer(chance, 32, is_signed=False).to_bytes(4)
            for _ in pairs
        )
