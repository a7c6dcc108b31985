"""The inputs of the fuzzers are a pure function of seed, door and number."""

from __future__ import annotations

import hashlib
import itertools
import random
import subprocess
import sys

import pytest

from quakegrid.wire.v1 import lane_pb2
from tests.fuzz import http2, values, zmtp
from tests.fuzz.door import inputs
from tests.fuzz.doors.every import DOORS
from tests.fuzz.doors.tls import Http2Holders

SCRIPT = """
import hashlib, itertools
from tests.fuzz.door import inputs
from tests.fuzz.doors.every import DOORS
for name, door in DOORS.items():
    found = list(itertools.islice(inputs(door(), 7), 50))
    print(name, hashlib.sha256(repr(found).encode()).hexdigest())
"""


def some(name: str, seed: int, first: int = 0, count: int = 50) -> list[object]:
    """Some inputs of a door."""
    return list(itertools.islice(inputs(DOORS[name](), seed, first), count))


def test_same_seed_gives_the_same_inputs_in_another_process() -> None:
    """A printed seed replays what was found, with hashes of texts that differ."""
    command = [sys.executable, "-c", SCRIPT]
    elsewhere = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\n")

    digests = {name: hashlib.sha256(repr(some(name, 7)).encode()).hexdigest() for name in DOORS}

    assert [f"{name} {digest}" for name, digest in digests.items()] == elsewhere[:-1]


@pytest.mark.parametrize("name", DOORS)
def test_any_input_can_be_made_alone(name: str) -> None:
    """What was found in a long run needs not all that came before it."""
    whole = some(name, 3)

    assert repr(some(name, 3, first=40, count=10)) == repr(whole[40:])
    assert repr(some(name, 4)) != repr(whole)


def test_http2_never_has_a_path_that_is_not_text() -> None:
    """It would close gRPC's port, for which there is a test of its own."""
    door = Http2Holders()

    found = [header for seed in range(500) for header in _headers(door.headers(random.Random(seed)))]

    assert {b":path", b"te"} < {name for name, _ in found}
    assert all(name.isascii() and value.isascii() for name, value in found)


def test_messages_have_all_fields_at_some_time() -> None:
    """Of every message that a peer sends to a lane."""
    seen = set()
    for number in range(2000):
        message = lane_pb2.LaneMessage()
        values.fill(random.Random(number), message)
        body = message.WhichOneof("body")
        if body:
            part = getattr(message, body)
            seen |= {(body, field.name) for field, _ in part.ListFields()}

    alternatives = lane_pb2.LaneMessage.DESCRIPTOR.oneofs_by_name["body"].fields
    fields = {(each.name, field.name) for each in alternatives for field in each.message_type.fields}
    assert fields - seen == set()


def test_text_that_is_not_utf8_gets_onto_the_wire() -> None:
    """A Python message cannot hold it, so it is put into the bytes."""
    content = values.serialize(lane_pb2.LaneMessage(refused=lane_pb2.Refused(reason=values.BAD_TEXT)))

    with pytest.raises(Exception, match="UTF-8"):
        lane_pb2.LaneMessage.FromString(content)


def test_frames_are_as_the_standards_say() -> None:
    """The examples of RFC 7541, C.1, and the layouts of RFC 9113 and RFC 23."""
    assert http2.number(10, 5) == b"\x0a"
    assert http2.number(1337, 5) == b"\x1f\x9a\x0a"
    assert http2.frame(http2.PING, 1, 3, b"12345678") == b"\0\0\x08\x06\x01\0\0\0\x0312345678"
    assert len(zmtp.greeting()) == zmtp.GREETING_BYTES
    assert zmtp.frame(0, b"a") == b"\0\x01a"
    assert zmtp.frame(zmtp.COMMAND, bytes(256))[:9] == b"\x06" + (256).to_bytes(8)


def _headers(block: bytes) -> list[tuple[bytes, bytes]]:
    """The headers of a block that has nothing but headers that are written out."""
    found, place = [], 0

    def text() -> bytes:
        nonlocal place
        size, place = block[place], place + 1
        if size == 127:
            shift, byte = 0, 128
            while byte & 128:
                byte, place = block[place], place + 1
                size, shift = size + ((byte & 127) << shift), shift + 7
        place += size
        return block[place - size : place]

    while place < len(block):
        assert block[place] == 0
        place += 1
        found.append((text(), text()))
    return found
