"""A listing that follows what changes: in place on a terminal, one after the other elsewhere.

Only redraws; the caller gives the items.
"""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import click

from quakegrid.cli.views import render

T = TypeVar("T")


def show(
    items: Iterable[T],
    output: str,
    print_item: Callable[[str, T], None],
    document: Callable[[T], Any],
) -> None:
    """Show each item as it comes, until there are no more.

    Args:
        items: what to show, such as statuses.
        output: "table", "json" (one document a line) or "quiet".
        print_item: prints one item, in this output.
        document: one item for JSON.
    """
    if output == "table" and sys.stdout.isatty():
        _show_in_place(items, print_item)
        return
    for item in items:
        if output == "json":
            render.print_json_line(document(item))
        else:
            print_item(output, item)
            click.echo()
        sys.stdout.flush()


def _show_in_place(items: Iterable[T], print_item: Callable[[str, T], None]) -> None:
    from rich.live import Live  # noqa: PLC0415 - terminals only
    from rich.text import Text  # noqa: PLC0415

    with Live(auto_refresh=False, vertical_overflow="crop") as display:
        for item in items:
            with contextlib.redirect_stdout(io.StringIO()) as stream:
                print_item("table", item)
            display.update(Text(stream.getvalue(), no_wrap=True, overflow="ellipsis"), refresh=True)
