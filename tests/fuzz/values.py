"""Random values that are likely to hurt: a pure function of a `random.Random`.

Makes numbers, texts, bytes and whole messages of protobuf from their descriptors. Depends on no socket,
clock or service.
"""

from __future__ import annotations

import math
import random
import struct
from collections.abc import Mapping, Sequence
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

# Stands for bytes that are not UTF-8, which a Python message refuses; `serialize` puts them in.
BAD_TEXT = "\x01not-utf-8\x02"
_BAD_BYTES = b"\xff\xfe\xc0\x80\xed\xa0\x80\xf8\x88\xbf\x80"[: len(BAD_TEXT)].ljust(len(BAD_TEXT), b"\xff")
_MAX_DEPTH = 5
_LONG = (100, 255, 256, 5_000, 70_000)
_HUGE = 1 << 20

Facts = Mapping[str, Sequence[Any]]

_TEXTS = (
    "",
    "a",
    "\0",
    "a\0b",
    "../../etc/passwd",
    "/dev/full",
    "line\nforged_event reason=none",
    "\x1b]0;title\x07\x1b[2J",
    "%s%n{0}{}",
    "' OR 1=1 --",
    "\u202eabc\ufeff",
    "\U0010ffff",
    "127.0.0.1",
    "127.0.0.1:1",
    "tcp://127.0.0.1:1",
    "tcp://*:*",
    "0",
    "-1",
    "nan",
    "1e309",
    "true",
    "[]",
    "{}",
    BAD_TEXT,
)
_FLOATS = (0.0, -0.0, 1.0, -1.0, 1e-320, 1e308, -1e308, 1e18, math.nan, math.inf, -math.inf)
_BITS = {
    FieldDescriptor.CPPTYPE_INT32: (32, True),
    FieldDescriptor.CPPTYPE_INT64: (64, True),
    FieldDescriptor.CPPTYPE_UINT32: (32, False),
    FieldDescriptor.CPPTYPE_UINT64: (64, False),
    FieldDescriptor.CPPTYPE_ENUM: (32, True),
}


def integer(chance: random.Random, bits: int, *, is_signed: bool) -> int:
    """An integer of a type, at one of its edges more often than not."""
    low = -(1 << (bits - 1)) if is_signed else 0
    high = (1 << (bits - 1 if is_signed else bits)) - 1
    if chance.random() < 0.5:
        return chance.choice((0, 1, 2, 3, 5))
    if chance.random() < 0.3:
        return chance.randint(low, high)
    power = chance.choice((7, 8, 15, 16, 31, 32, 53, 62, 63))
    return max(low, min(high, chance.choice((1, -1)) * ((1 << power) + chance.choice((-1, 0, 1)))))


def real(chance: random.Random) -> float:
    """A float, perhaps none that one can count with."""
    return chance.choice(_FLOATS) if chance.random() < 0.7 else chance.uniform(-1e6, 1e6)


def text(chance: random.Random) -> str:
    """A text: usual, odd, long, or very long now and then."""
    kind = chance.random()
    if kind < 0.75:
        return chance.choice(_TEXTS)
    if kind < 0.9:
        return "".join(chr(chance.randrange(1, 0xD800)) for _ in range(chance.randrange(30)))
    return "x" * (chance.choice(_LONG) if kind < 0.998 else _HUGE)


def data(chance: random.Random) -> bytes:
    """Bytes: few, of the length of an identifier, or many."""
    kind = chance.random()
    if kind < 0.3:
        return b""
    if kind < 0.9:
        return chance.randbytes(chance.choice((1, 2, 15, 16, 17, 32, 127, 128, 255, 300)))
    return bytes(chance.choice(_LONG) if kind < 0.998 else _HUGE)


def fill(chance: random.Random, message: Message, facts: Facts | None = None, depth: int = 0) -> None:
    """Set fields of a message at random, and those of its parts.

    Args:
        chance: decides.
        message: an empty one.
        facts: by the name of a field, values that mean something to the service; half of such fields get one.
        depth: of the part in the whole.
    """
    known = facts or {}
    if depth > _MAX_DEPTH:
        return
    for field in _chosen(chance, message.DESCRIPTOR):
        if field.is_repeated:
            _fill_repeated(chance, message, field, known, depth)
        elif field.message_type is not None:
            part = getattr(message, field.name)
            part.SetInParent()
            fill(chance, part, known, depth + 1)
        else:
            setattr(message, field.name, _scalar(chance, field, known))


