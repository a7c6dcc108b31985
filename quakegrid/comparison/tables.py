"""Two tables as the engine exports them: CSV, with a line of remarks (`#`) and a line of names before it."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from quakegrid.comparison import numbers
from quakegrid.comparison.numbers import Tolerance

REMARK = "#"


@dataclass(frozen=True, slots=True)
class CsvTable:
    """Names of columns, and rows of texts."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


class Likeness(Enum):
    """What a comparison of two results says."""

    SAME = "same"
    DIFFERS = "differs"
    OTHER_SHAPE = "other shape"
    ONLY_LEFT = "only left"
    ONLY_RIGHT = "only right"


@dataclass(frozen=True, slots=True)
class TableDifference:
    """What differs between two tables of the same name.

    Args:
        name: of the result, without the calculation's number.
        likeness: whether they are the same.
        count: values that were compared.
        differing_count: values that differ.
        largest: the largest difference between numbers, as a part of the larger one.
        where: the value with the largest difference, or the first text that differs: row, column and values.
            Or what is different about the shape.
    """

    name: str
    likeness: Likeness
    count: int = 0
    differing_count: int = 0
    largest: float = 0.0
    where: str = ""


def read(text: str) -> CsvTable:
    """A table of the engine; one without any line is empty."""
    lines = [line for line in text.splitlines() if not line.startswith(REMARK)]
    found = [tuple(row) for row in csv.reader(lines)]
    return CsvTable(found[0], tuple(found[1:])) if found else CsvTable((), ())


def result_name(file_name: str, job_id: int) -> str:
    """What a file is called in every calculation: `hazard_curve-mean-PGA_12.csv` is `hazard_curve-mean-PGA`.

    Args:
        file_name: as the engine calls it.
        job_id: of its calculation.
    """
    return file_name.removesuffix(".csv").removesuffix(f"_{job_id}")


def compare_all(
    left: Mapping[str, CsvTable], right: Mapping[str, CsvTable], tolerance: Tolerance | None = None
) -> list[TableDifference]:
    """Compare the tables of two calculations that have the same name; those of one alone are told, too.

    Args:
        left: name to table, of one calculation.
        right: of the other.
        tolerance: None for the usual one.
    """
    found = []
    for name in sorted(left.keys() | right.keys()):
        if name not in right:
            found.append(TableDifference(name, Likeness.ONLY_LEFT))
        elif name not in left:
            found.append(TableDifference(name, Likeness.ONLY_RIGHT))
        else:
            found.append(compare(name, left[name], right[name], tolerance))
    return found


def compare(
    name: str, left: CsvTable, right: CsvTable, tolerance: Tolerance | None = None
) -> TableDifference:
    """Compare two tables, value by value: numbers within a tolerance, texts letter by letter.

    Args:
        name: of the result.
        left: of one calculation.
        right: of the other.
        tolerance: None for the usual one.
    """
    tolerance = tolerance or Tolerance()
    if left.columns != right.columns:
        return TableDifference(name, Likeness.OTHER_SHAPE, where=_other_columns(left.columns, right.columns))
    if [len(row) for row in left.rows] != [len(row) for row in right.rows]:
        words = f"{len(left.rows)} and {len(right.rows)} rows"
        return TableDifference(name, Likeness.OTHER_SHAPE, where=words)
    count, differing_count, largest, where = 0, 0, 0.0, ""
    for number, (ours, theirs) in enumerate(zip(left.rows, right.rows, strict=True), 1):
        count += len(ours)
        if ours == theirs:
            continue
        for column, one, other in zip(left.columns, ours, theirs, strict=False):
            apart = _apart(one, other, tolerance)
            if apart is None:
                continue
            differing_count += 1
            if apart > largest or not where:
                largest, where = max(apart, largest), f"row {number}, {column}: {one} and {other}"
    likeness = Likeness.DIFFERS if differing_count else Likeness.SAME
    return TableDifference(name, likeness, count, differing_count, largest, where)


def is_same(found: Sequence[TableDifference]) -> bool:
    """Whether all results are the same; of none, none is."""
    return bool(found) and all(each.likeness is Likeness.SAME for each in found)


def _apart(one: str, other: str, tolerance: Tolerance) -> float | None:
    """How far two values are apart, 0 for texts; None if they are the same."""
    if one == other:
        return None
    try:
        left, right = float(one), float(other)
    except ValueError:
        return 0.0
    return None if tolerance.allows(left, right) else numbers.relative(left, right)


def _other_columns(left: Sequence[str], right: Sequence[str]) -> str:
    if len(left) != len(right):
        return f"{len(left)} and {len(right)} columns"
    one, other = next(pair for pair in zip(left, right, strict=True) if pair[0] != pair[1])
    return f"columns {one} and {other}"
