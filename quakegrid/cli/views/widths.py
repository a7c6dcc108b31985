"""Lines that fit a terminal; where nobody looks (pipes, files), nothing is broken or cut.

A command within a text is never broken: people copy it, and its first line would be another command.

Texts may be foreign, and are made harmless for a terminal here (`jobs/terminal_text.py`): style the result,
not what is given.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import sys
import textwrap
from collections.abc import Mapping, Sequence

from quakegrid.jobs import terminal_text

# Of a text that is cut; a terminal may be too narrow for it.
LEAST = 10
# Between two columns.
GAP = 2
# What stands between backticks, or from the name of a program to the end of the clause.
_COMMAND = re.compile(
    r"`[^`]+`|(?<![\w/.`-])(?:sudo )?(?:quakegrid|agentctl|oq) (?:'[^']*'|(?![;,.)](?:\s|$)).)+"
)
# Stands for a space at which no line ends; a harmless text has none.
_HELD = "\0"


def of_output() -> int | None:
    """Columns of the terminal; None if results do not go to one."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def of_talk() -> int | None:
    """Columns of the terminal that words for the person go to (stderr); None if they do not go to one."""
    if not sys.stderr.isatty():
        return None
    columns = shutil.get_terminal_size().columns
    if not sys.stdout.isatty() and "COLUMNS" not in os.environ:  # that was no size of a terminal
        with contextlib.suppress(OSError):
            columns = os.get_terminal_size(sys.stderr.fileno()).columns or columns
    return columns


def talk(text: str) -> str:
    """Words for the person on as many lines as they take in a terminal; each keeps its indentation."""
    columns, lines = of_talk(), text.split("\n")
    if columns is None:  # perhaps a pipe whose other end is a terminal
        return "\n".join(map(_harmless, lines))
    return "\n".join(_folded(line, len(line) - len(line.lstrip(" ")) + 2, columns) for line in lines)


def hanging(head: str, text: str) -> str:
    """A text after a head, on as many lines as it takes in a terminal, each below the first."""
    columns = of_output()
    if columns is None:
        return head + _harmless(text)
    lines = _wrapped(text, max(LEAST, columns - len(head)), "") or [""]
    return f"\n{' ' * len(head)}".join([head + lines[0], *lines[1:]])


def paragraph(text: str, indent: int) -> str:
    """A text on as many lines as it takes in a terminal; all but the first are indented."""
    columns = of_output()
    return _harmless(text) if columns is None else _folded(text, indent, columns)


def kept(columns: Mapping[str, Sequence[str]], spare: Sequence[str]) -> list[str]:
    """The columns of a table that a terminal has room for.

    Args:
        columns: name to heading and texts.
        spare: columns that may be left out, the first one first.
    """
    room, names = of_output(), list(columns)
    width = sum(max(map(len, texts)) + GAP for texts in columns.values()) - GAP
    for name in spare:
        if room is None or width <= room:
            break
        names.remove(name)
        width -= max(map(len, columns[name])) + GAP
    return names


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
    room = max(LEAST, columns - sum(widths) + widths[place] - GAP * (len(widths) - 1))
    return [[*row[:place], _cut(row[place], room), *row[place + 1 :]] for row in rows]


def cut_line(text: str) -> str:
    """A line, cut where the terminal ends."""
    columns = of_output()
    return text if columns is None else _cut(text, max(LEAST, columns))


def _folded(text: str, indent: int, columns: int) -> str:
    return "\n".join(_wrapped(text, max(indent + LEAST, columns), " " * indent))


def _wrapped(text: str, width: int, indent: str) -> list[str]:
    """Harmless lines, all but the first indented; one with a long word or command is wider."""
    held = _COMMAND.sub(lambda found: found[0].replace(" ", _HELD), _harmless(text))
    lines = textwrap.wrap(
        held, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )
    return [line.replace(_HELD, " ") for line in lines]


def _harmless(text: str) -> str:
    """On one line, without what a terminal would obey."""
    return terminal_text.one_line(text.replace("\n", " "))


def _cut(text: str, room: int) -> str:
    return text if len(text) <= room else f"{text[: room - 1]}…"
