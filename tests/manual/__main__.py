"""Write into pages what their commands print now: `python -m tests.manual docs/how-to/PAGE.md ...`.

What still matches stays as it is. Read what was written: what differs from run to run becomes `...`.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from tests.manual.matching import matches
from tests.manual.pages import MORE, PROMPT, Block, blocks_of
from tests.manual.terminal import Terminal, opened, prepare


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
    while printed and not printed[-1].strip():
        printed = printed[:-1]
    return printed


def main(names: list[str]) -> None:
    """Write the pages."""
    for name in names:
        page = Path(name)
        with tempfile.TemporaryDirectory() as folder, opened(Path(folder)) as terminal:
            page.write_text(recorded(page, terminal), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
