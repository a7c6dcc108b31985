"""The port of a lane, below its messages: strangers, and holders of the key whose ZMTP is damaged."""

from __future__ import annotations

import random
import socket
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import ClassVar

from nacl.exceptions import CryptoError

from quakegrid.settings import lane_secrets
from quakegrid.transport.keys import lane_keys
from tests.fuzz import values, zmtp
from tests.fuzz.door import Door
from tests.fuzz.scenes import ClusterScene
from tests.fuzz.sockets import Address, deliver, drain, read_exactly

# Connections that say no more, and how many of them there are at once.
SILENT_COUNT = 100
WAIT_S = 2.0
# A frame that is announced and never comes.
_SIZES = (0, 1, 255, 1 << 16, 1 << 20, 1 << 31, 8 << 30, 1 << 40, (1 << 63) - 1, (1 << 64) - 1)


def lane_address(scene: ClusterScene) -> Address:
    """Where the lane of the neighbour listens."""
    (lane,) = [lane for lane in scene.nodes.status().lanes if lane.session_count]
    return "127.0.0.1", lane.port


@dataclass(frozen=True, slots=True)
class Greeting:
    """What a stranger sends; a silent one keeps its connection."""

    content: bytes
    is_silent: bool


class ZmtpStrangers(Door):
    """Peers that do not have the key, on a lane's port."""

    name: ClassVar[str] = "zmtp-strangers"
    neighbours: ClassVar[tuple[str, ...]] = ("lane",)
    batch_count: ClassVar[int] = 100
    test_count: ClassVar[int] = 3000

    def make(self, chance: random.Random) -> Greeting:
        """A greeting, whole or damaged, and perhaps something behind it."""
        mechanism = chance.choice(
            (b"CURVE", b"CURVE", b"NULL", b"PLAIN", b"GSSAPI", b"BOGUS", b"", b"\xff" * 20)
        )
        version = bytes([chance.choice((0, 1, 2, 3, 3, 3, 4, 255)), chance.choice((0, 1, 255))])
        content = zmtp.greeting(mechanism, version, chance.randrange(2)) + self._rest(chance)
        kind = chance.random()
        if kind < 0.1:
            content = chance.randbytes(chance.choice((0, 1, 9, 10, 11, 63, 64, 65, 1000)))
        elif kind < 0.4:
            content = values.mutate(chance, content)
        return Greeting(content, is_silent=chance.random() < 0.02)

    def open(self, scene: ClusterScene) -> None:
        """Find the lane."""
        self._address = lane_address(scene)
        self._silent: deque[socket.socket] = deque()

    def send(self, batch: Sequence[Greeting]) -> None:
        """Send all at once; the silent ones stay until others take their place."""
        deliver(self._address, [each.content for each in batch if not each.is_silent])
        for each in batch:
            if each.is_silent:
                connection = socket.create_connection(self._address, WAIT_S)
                self._silent.append(connection)
                connection.sendall(each.content[:64])
        while len(self._silent) > SILENT_COUNT:
            self._silent.popleft().close()

    def close(self) -> None:
        """Close the silent ones."""
        while self._silent:
            self._silent.pop().close()

    def _rest(self, chance: random.Random) -> bytes:
        match chance.randrange(5):
            case 0:
                return b""
            case 1:
                body = b"\x05HELLO\x01\x00" + bytes(72) + chance.randbytes(120)
                return zmtp.frame(zmtp.COMMAND, body)
            case 2:
                names = (
                    b"\x05READY",
                    b"\x08INITIATE",
                    b"\x07MESSAGE",
                    b"\x07WELCOME",
                    b"\x05ERROR",
                    b"\x04PING",
                )
                return zmtp.frame(zmtp.COMMAND, chance.choice(names) + values.data(chance))
            case 3:
                return bytes([chance.randrange(8)]) + chance.choice(_SIZES).to_bytes(8) + chance.randbytes(50)
            case _:
                return chance.randbytes(chance.choice((1, 10, 300, 5000)))


@dataclass(frozen=True, slots=True)
class Talk:
    """A connection with the key: its random part decides what is damaged, and how."""

    seed: int
    damaged: str
    command_count: int


class ZmtpHolders(Door):
    """Peers that have the key, and damage one step of the handshake, or commands and messages after it."""

    name: ClassVar[str] = "zmtp-holders"
    neighbours: ClassVar[tuple[str, ...]] = ("lane",)
    log_bytes_each: ClassVar[int] = 400
    batch_count: ClassVar[int] = 50
    test_count: ClassVar[int] = 600

    def make(self, chance: random.Random) -> Talk:
        """Which step is damaged."""
        step = chance.choice(
            ("hello", "vouch", "initiate", "properties", "frames", "boxes", "boxes", "flags")
        )
        return Talk(chance.getrandbits(64), step, chance.choice((1, 1, 3, 10)))

    def open(self, scene: ClusterScene) -> None:
        """Find the lane and the keys."""
        self._address = lane_address(scene)
        keys = lane_keys.curve_keys(lane_secrets.of_broker(scene.settings.state_dir)).door
        pairs = (keys.server_public, keys.client_public, keys.client_secret)
        self._keys = [zmtp.z85_decode(key) for key in pairs]

    def send(self, batch: Sequence[Talk]) -> None:
        """One connection after the other."""
        for talk in batch:
            with socket.create_connection(self._address, WAIT_S) as connection:
                connection.settimeout(WAIT_S)
                with suppress(OSError, CryptoError):  # the lane closes when it has had enough
                    self._talk(connection, talk)

    def _talk(self, connection: socket.socket, talk: Talk) -> None:
        chance = random.Random(talk.seed)
        client = zmtp.CurveClient(*self._keys, chance.randbytes(32))

        def damaged(step: str, content: bytes) -> bytes:
            return values.mutate(chance, content) if talk.damaged == step else content

        connection.sendall(zmtp.greeting())
        read_exactly(connection, zmtp.GREETING_BYTES)
        connection.sendall(zmtp.frame(zmtp.COMMAND, damaged("hello", client.hello())))
        head = read_exactly(connection, 2)
        if not head or not client.on_welcome(read_exactly(connection, head[1])):
            return
        names = {"Socket_Type": b"DEALER", "Identity": b"fuzz%d" % chance.randrange(20)}
        properties = damaged("properties", zmtp.metadata(**names))
        vouch = chance.randbytes(96) if talk.damaged == "vouch" else None
        initiate = damaged("initiate", client.initiate(properties, vouch))
        connection.sendall(zmtp.frame(zmtp.COMMAND, initiate))
        if read_exactly(connection, 1):
            for _ in range(talk.command_count):
                connection.sendall(self._command(chance, client, talk.damaged))
        connection.shutdown(socket.SHUT_WR)
        drain(connection)

    def _command(self, chance: random.Random, client: zmtp.CurveClient, damage: str) -> bytes:
        content = chance.choice((b"", b"\x04PING\x00\x64", b"\x04PONG", b"\x05ERROR\xff", b"\x09SUBSCRIBE"))
        content += values.data(chance) if chance.random() < 0.7 else b""
        if damage == "boxes":
            content = values.mutate(chance, content)
        body = client.message(
            content,
            is_command=chance.random() < 0.5,
            has_more=chance.random() < 0.3,
            skip=chance.choice((0, 0, 0, -1, 1, 1 << 40)) if damage == "flags" else 0,
        )
        if damage == "boxes" and chance.random() < 0.5:
            body = values.mutate(chance, body)
        framed = zmtp.frame(chance.randrange(8) if damage == "flags" else 0, body)
        return values.mutate(chance, framed) if damage == "frames" else framed
