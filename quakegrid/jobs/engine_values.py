"""Codec between Python values and the typed protobuf `Value` that engine calls carry.

Takes what upstream's dbcmd passes and returns: None, bool, int, float, str, bytes, datetime, list,
tuple, dict with text keys, rows and tables. Does not depend on the engine or the network.
"""

from __future__ import annotations

import datetime
import functools
import numbers
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from operator import attrgetter
from types import NoneType
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

from quakegrid.api.v1 import values_pb2

INT64_LIMIT = 1 << 63
_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
# Bounds of the years 1 to 9999: Python has no others.
_FIRST_S, _LAST_S = -62_135_596_800, 253_402_300_799
_NAIVE_EPOCH = datetime.datetime(1970, 1, 1)  # noqa: DTZ001  of times that count as UTC


@dataclass(frozen=True, slots=True)
class RowValue:
    """One row of a query: field names and as many values; `row["field"]` looks a value up."""

    fields: tuple[str, ...]
    values: tuple[Any, ...]

    def __getitem__(self, field: str) -> Any:
        return self.values[self.fields.index(field)]


@dataclass(frozen=True, slots=True)
class TableValue:
    """All rows of a query; iterating gives `RowValue`s."""

    fields: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]

    def __iter__(self) -> Iterator[RowValue]:
        return (RowValue(self.fields, row) for row in self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> RowValue:
        return RowValue(self.fields, self.rows[index])


def to_timestamp(value: datetime.datetime) -> Timestamp:
    """Encode an instant; a naive datetime counts as UTC."""
    since = value - (_EPOCH if value.tzinfo else _NAIVE_EPOCH)
    # The library's own conversion takes ten times as long.
    return Timestamp(seconds=since.days * 86400 + since.seconds, nanos=since.microseconds * 1000)


def from_timestamp(stamp: Timestamp) -> datetime.datetime:
    """Decode an instant as an aware datetime in UTC.

    Raises:
        ValueError: it is not in the years 1 to 9999, or its nanoseconds are no part of a second.
    """
    return _EPOCH + _since_epoch(stamp)


def _since_epoch(stamp: Timestamp) -> datetime.timedelta:
    if not (_FIRST_S <= stamp.seconds <= _LAST_S and 0 <= stamp.nanos < 1_000_000_000):
        raise ValueError(
            f"{stamp.seconds} s and {stamp.nanos} ns after 1970 is no time of the years 1 to 9999"
        )
    return datetime.timedelta(seconds=stamp.seconds, microseconds=stamp.nanos // 1000)


def well_formed(text: str) -> str:
    """Text as protobuf takes it: bytes of a file name that are not UTF-8 (lone surrogates) become "?"."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def encode(value: Any) -> values_pb2.Value:
    """Encode a Python value.

    Raises:
        TypeError: the value, or one inside it, is of no type that a `Value` can hold.
        OverflowError: an integer needs more than 64 bits.
    """
    target = values_pb2.Value()
    fill(target, value)
    return target


def fill(target: values_pb2.Value, value: Any) -> None:
    """Encode into the message where it belongs: a message that is built apart would be copied."""
    _filler(type(value))(target, value)  # type: ignore[arg-type]  # types are hashable


def fill_all(targets: Any, items: Iterable[Any]) -> None:
    """Encode into a repeated field of a message."""
    add = targets.add
    for item in items:
        _filler(type(item))(add(), item)  # type: ignore[arg-type]


def decode(value: values_pb2.Value) -> Any:
    """Decode into a Python value; times become naive datetimes in UTC, as upstream has them.

    Raises:
        TypeError: the value holds none of the kinds we know.
        ValueError: a time is out of range, or there are not as many names as values.
    """
    decoder = _DECODERS.get(value.WhichOneof("kind"))
    if decoder is None:
        raise TypeError("a value without a kind")
    return decoder(value)


def _fill_none(target: values_pb2.Value, _value: None) -> None:
    target.none = True


def _fill_boolean(target: values_pb2.Value, value: bool) -> None:
    target.boolean = value


def _fill_integer(target: values_pb2.Value, value: Any) -> None:
    number = int(value)
    if not -INT64_LIMIT <= number < INT64_LIMIT:
        raise OverflowError(f"the integer {number} needs more than 64 bits")
    target.integer = number


def _fill_real(target: values_pb2.Value, value: Any) -> None:
    target.real = float(value)


def _fill_text(target: values_pb2.Value, value: str) -> None:
    target.text = well_formed(value)


def _fill_data(target: values_pb2.Value, value: bytes) -> None:
    target.data = value


def _fill_time(target: values_pb2.Value, value: datetime.datetime) -> None:
    target.time.CopyFrom(to_timestamp(value))


def _fill_list(target: values_pb2.Value, value: list[Any]) -> None:
    target.list.SetInParent()  # though it may stay empty
    fill_all(target.list.items, value)


def _fill_tuple(target: values_pb2.Value, value: tuple[Any, ...]) -> None:
    target.tuple.SetInParent()
    fill_all(target.tuple.items, value)


def _fill_dictionary(target: values_pb2.Value, value: dict[Any, Any]) -> None:
    keys = list(value)
    if not all(isinstance(key, str) for key in keys):
        raise TypeError(f"a dictionary with keys other than text: {keys!r}")
    target.dictionary.SetInParent()
    target.dictionary.keys.extend(keys)
    fill_all(target.dictionary.values, value.values())


def _fill_row(target: values_pb2.Value, value: RowValue) -> None:
    row = target.row
    row.SetInParent()
    row.fields.extend(value.fields)
    fill_all(row.values, value.values)


def _fill_table(target: values_pb2.Value, value: TableValue) -> None:
    table = target.table
    table.SetInParent()
    table.fields.extend(value.fields)
    for row in value.rows:
        fill_all(table.rows.add().items, row)


def _refuse(_target: values_pb2.Value, value: Any) -> None:
    raise TypeError(f"{value!r} is not a simple type")


# The first one that fits: a bool is an int, and numpy's numbers are none of Python's.
_FILLERS: tuple[tuple[type, Callable[[values_pb2.Value, Any], None]], ...] = (
    (NoneType, _fill_none),
    (bool, _fill_boolean),
    (int, _fill_integer),
    (float, _fill_real),
    (str, _fill_text),
    (bytes, _fill_data),
    (datetime.datetime, _fill_time),
    (list, _fill_list),
    (tuple, _fill_tuple),
    (dict, _fill_dictionary),
    (RowValue, _fill_row),
    (TableValue, _fill_table),
    (numbers.Integral, _fill_integer),
    (numbers.Real, _fill_real),
    (object, _refuse),
)


@functools.lru_cache(1000)
def _filler(kind: type) -> Callable[[values_pb2.Value, Any], None]:
    return next(filler for base, filler in _FILLERS if issubclass(kind, base))


def _decode_time(value: values_pb2.Value) -> datetime.datetime:
    return _NAIVE_EPOCH + _since_epoch(value.time)


def _decode_dictionary(value: values_pb2.Value) -> dict[str, Any]:
    return dict(zip(value.dictionary.keys, map(decode, value.dictionary.values), strict=True))


def _decode_row(value: values_pb2.Value) -> RowValue:
    row = value.row
    if len(row.fields) != len(row.values):
        raise ValueError(f"a row with {len(row.fields)} names and {len(row.values)} values")
    return RowValue(tuple(row.fields), tuple(map(decode, row.values)))


def _decode_table(value: values_pb2.Value) -> TableValue:
    table = value.table
    return TableValue(tuple(table.fields), tuple(tuple(map(decode, row.items)) for row in table.rows))


_DECODERS: dict[str | None, Callable[[values_pb2.Value], Any]] = {
    "none": lambda _value: None,
    "boolean": attrgetter("boolean"),
    "integer": attrgetter("integer"),
    "real": attrgetter("real"),
    "text": attrgetter("text"),
    "data": attrgetter("data"),
    "time": _decode_time,
    "list": lambda value: list(map(decode, value.list.items)),
    "tuple": lambda value: tuple(map(decode, value.tuple.items)),
    "dictionary": _decode_dictionary,
    "row": _decode_row,
    "table": _decode_table,
}
