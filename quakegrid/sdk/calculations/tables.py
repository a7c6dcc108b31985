"""Arrays that were extracted from a datastore, as a table of pandas. Pure but for pandas itself."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from quakegrid import errors

# Where the engine puts the one array of an extract.
_MAIN = ("all", "array")


def to_table(arrays: Mapping[str, Any]) -> Any:
    """The table in an extract.

    A field within a field, or a number within a row, becomes a column: `mean/PGA/0.1`.

    Args:
        arrays: name to array, as numpy's .npz has them.
    Returns:
        A pandas.DataFrame.
    Raises:
        UsageError: pandas is not installed, or there is nothing that is a table.
    """
    try:
        import pandas as pd  # noqa: PLC0415 - optional, and slow to import
    except ImportError:
        raise errors.UsageError("tables need pandas: pip install pandas") from None
    columns = dict(_columns(arrays))
    if not columns:
        raise errors.UsageError(f"there is no table in this extract; it has {', '.join(arrays) or 'nothing'}")
    return pd.DataFrame(columns)


def _columns(arrays: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name in _MAIN:
        if name in arrays and arrays[name].ndim:
            yield from _flat("" if arrays[name].dtype.names else "value", arrays[name])
            return
    wide = {name: each for name, each in arrays.items() if each.ndim > 1}
    long = {name: each for name, each in arrays.items() if each.ndim}
    count = max((len(each) for each in (wide or long).values()), default=0)
    for name, each in long.items():
        # Beside arrays of sites, short lists of parameters are no columns.
        if len(each) == count and (name in wide or not wide or count > 1):
            yield from _flat(name, each)


def _flat(name: str, array: Any) -> Iterator[tuple[str, Any]]:
    """The columns of an array whose first axis are rows."""
    if array.dtype.names:
        for field in array.dtype.names:
            yield from _flat(f"{name}/{field}" if name else field, array[field])
    elif array.ndim > 1:
        rows = array.reshape(len(array), math.prod(array.shape[1:]))
        for number in range(rows.shape[1]):
            yield f"{name}/{number}", rows[:, number]
    elif array.dtype.kind == "S":
        yield name, array.astype(str)
    else:
        yield name, array
