"""Write into pages what their commands print now: `python -m tests.manual docs/how-to/PAGE.md ...`.

What still matches stays as it is. Read what was written: what differs from run to run becomes `...`.
"""

from __future__ import annotations

import re
import sys
import tempfile
from pathlib import Path

from tests.manual.matching import ANY, matches, without_edges
from tests.manual.pages import MORE, PROMPT, Block, blocks_of
from tests.manual.terminal import Terminal, opened, prepare

_PASSING = re.compile(
    r"(?:WARNING|INFO) |[\w ]+: \d+ of \d+ tasks done|the engine is being loaded|loading the engine"
)

_ADDRESS = re.compile(r"http://127\.0\.0\.1:\d+")
SHOWN_ADDRESS = "http://127.0.0.1:8800"


def recorded(page: Path, terminal: Terminal) -> str:
    """The text of a page with what its commands print now."""
    lines = page.read_text(encoding="utf-8").splitlines()
    replaced: list[tuple[Block, list[str]]] = []
    for block in blocks_of(page):
        prepare(block, terminal)
        if block.is_run:
            replaced.append((block, _printed(block, terminal)))
    for block, new in reversed(replaced):
        begin = block.line - 1
        indent = lines[begin - 1][: len(lines[begin - 1]) - len(lines[begin - 1].lstrip())]
        lines[begin : begin + len(block.lines)] = [f"{indent}{line}".rstrip() for line in new]
    return "".join(f"{line}\n" for line in lines)


def _printed(block: Block, terminal: Terminal) -> list[str]:
    new = []
    for command in block.commands():
        printed, code = terminal.run(command.text)
        print(f"[{code}] {command.text}", file=sys.stderr)
        first, *more = command.text.split("\n")
        new += [f"{PROMPT}{first}", *(f"{MORE}{line}" for line in more)]
        new += command.output if matches(command.output, printed) else _trimmed(printed)
    return new


def _trimmed(printed: list[str]) -> list[str]:
    """The lines without what differs most from run to run: warnings of the engine, and how far it is."""
    kept: list[str] = []
    for line in without_edges(printed):
        text = ANY if _PASSING.match(line) else _ADDRESS.sub(SHOWN_ADDRESS, line)
        if text != ANY or kept[-1:] != [ANY]:
            kept.append(text)
    return kept


def main(names: list[str]) -> None:
    """Write the pages."""
    for name in names:
        page = Path(name)
        with tempfile.TemporaryDirectory() as folder, opened(Path(folder)) as terminal:
            page.write_text(recorded(page, terminal), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
