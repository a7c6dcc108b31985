"""Lines that fit a terminal; where nobody looks (pipes, files), nothing is broken or cut."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Sequence

# Of a text that is cut; a terminal may be too narrow for it.
LEAST = 10


def of_output() -> int | None:
    """Columns of the terminal; None if results do not go to one."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def hanging(head: str, text: str) -> str:
    """A text after a head, on as many lines as it takes in a terminal, each below the first."""
    columns = of_output()
    if columns is None:
        return head + text
    width = max(LEAST, columns - len(head))
    lines = textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False) or [""]
    return f"\n{' ' * len(head)}".join([head + lines[0], *lines[1:]])


def cut(rows: Sequence[Sequence[str]], headings: Sequence[str], place: int) -> list[list[str]]:
    """Rows of a table of which one column is cut so that the table fits the terminal; all, if there is none.

    Args:
        rows: of texts.
        headings: of the columns.
        place: of the column that is cut.
    """
    columns = of_output()
    if columns is None or not rows:
        return [list(row) for row in rows]
    widths = [max(map(len, texts)) for texts in zip(headings, *rows, strict=True)]
    room = max(LEAST, columns - sum(widths) + widths[place] - 2 * (len(widths) - 1))
    return [[*row[:place], _cut(row[place], room), *row[place + 1 :]] for row in rows]


def _cut(text: str, room: int) -> str:
    return text if len(text) <= room else f"{text[: room - 1]}…"
