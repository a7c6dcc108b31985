"""Lines that fit a terminal; where nobody looks (pipes, files), nothing is broken or cut."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Sequence

# Of a text that is cut; a terminal may be too narrow for it.
LEAST = 12


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


def cut_last(rows: Sequence[Sequence[str]], headings: Sequence[str], columns: int) -> list[list[str]]:
    """Rows of a table whose last column is cut so that the table fits.

    Args:
        rows: of texts.
        headings: of the columns.
        columns: of the terminal.
    """
    others = [
        max(map(len, texts)) for texts in zip(*([headings[:-1]] + [row[:-1] for row in rows]), strict=True)
    ]
    room = max(LEAST, columns - sum(others) - 2 * len(others))
    return [[*row[:-1], row[-1] if len(row[-1]) <= room else f"{row[-1][: room - 1]}…"] for row in rows]
