"""The pages of the manual and their code blocks: commands with what they print, files, and data.

A block of the language `console` is a terminal: a line that begins with `$ ` is a command, a line that begins
with `> ` goes on with it, and the lines below are what it prints. A block with a title is a file of that
name. HTML comments right above a block say how it is run; `NOTES` lists them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
# Pages that `make reference` writes, and decisions, which are records of their time.
GENERATED = ("commands", "settings", "metrics", "errors", "http-routes", "protos")
NOTES = {
    "not run": "why this block is not run",
    "run first": "a command that prepares the page, and that readers do not see",
    "model": "one of the engine's own calculations, and the folder into which it is copied",
    "exit code": "with what the last command of the block ends, if not with 0",
}
_NOTE = re.compile(r"<!-- ([a-z ]+): (.+?) -->\s*$")
_FENCE = re.compile(r"^(\s*)```(\w*)(.*)$")
_TITLE = re.compile(r'title="([^"]+)"')
PROMPT, MORE = "$ ", "> "


@dataclass(frozen=True)
class Command:
    """A command of a terminal, and the lines below it."""

    text: str
    output: tuple[str, ...]
    line: int


@dataclass(frozen=True)
class Block:
    """A fenced block."""

    language: str
    title: str
    lines: tuple[str, ...]
    line: int  # of its first line, counted from 1
    notes: dict[str, str] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """What is in it."""
        return "".join(f"{line}\n" for line in self.lines)

    @property
    def is_run(self) -> bool:
        """Whether its commands are run."""
        return self.language == "console" and "not run" not in self.notes

    def commands(self) -> list[Command]:
        """The commands of a terminal."""
        found: list[Command] = []
        for number, line in enumerate(self.lines, self.line):
            if line.startswith(PROMPT):
                found.append(Command(line.removeprefix(PROMPT), (), number))
            elif line.startswith(MORE) and found and not found[-1].output:
                last = found[-1]
                found[-1] = Command(f"{last.text}\n{line.removeprefix(MORE)}", (), last.line)
            elif found:
                last = found[-1]
                found[-1] = Command(last.text, (*last.output, line), last.line)
        return found


def manual_pages() -> list[Path]:
    """All pages that people wrote, without the records of decisions."""
    return [path for path in all_pages() if not is_generated(path) and "decisions" not in path.parts]


def all_pages() -> list[Path]:
    """All pages."""
    return sorted(DOCS.rglob("*.md"))


def is_generated(page: Path) -> bool:
    """Whether `make reference` writes it."""
    return page.parent.name == "reference" and page.stem in GENERATED


def name_of(page: Path) -> str:
    """The page as its readers name it."""
    return str(page.relative_to(DOCS))


def blocks_of(page: Path) -> list[Block]:
    """The blocks of a page, in their order."""
    return list(read_blocks(page.read_text(encoding="utf-8")))


def read_blocks(text: str) -> Iterator[Block]:
    """The blocks of a page's text.

    Raises:
        ValueError: a block has no end.
    """
    notes: dict[str, str] = {}
    lines = iter(enumerate(text.splitlines(), 1))
    for number, line in lines:
        if found := _NOTE.match(line.strip()):
            notes[found[1]] = found[2]
        elif fence := _FENCE.match(line):
            indent, language, rest = fence.groups()
            inside = []
            for _, each in lines:
                if each.strip() == "```":
                    break
                inside.append(each.removeprefix(indent))
            else:
                raise ValueError(f"the block of line {number} has no end")
            title = _TITLE.search(rest)
            yield Block(language, title[1] if title else "", tuple(inside), number + 1, notes)
            notes = {}
        elif line.strip():
            notes = {}
