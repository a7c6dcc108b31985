"""Results for people (tables), for scripts (JSON) and for pipes (the first column only).

Writes results to stdout. `say` writes words for the person to stderr.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
from collections.abc import Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Any

import click

from quakegrid.cli.views import widths
from quakegrid.jobs import terminal_text


def say(text: str = "") -> None:
    """Talk to the user, on stderr, in lines that fit a terminal; results go to stdout."""
    click.echo(widths.talk(text), err=True)


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
    if isinstance(value, Enum):
        return value.value
    return str(value) if isinstance(value, Path) else value


def cell(value: Any) -> str:
    """A value as a table shows it, on one line; instants in local time, to the second."""
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
            return terminal_text.one_line(str(value))


def short_time(seconds: float) -> str:
    """A duration in few characters: 12s, 3m05s, 2h07m, 3d04h."""
    minutes, rest = divmod(max(0, round(seconds)), 60)
    if not minutes:
        return f"{rest}s"
    hours, minutes = divmod(minutes, 60)
    if not hours:
        return f"{minutes}m{rest:02}s"
    days, hours = divmod(hours, 24)
    return f"{days}d{hours:02}h" if days else f"{hours}h{minutes:02}m"


def print_json(value: Any) -> None:
    """Print one JSON document."""
    click.echo(json.dumps(plain(value), indent=2, ensure_ascii=False))


def print_json_line(value: Any) -> None:
    """Print one JSON document on a line of its own, at once."""
    click.echo(json.dumps(plain(value), ensure_ascii=False))


def print_listing(
    output: str,
    items: Sequence[Any],
    columns: Mapping[str, str],
    *,
    cut: str | None = None,
    spare: Sequence[str] = (),
) -> list[int]:
    """Print items of one kind.

    Args:
        output: "table", "json" or "quiet".
        items: dataclass instances or mappings.
        columns: fields that a table shows, with their headings; JSON has all fields.
        cut: field that is cut where the table is wider than the terminal.
        spare: fields that a narrow terminal leaves out, the first one first.
    Returns:
        The places of the items of which a table has cut the field.
    """
    is_cut: list[int] = []
    rows = [plain(item) for item in items] if output == "json" else [_fields(item) for item in items]
    if output == "json":
        print_json(rows)
    elif output == "quiet":
        for row in rows:
            click.echo(cell(row[next(iter(columns))]))
    else:
        shown = {field: [heading, *(cell(row[field]) for row in rows)] for field, heading in columns.items()}
        columns = {field: columns[field] for field in widths.kept(shown, spare)}
        found = [[row[field] for field in columns] for row in rows]
        headings, place = list(columns.values()), list(columns).index(cut) if cut else None
        if place is not None:
            texts = widths.cut([[cell(value) for value in row] for row in found], headings, place)
            for number, (row, text) in enumerate(zip(found, texts, strict=True)):
                if text[place] != cell(row[place]):
                    is_cut.append(number)
                row[place] = text[place]
        print_table(found, headings)
    return is_cut


def print_record(output: str, item: Any) -> None:
    """Print one item, a line a field."""
    if output == "json":
        print_json(item)
        return
    fields = _fields(item)
    width = max(len(name) for name in fields) + 2
    if output == "quiet":
        click.echo(cell(next(iter(fields.values()))))
        return
    for name, value in fields.items():
        click.echo(widths.hanging(f"{name.replace('_', ' '):<{width}}", cell(value)))


def print_table(rows: Sequence[Sequence[Any]], headings: Sequence[str]) -> None:
    """Print rows under headings; numbers to the right. Never cuts a value: pipes and greps want it whole."""
    columns = list(zip(*rows, strict=True)) or [() for _ in headings]
    grid = []
    for heading, values in zip(headings, columns, strict=True):
        texts = [cell(value) for value in values]
        width = max(map(len, [heading, *texts]))
        is_number = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
        justify = str.rjust if is_number and values else str.ljust
        grid.append([justify(text, width) for text in [heading, "-" * width, *texts]])
    for number, line in enumerate(zip(*grid, strict=True)):
        click.secho("  ".join(line).rstrip(), bold=number == 0)


def _fields(item: Any) -> dict[str, Any]:
    if isinstance(item, Mapping):
        return dict(item)
    return {field.name: getattr(item, field.name) for field in dataclasses.fields(item)}
