"""How long the sentences of the manual are: `python -m tests.manual.prose`.

Code, tables, headings and comments are left out; an item of a list is a sentence or several.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from tests.manual.pages import ROOT, manual_pages

_FENCED = re.compile(r"^\s*```.*?^\s*```\s*$", re.MULTILINE | re.DOTALL)
_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
_LINK = re.compile(r"!?\[([^\]]*)\]\([^)]*\)")
_CODE = re.compile(r"`[^`]*`")
_ITEM = re.compile(r"^\s*(?:[-*]|\d+\.)\s+")
_END = re.compile(r"(?<=[.!?])[\"')*]*\s+(?=[A-Z`\d*(])")
_WORD = re.compile(r"[\w'-]*\w[\w'-]*")


def sentences(text: str) -> list[str]:
    """The sentences of a page, each on one line; a piece of code is one word."""
    text = _COMMENT.sub("", _FENCED.sub("", text))
    paragraphs: list[str] = [""]
    for line in text.splitlines():
        if not line.strip() or line.lstrip().startswith(("|", "#", "!!!", "???")):
            paragraphs.append("")
        elif _ITEM.match(line):
            paragraphs.append(_ITEM.sub("", line))
        else:
            paragraphs[-1] += f" {line.strip()}"
    whole = [_CODE.sub("Code", _LINK.sub(r"\1", paragraph)) for paragraph in paragraphs]
    parts = [part for paragraph in whole for part in _END.split(paragraph.strip())]
    return [part for part in parts if len(_WORD.findall(part)) > 1]


def word_counts(page: Path) -> list[int]:
    """How many words each sentence of a page has."""
    return [len(_WORD.findall(sentence)) for sentence in sentences(page.read_text(encoding="utf-8"))]


def mean(counts: list[int]) -> float:
    """The mean; 0 of nothing."""
    return sum(counts) / len(counts) if counts else 0.0


def main() -> None:
    """Print the mean of each page and of all, and with `-v` the longest sentences."""
    pages = [ROOT / "README.md", *manual_pages()]
    for page in sorted(pages, key=lambda page: -mean(word_counts(page))):
        counts = word_counts(page)
        print(f"{mean(counts):5.1f} words in each of {len(counts):4} sentences  {page.relative_to(ROOT)}")
        if "-v" in sys.argv:
            found = sentences(page.read_text(encoding="utf-8"))
            for sentence in found:
                if (count := len(_WORD.findall(sentence))) > 30:
                    print(f"      {count}: {sentence}")
    counts = [count for page in pages for count in word_counts(page)]
    print(f"{mean(counts):5.1f} words in each of {len(counts):4} sentences  in all")


if __name__ == "__main__":
    main()
