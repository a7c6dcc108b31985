"""Changes of an `openquake.cfg` that leave everything else in it as it is, comments too.

Works on text; knows no files.
"""

from __future__ import annotations

import configparser
import re
from collections.abc import Iterable

from quakegrid.settings.config import WEAK_AUTHKEYS

_HEADER = re.compile(r"^\[(?P<name>[^]]+)\]")


def read_value(text: str, section: str, key: str) -> str:
    """A value, or "" where there is none.

    Raises:
        configparser.Error: the text is no configuration.
    """
    parser = configparser.ConfigParser(interpolation=None)
    parser.read_string(text)
    return parser.get(section, key, fallback="").strip()


def fill_in(text: str, values: Iterable[tuple[str, str, str]]) -> str:
    """Give every key that has no value yet, or the authkey that upstream ships, the value from `values`.

    Args:
        text: of a configuration, possibly empty.
        values: section, key and value.
    """
    for section, key, value in values:
        found = read_value(text, section, key)
        if not found or (key == "authkey" and found in WEAK_AUTHKEYS):
            text = put(text, section, key, value)
    return text


def put(text: str, section: str, key: str, value: str) -> str:
    """Set a key in place of its line, else after the last line of its section, else in a new section."""
    lines = text.splitlines()
    current, last = "", -1
    for number, line in enumerate(lines):
        if match := _HEADER.match(line):
            current = match["name"]
        elif current == section and re.match(rf"{re.escape(key)}\s*[=:]", line, re.IGNORECASE):
            lines[number] = f"{key} = {value}"
            return "\n".join(lines) + "\n"
        if current == section and line.strip():
            last = number
    if last < 0:
        lines += [""] * bool(lines) + [f"[{section}]", f"{key} = {value}"]
    else:
        lines.insert(last + 1, f"{key} = {value}")
    return "\n".join(lines) + "\n"