def serialize(message: Message) -> bytes:
    """The bytes of a message, with what is not UTF-8 where `BAD_TEXT` stands."""
    return message.SerializeToString(deterministic=True).replace(BAD_TEXT.encode(), _BAD_BYTES)


def json_value(chance: random.Random, depth: int = 0) -> Any:
    """Anything that JSON can say."""
    kind = chance.randrange(8 if depth < 3 else 6)
    match kind:
        case 0:
            return None
        case 1:
            return chance.random() < 0.5
        case 2:
            return integer(chance, 64, is_signed=True)
        case 3:
            return real(chance)
        case 4 | 5:
            return text(chance)
        case 6:
            return [json_value(chance, depth + 1) for _ in range(chance.randrange(5))]
        case _:
            return {text(chance): json_value(chance, depth + 1) for _ in range(chance.randrange(5))}


def mutate(chance: random.Random, content: bytes) -> bytes:
    """The same bytes, damaged: flipped, cut, longer, twice, overwritten."""
    damaged = bytearray(content)
    for _ in range(chance.choice((1, 1, 1, 2, 5))):
        place = chance.randrange(len(damaged) + 1)
        match chance.randrange(6):
            case 0 if damaged:
                damaged[place - 1] ^= 1 << chance.randrange(8)
            case 1:
                del damaged[place:]
            case 2:
                damaged[place:place] = chance.randbytes(chance.choice((1, 2, 8, 100)))
            case 3:
                damaged += damaged[:2000]
            case 4:
                number = struct.pack(">I", chance.choice((0, 1, 0x7FFFFFFF, 0xFFFFFFFF)))
                damaged[place : place + 4] = number
            case _:
                del damaged[place : place + chance.choice((1, 2, 8))]
    return bytes(damaged)


def _chosen(chance: random.Random, descriptor: Descriptor) -> list[FieldDescriptor]:
    """Which fields to set: of alternatives one."""
    alone = [field for field in descriptor.fields if field.containing_oneof is None]
    fields = [field for field in alone if chance.random() < 0.6]
    return fields + [chance.choice(oneof.fields) for oneof in descriptor.oneofs if chance.random() < 0.95]


def _fill_repeated(
    chance: random.Random, message: Message, field: FieldDescriptor, facts: Facts, depth: int
) -> None:
    values = getattr(message, field.name)
    count = chance.choice((0, 1, 1, 2, 3, 3, 200)) if depth < 2 else chance.randrange(3)
    part = field.message_type
    for _ in range(count):
        if part is None:
            values.append(_scalar(chance, field, facts))
        elif part.GetOptions().map_entry:
            _fill_entry(chance, values, part, facts, depth)
        else:
            fill(chance, values.add(), facts, depth + 1)


def _fill_entry(chance: random.Random, values: Any, entry: Descriptor, facts: Facts, depth: int) -> None:
    key = _scalar(chance, entry.fields_by_name["key"], facts)
    value = entry.fields_by_name["value"]
    if value.message_type is None:
        values[key] = _scalar(chance, value, facts)
    else:
        fill(chance, values[key], facts, depth + 1)


def _scalar(chance: random.Random, field: FieldDescriptor, facts: Facts) -> Any:
    if field.name in facts and chance.random() < 0.6:
        return chance.choice(facts[field.name])
    match field.cpp_type:
        case FieldDescriptor.CPPTYPE_BOOL:
            return chance.random() < 0.5
        case FieldDescriptor.CPPTYPE_STRING if field.type == FieldDescriptor.TYPE_BYTES:
            return data(chance)
        case FieldDescriptor.CPPTYPE_STRING:
            return text(chance)
        case FieldDescriptor.CPPTYPE_DOUBLE:
            return real(chance)
        case FieldDescriptor.CPPTYPE_FLOAT:
            return max(-3e38, min(3e38, real(chance)))
        case FieldDescriptor.CPPTYPE_ENUM if chance.random() < 0.7:
            return chance.choice(field.enum_type.values).number
    bits, is_signed = _BITS[field.cpp_type]
    return integer(chance, bits, is_signed=is_signed)
