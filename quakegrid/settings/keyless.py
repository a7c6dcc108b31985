"""Reads configuration files without their keys, for processes that run a job's code.

The lines of a key never get into the memory of who reads here: the file is mapped, and only the text around
these lines is copied. Knows no section and no other key.
"""

from __future__ import annotations

import configparser
import mmap
import os
import re
from collections.abc import Iterable
from pathlib import Path

KEY = "authkey"
# The line of a key, and those that continue it: blank or indented.
_KEY_LINES = re.compile(rb"^[^\n]*authkey[^\n]*(?:\n(?:[ \t][^\n]*|\r?$))*\n?", re.IGNORECASE | re.MULTILINE)
_LINE_END = re.compile(rb"\n")


def read_text(path: Path) -> str:
    """The text of a file without lines that name an authkey, comments among them.

    Empty lines are in their place, so that errors have the numbers of the other lines.

    Raises:
        OSError: there is no such file, it cannot be read, or it is none.
        UnicodeDecodeError: it is not UTF-8.
    """
    with path.open("rb") as file:
        if not os.fstat(file.fileno()).st_size:
            return ""
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            # Positions only: a match would keep the map open.
            spans = [found.span() for found in _KEY_LINES.finditer(content)]
            parts, end = [], 0
            for start, next_start in spans:
                line_count = sum(1 for _ in _LINE_END.finditer(content, start, next_start))
                parts += [content[end:start], b"\n" * line_count]
                end = next_start
            parts.append(content[end:])
    return b"".join(parts).decode()


def merge(paths: Iterable[Path]) -> configparser.ConfigParser:
    """What these files say together, the last one winning key by key, without keys of clusters.

    Raises:
        OSError: one cannot be read; those that there are not are passed over.
        UnicodeDecodeError: one is not UTF-8.
        configparser.Error: one is no configuration file.
    """
    parser = configparser.ConfigParser(interpolation=None)
    for path in paths:
        if path.exists():
            parser.read_string(read_text(path), source=str(path))
    for section in (parser.default_section, *parser.sections()):
        parser.remove_option(section, KEY)
    return parser
