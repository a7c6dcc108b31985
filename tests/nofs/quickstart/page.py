"""The commands of the tutorial, by the machine on which they are typed."""

from __future__ import annotations

import re
from pathlib import Path

from tests.support.namespace_cluster import REPOSITORY

PAGE = REPOSITORY / "docs" / "tutorial" / "four-machines.md"
PROMPT = "$ "
ON_MASTER, ON_NODE, RUN = "On the master", "On each node", "Run a calculation"
_BLOCK = re.compile(r"^```console\n(.*?)^```", re.DOTALL | re.MULTILINE)


def commands(page: Path = PAGE) -> dict[str, list[str]]:
    """What a person types, by the headings of the page, each line with a prompt."""
    sections = re.split(r"^## (.*)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    return {
        heading: [
            line.removeprefix(PROMPT)
            for block in _BLOCK.findall(text)
            for line in block.splitlines()
            if line.startswith(PROMPT)
        ]
        for heading, text in zip(sections[::2], sections[1::2], strict=True)
    }
