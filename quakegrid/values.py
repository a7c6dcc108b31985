"""Codec between Python values and the typed protobuf `Value` that engine calls carry.

Takes what upstream's dbcmd passes and returns: None, bool, int, float, str, bytes, datetime, list,
tuple, dict with text keys, rows and tables. Knows neither the engine's classes nor the network.
"""

from __future__ import annotations

import datetime
import numbers
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

from quakegrid.api.v1 import engine_calls_pb2 as pb

INT64_LIMIT = 1 << 63
_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
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
    """Decode an instant as an aware datetime in UTC."""
    return _EPOCH + datetime.timedelta(seconds=stamp.seconds, microseconds=stamp.nanos // 1000)


def well_formed(text: str) -> str:
    """Text as protobuf takes it: what is not UTF-8 in a file name (a lone surrogate here) becomes "?"."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def encode(value: Any) -> pb.Value:
    """Encode a Python value.

    Raises:
        TypeError: the value, or one inside it, is of no type that a `Value` can hold.
        OverflowError: an integer needs more than 64 bits.
    """
    target = pb.Value()
    _fill(target, value)
    return target


def _fill(target: pb.Value, value: Any) -> None:  # noqa: C901, PLR0912  one line a type
    """Encode into a message where it belongs: built apart and put there, it would be copied."""
    match value:
        case str():
            target.text = well_formed(value)
        case None:
            target.none = True
        case bool():
            target.boolean = value
        case int():
            target.integer = _int64(value)
        case float():
            target.real = value
        case bytes():
            target.data = value
        case datetime.datetime():
            target.time.CopyFrom(to_timestamp(value))
        case list():
            _fill_all(target.list, value)
        case tuple():
            _fill_all(target.tuple, value)
        case dict():
            target.dictionary.CopyFrom(_encode_dictionary(value))
        case RowValue():
            target.row.SetInParent()
            target.row.fields.extend(value.fields)
            for item in value.values:
                _fill(target.row.values.add(), item)
        case TableValue():
            target.table.SetInParent()
            target.table.fields.extend(value.fields)
            for row in value.rows:
                _fill_all(target.table.rows.add(), row)
        case numbers.Integral():  # numpy's; last, since the check is slow
            target.integer = _int64(int(value))
        case numbers.Real():
            target.real = float(value)
        case _:
            raise TypeError(f"{value!r} is not a simple type")


def _fill_all(target: pb.Values, items: Iterable[Any]) -> None:
    target.SetInParent()  # though it may stay empty
    for item in items:
        _fill(target.items.add(), item)


def decode(value: pb.Value) -> Any:
    """Decode into a Python value; times become naive datetimes in UTC, as upstream has them.

    Raises:
        TypeError: the value holds none of the kinds we know.
    """
    kind = value.WhichOneof("kind")
    match kind:
        case "none":
            return None
        case "boolean" | "integer" | "real" | "text" | "data":
            return getattr(value, kind)
        case "time":
            return value.time.ToDatetime()
        case "list":
            return [decode(item) for item in value.list.items]
        case "tuple":
            return tuple(decode(item) for item in value.tuple.items)
        case "dictionary":
            return dict(zip(value.dictionary.keys, map(decode, value.dictionary.values), strict=True))
        case _:
            return _decode_rows(value)


def _decode_rows(value: pb.Value) -> RowValue | TableValue:
    if value.HasField("row"):
        return RowValue(tuple(value.row.fields), tuple(map(decode, value.row.values)))
    if value.HasField("table"):
        rows = (tuple(map(decode, row.items)) for row in value.table.rows)
        return TableValue(tuple(value.table.fields), tuple(rows))
    raise TypeError("a value without a kind")


def _int64(number: int) -> int:
    if not -INT64_LIMIT <= number < INT64_LIMIT:
        raise OverflowError(f"the integer {number} needs more than 64 bits")
    return number


def _encode_dictionary(dictionary: dict[Any, Any]) -> pb.Dictionary:
    keys: Sequence[Any] = list(dictionary)
    if not all(isinstance(key, str) for key in keys):
        raise TypeError(f"a dictionary with keys other than text: {keys!r}")
    return pb.Dictionary(keys=keys, values=map(encode, dictionary.values()))
