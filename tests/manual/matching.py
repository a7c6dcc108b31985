"""Whether what a command printed is what a page shows, whatever the day, the machine and the numbers.

Numbers, ids and times of both sides become `0`; runs of blanks and of dashes become one. In what the page
shows, `...` stands for any text of a line, and a line of nothing but `...` for any number of lines.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

ANY = "..."
_REPLACED = (
    (re.compile(r"\b(?=[a-f]*\d)[0-9a-f]{6,}\b"), "0"),  # ids and hashes
    (re.compile(r"(?:(?<=\s)-)?\d+(?:[.,:]\d+)*"), "0"),
    (re.compile(r"-{2,}"), "-"),
    (re.compile(r"[━╸╺─]+"), "-"),
    (re.compile(r"\s+"), " "),
)


def plain(line: str) -> str:
    """A line without what differs from run to run."""
    for pattern, text in _REPLACED:
        line = pattern.sub(text, line)
    return line.strip()


def matches(shown: Sequence[str], printed: Sequence[str]) -> bool:
    """Whether the lines that were printed are those that are shown."""
    wanted = [plain(line) for line in without_edges(shown)]
    found = [plain(line) for line in without_edges(printed)]
    pattern = "".join(_pattern(line) for line in wanted)
    return re.fullmatch(pattern, "".join(f"{line}\n" for line in found)) is not None


def without_edges(lines: Sequence[str]) -> list[str]:
    """The lines without empty ones before and behind them."""
    kept = list(lines)
    while kept and not kept[0].strip():
        kept.pop(0)
    while kept and not kept[-1].strip():
        kept.pop()
    return kept


def _pattern(line: str) -> str:
    if line == ANY:
        return r"(?:.*\n)*?"
    return r"[^\n]*".join(re.escape(part) for part in line.split(ANY)) + r"\n"
