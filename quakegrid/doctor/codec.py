"""Facts as protobuf messages and back: dataclasses and messages whose fields have the same names."""

from __future__ import annotations

import dataclasses
import enum
import typing
from typing import Any, TypeVar

from google.protobuf.message import Message

from quakegrid.doctor.facts import NodeFacts
from quakegrid.internal.v1 import examination_pb2

T = TypeVar("T")


def encode_facts(facts: NodeFacts) -> examination_pb2.NodeFacts:
    """The facts of a node as they travel."""
    message = examination_pb2.NodeFacts()
    _fill(message, facts)
    return message


def decode_facts(message: examination_pb2.NodeFacts) -> NodeFacts:
    """The facts of a node as they came."""
    return _read(NodeFacts, message)


def _fill(message: Message, item: Any) -> None:
    for field in dataclasses.fields(item):
        value = getattr(item, field.name)
        if dataclasses.is_dataclass(value):
            _fill(getattr(message, field.name), value)
        elif not isinstance(value, tuple):
            setattr(message, field.name, value)
        elif value and dataclasses.is_dataclass(value[0]):
            for part in value:
                _fill(getattr(message, field.name).add(), part)
        else:
            getattr(message, field.name).extend(value)


def _read(kind: type[T], message: Message) -> T:
    hints = typing.get_type_hints(kind)
    return kind(**{name: _value(hint, getattr(message, name)) for name, hint in hints.items()})


def _value(hint: Any, value: Any) -> Any:
    if typing.get_origin(hint) is tuple:
        part = typing.get_args(hint)[0]
        return tuple(_value(part, item) for item in value)
    if dataclasses.is_dataclass(hint):
        return _read(typing.cast("type[Any]", hint), value)
    return hint(value) if issubclass(hint, enum.Enum) else value
