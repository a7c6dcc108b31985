"""Results for people (tables), for scripts (JSON) and for pipes (the first column only).

Knows how values look; knows nothing of what they mean. Writes to stdout, where results belong.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

# Pipes and files have no width: a table must not be cut there.
_UNBOUNDED_WIDTH = 10_000


def plain(value: Any) -> Any:
    """A value as JSON can hold it: dataclasses as objects, instants as ISO 8601 in UTC."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    if isinstance(value, datetime.datetime):
        return value.astimezone(datetime.UTC).isoformat()
    return str(value) if isinstance(value, Path) else value


def cell(value: Any) -> str:
    """A value as a table shows it; instants in local time, to the second."""
    match value:
        case None:
            return "-"
        case bool():
            return "yes" if value else "no"
        case float():
            return f"{value:.2f}"
        case datetime.datetime():
            return value.astimezone().strftime("%Y-%m-%d %H:%M:%S")
        case list() | tuple():
            return ", ".join(cell(item) for item in value) or "-"
        case _:
            return str(value)


def print_json(value: Any) -> None:
    """Print one JSON document."""
    click.echo(json.dumps(plain(value), indent=2, ensure_ascii=False))


def print_json_line(value: Any) -> None:
    """Print one JSON document on a line of its own, at once."""
    click.echo(json.dumps(plain(value), ensure_ascii=False))


def print_listing(output: str, items: Sequence[Any], columns: Mapping[str, str]) -> None:
    """Print items of one kind.

    Args:
        output: "table", "json" or "quiet".
        items: dataclass instances or mappings.
        columns: fields that a table shows, with their headings; JSON has all fields.
    """
    rows = [plain(item) for item in items] if output == "json" else [_fields(item) for item in items]
    if output == "json":
        print_json(rows)
    elif output == "quiet":
        for row in rows:
            click.echo(cell(row[next(iter(columns))]))
    else:
        print_table([[row[field] for field in columns] for row in rows], list(columns.values()))


def print_record(output: str, item: Any) -> None:
    """Print one item, a line a field."""
    if output == "json":
        print_json(item)
        return
    fields = _fields(item)
    width = max(len(name) for name in fields) + 2
    for name, value in list(fields.items())[: 1 if output == "quiet" else None]:
        click.echo(cell(value) if output == "quiet" else f"{name.replace('_', ' '):<{width}}{cell(value)}")


def print_table(rows: Sequence[Sequence[Any]], headings: Sequence[str]) -> None:
    """Print rows under headings; numbers to the right."""
    from rich import box, console, table  # noqa: PLC0415 - JSON does not need it

    width = None if sys.stdout.isatty() else _UNBOUNDED_WIDTH
    out = console.Console(width=width, highlight=False, markup=False)
    grid = table.Table(*headings, box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="bold")
    for column, values in zip(grid.columns, zip(*rows, strict=True), strict=False):
        column.overflow = "fold"
        is_number = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
        column.justify = "right" if is_number else "left"
    for row in rows:
        grid.add_row(*(cell(value) for value in row))
    out.print(grid)


def _fields(item: Any) -> dict[str, Any]:
    if isinstance(item, Mapping):
        return dict(item)
    return {field.name: getattr(item, field.name) for field in dataclasses.fields(item)}
