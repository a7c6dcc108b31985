"""The codec of typed values."""

from __future__ import annotations

import datetime as dt
import enum
from decimal import Decimal
from fractions import Fraction
from typing import Any, NamedTuple

import pytest

from quakegrid.api.v1 import values_pb2
from quakegrid.jobs import engine_values
from quakegrid.jobs.engine_values import RowValue, TableValue
from quakegrid.jobs.states import JobState

NOON = dt.datetime(2026, 1, 1, 12, 0, 0, 123456)  # noqa: DTZ001  naive on purpose


class Number(enum.IntEnum):
    """A number with a name."""

    TWO = 2


class Pair(NamedTuple):
    """A tuple with names."""

    number: int
    text: str


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        False,
        0,
        -1,
        2**63 - 1,
        -(2**63),
        1.5,
        float("inf"),
        "",
        "★ \n",
        NOON,
        [],
        [1, [2, "a"], None],
        (),
        (1, (2.0,), [3]),
        {},
        {"a": 1, "b": {"c": [None]}},
        RowValue(("id", "status"), (1, "created")),
        TableValue(("id", "stop_time"), ((1, None), (2, NOON))),
    ],
)
def test_values_survive_the_wire(value: Any) -> None:
    """Decoding what was encoded gives an equal value of the same type."""
    data = engine_values.encode(value).SerializeToString()

    result = engine_values.decode(values_pb2.Value.FromString(data))

    assert result == value
    assert type(result) is type(value)


def test_encode_aware_time_becomes_utc() -> None:
    """Times of other zones are converted."""
    zone = dt.timezone(dt.timedelta(hours=2))

    result = engine_values.decode(engine_values.encode(NOON.replace(tzinfo=zone)))

    assert result == NOON - dt.timedelta(hours=2)


@pytest.mark.parametrize(
    ("value", "plain"),
    [(JobState.FAILED, "failed"), (Number.TWO, 2), (Fraction(3, 2), 1.5), (Pair(1, "a"), (1, "a"))],
)
def test_encode_takes_what_is_as_a_simple_type(value: Any, plain: Any) -> None:
    """Of a subclass, or a number of another library, the value arrives."""
    result = engine_values.decode(engine_values.encode(value))

    assert result == plain
    assert type(result) is type(plain)


@pytest.mark.parametrize("value", [bytearray(1), object(), {1: 2}, [{"a": {3}}], Decimal(1)])
def test_encode_other_types_is_refused(value: Any) -> None:
    """What a value cannot hold raises TypeError."""
    with pytest.raises(TypeError):
        engine_values.encode(value)


def test_encode_large_integer_is_refused() -> None:
    """Integers have 64 bits."""
    with pytest.raises(OverflowError):
        engine_values.encode(2**63)


def test_decode_value_without_kind_is_refused() -> None:
    """An empty message is no value."""
    with pytest.raises(TypeError):
        engine_values.decode(values_pb2.Value())


def test_table_rows_are_looked_up_by_field() -> None:
    """Rows of a table know their fields."""
    table = TableValue(("id", "status"), ((1, "created"), (2, "failed")))

    assert [row["status"] for row in table] == ["created", "failed"]
    assert table[-1]["id"] == 2
