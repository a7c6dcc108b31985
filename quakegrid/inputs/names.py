"""Words of a text that may be names of files. Pure.

The text is that of a job file, a logic tree, an exposure or any other input. What is no name of a file is
sorted out later, by looking whether there is such a file.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

# Between names, in the engine's formats: also what stands around them in lists, tables and XML.
_WORD = re.compile(r"[^\s,;'\"\[\](){}<>=|]+")
# Names may have brackets and commas; then only blanks, quotes and the marks of XML end them.
_WIDE_WORD = re.compile(r"[^\s'\"<>=]+")
# A name with blanks stands alone: as a value, in quotes, or as the text of an element.
_VALUE = re.compile(r"^[^\n=#;]*=[ \t]*([^\n]*?)[ \t\r]*$", re.MULTILINE)
_QUOTED = re.compile(r"\"([^\"\n]{1,1024})\"|'([^'\n]{1,1024})'|>\s*([^<>]{1,1024}?)\s*<")
# What follows the last dot of an input's name. Numbers, such as 1.0E5, have no letter there.
_SUFFIX = re.compile(r"\.[A-Za-z][A-Za-z0-9_]{0,11}$")
MOST_NAME_CHARACTERS = 1024


def words(text: str) -> Iterator[str]:
    """The words of a text that may name files, each of them once."""
    seen = set()
    for word in _all(text):
        if word not in seen and len(word) <= MOST_NAME_CHARACTERS and _SUFFIX.search(word):
            seen.add(word)
            yield word


def _all(text: str) -> Iterator[str]:
    for pattern in (_WORD, _WIDE_WORD):
        for found in pattern.finditer(text):
            yield found[0].rstrip(".,:")
    for found in _VALUE.finditer(text):
        yield found[1]
    for found in _QUOTED.finditer(text):
        yield from (part for part in found.groups() if part)


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
