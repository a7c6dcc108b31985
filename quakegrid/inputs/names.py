"""Words of a text that may be names of files. Pure.

The text is that of a job file, a logic tree, an exposure or any other input. What is no name of a file is
sorted out later, by looking whether there is such a file.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

# What ends a name, in the engine's formats: also what stands around names in lists, tables and XML. Names may
# have brackets and commas, too, or blanks, so each place is read in three ways, from the narrow to the wide.
_BEFORE = (" \t\r\n'\"<>=,;[](){}|", " \t\r\n'\"<>=", "\n'\"<>=")
# What follows the last dot of an input's name. Numbers, such as 1.0E5, have no letter there.
_SUFFIX = re.compile(r"\.[A-Za-z][A-Za-z0-9_]{0,11}(?!\.?[A-Za-z0-9_])")
MOST_NAME_CHARACTERS = 1024


def words(text: str) -> Iterator[str]:
    """The words of a text that may name files, each of them once."""
    seen = set()
    for found in _SUFFIX.finditer(text):
        window = text[max(0, found.start() - MOST_NAME_CHARACTERS) : found.end()]
        for delimiters in _BEFORE:
            start = max(map(window.rfind, delimiters)) + 1
            word = window[start:].strip()
            if word not in seen:
                seen.add(word)
                yield word


def export_wishes(text: str) -> tuple[str, str]:
    """`exports` and `export_dir` of a job file; each empty if it has none."""
    found = {"exports": "", "export_dir": ""}
    for line in text.splitlines():
        key, equals, value = line.partition("=")
        if equals and key.strip() in found:
            found[key.strip()] = value.strip()
    return found["exports"], found["export_dir"]


def absolute_inputs(text: str) -> list[str]:
    """Lines of a job file that name an input by an absolute path, which the engine refuses."""
    lines = []
    for line in text.splitlines():
        key, equals, value = line.partition("=")
        if equals and key.strip().endswith(("_file", "_csv", "_hdf5")) and value.strip().startswith("/"):
            lines.append(line.strip())
    return lines
