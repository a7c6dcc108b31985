"""Compares the CSV files that two runs of the same calculation exported.

Ids differ between runs, so they are taken off the names of the files; so do the dates in the comment
line at the top. Columns are matched by their names: the engine orders some of them by the hash of text,
which differs between processes. All else must agree, row by row: numbers within RTOL and ATOL, text to
the letter. Files that have no order of rows are compared in the order of their values.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

RTOL = 1e-5
ATOL = 1e-8
SHOWN_COUNT = 5


@dataclass(frozen=True, slots=True)
class Rule:
    """How a file is compared.

    Args:
        rtol: relative tolerance of numbers.
        has_order: whether its rows have an order.
        is_remnant: the plain engine leaves it of an output whose export failed; it may be missing.
    """

    rtol: float = RTOL
    has_order: bool = True
    is_remnant: bool = False


def find_differences(
    expected_dir: Path, actual_dir: Path, rule_of: Callable[[str], Rule] = lambda _name: Rule()
) -> list[str]:
    """Say what differs between the CSV files of two directories; empty when nothing does.

    Args:
        expected_dir: files as the plain engine exported them.
        actual_dir: files to judge by them.
        rule_of: how to compare a file, by its name.
    """
    expected, actual = _files_by_name(expected_dir), _files_by_name(actual_dir)
    absent = sorted(expected.keys() - actual.keys())
    missing = [f"{name}: not exported" for name in absent if not rule_of(name).is_remnant]
    unexpected = [f"{name}: not expected" for name in sorted(actual.keys() - expected.keys())]
    differences = missing + unexpected
    for name in sorted(expected.keys() & actual.keys()):
        sides = [_read_rows(files[name]) for files in (expected, actual)]
        rule = rule_of(name)
        if not rule.has_order:
            sides = [[*rows[:1], *sorted(rows[1:], key=_place)] for rows in sides]
        found = _differing_rows(*sides, rule.rtol)
        differences += [f"{name}: {text}" for text in found[:SHOWN_COUNT]]
        if len(found) > SHOWN_COUNT:
            differences.append(f"{name}: {len(found)} rows differ")
    return differences


def _files_by_name(directory: Path) -> dict[str, Path]:
    """Files by name, without the id of the calculation at its end."""
    return {re.sub(r"_\d+\.csv$", ".csv", path.name): path for path in directory.rglob("*.csv")}


def _read_rows(path: Path) -> list[list[str]]:
    with path.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.reader(stream))
    has_comment = bool(rows and rows[0] and rows[0][0].startswith("#"))
    return _order_columns(rows[1:] if has_comment else rows)


def _order_columns(rows: list[list[str]]) -> list[list[str]]:
    """Put the columns in the order of their names, which the first row gives."""
    order = sorted(range(len(rows[0])), key=rows[0].__getitem__) if rows else []
    return [[row[index] for index in order] if len(row) == len(order) else row for row in rows]


def _differing_rows(expected: list[list[str]], actual: list[list[str]], rtol: float) -> list[str]:
    return [
        f"row {number}: expected {want}, got {got}"
        for number, (want, got) in enumerate(zip_longest(expected, actual), start=1)
        if want is None or got is None or not _are_equal(want, got, rtol)
    ]


def _are_equal(want: list[str], got: list[str], rtol: float) -> bool:
    return len(want) == len(got) and all(_is_equal(*cells, rtol) for cells in zip(want, got, strict=True))


def _place(row: list[str]) -> list[tuple[int, float, str]]:
    """By what rows without an order are sorted: texts first, then numbers, rounded to what is compared."""
    found: list[tuple[int, float, str]] = []
    for cell in row:
        try:
            found.append((1, float(f"{float(cell):.4g}"), ""))
        except ValueError:
            found.append((0, 0.0, cell))
    return sorted(found, key=lambda each: each[0])


def _is_equal(want: str, got: str, rtol: float) -> bool:
    if want == got:
        return True
    try:
        expected, actual = float(want), float(got)
    except ValueError:
        return False
    return abs(actual - expected) <= ATOL + rtol * abs(expected)
