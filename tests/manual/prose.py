"""The sentences of the manual: how long they are, and what proselint says of them.

`python -m tests.manual.prose` prints the mean length of each page, with `-v` the longest sentences; `--check`
ends with code 1 if a mean is over its limit or proselint finds something. Code, tables, headings and comments
are left out; an item of a list is a sentence or several.
"""

from __future__ import annotations

import itertools
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.manual.pages import ROOT, manual_pages

# Words in a sentence, on average: of all pages, and of any page.
MOST_WORDS, MOST_WORDS_OF_A_PAGE = 18.0, 20.0
LONG_SENTENCE = 30  # words; `-v` shows such sentences
# The manual has straight quotes, and the verb "resume".
NOT_ASKED = ": typography."
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
    numbers = itertools.count(1)
    whole = [
        _CODE.sub(lambda _: f"Code{next(numbers)}", _LINK.sub(r"\1", paragraph)) for paragraph in paragraphs
    ]
    parts = [part for paragraph in whole for part in _END.split(paragraph.strip())]
    return [part for part in parts if len(_WORD.findall(part)) > 1]


def word_counts(page: Path) -> list[int]:
    """How many words each sentence of a page has."""
    return [len(_WORD.findall(sentence)) for sentence in sentences(page.read_text(encoding="utf-8"))]


def mean(counts: list[int]) -> float:
    """The mean; 0 of nothing."""
    return sum(counts) / len(counts) if counts else 0.0


def checked_pages() -> list[Path]:
    """The pages that people wrote, with the README."""
    return [ROOT / "README.md", *manual_pages()]


def troubles() -> list[str]:
    """What is wrong with the prose of the manual."""
    found = [
        f"{page.relative_to(ROOT)}: {mean(word_counts(page)):.1f} words in a sentence"
        for page in checked_pages()
        if mean(word_counts(page)) > MOST_WORDS_OF_A_PAGE
    ]
    if (whole := mean(all_counts())) > MOST_WORDS:
        found.append(f"the manual: {whole:.1f} words in a sentence")
    return found + linted()


def linted() -> list[str]:
    """What proselint finds in the sentences alone."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for page in checked_pages():
            target = folder / page.relative_to(ROOT)
            target.parent.mkdir(parents=True, exist_ok=True)
            found = sentences(page.read_text(encoding="utf-8"))
            # A number between two sentences, so that no end of one repeats the beginning of the next.
            text = "".join(f"{sentence}\n\nSentence{number}\n\n" for number, sentence in enumerate(found))
            target.write_text(text, encoding="utf-8")
        program = Path(sys.executable).with_name("proselint")
        done = subprocess.run([program, "check", folder], capture_output=True, text=True, check=False)
        lines = (done.stdout + done.stderr).splitlines()
        return [line.removeprefix(f"{folder}/") for line in lines if line and NOT_ASKED not in line]


def all_counts() -> list[int]:
    """How many words the sentences of all pages have."""
    return [count for page in checked_pages() for count in word_counts(page)]


def show() -> None:
    """Print the mean of each page and of all, and with `-v` the longest sentences."""
    for page in sorted(checked_pages(), key=lambda page: -mean(word_counts(page))):
        counts = word_counts(page)
        print(f"{mean(counts):5.1f} words in each of {len(counts):4} sentences  {page.relative_to(ROOT)}")
        for sentence in sentences(page.read_text(encoding="utf-8")) if "-v" in sys.argv else ():
            if len(_WORD.findall(sentence)) > LONG_SENTENCE:
                print(f"      {sentence}")
    counts = all_counts()
    print(f"{mean(counts):5.1f} words in each of {len(counts):4} sentences  in all")


if __name__ == "__main__":
    if "--check" not in sys.argv:
        show()
    elif found := troubles():
        sys.exit("\n".join(found))
