"""Every command of the manual does what its page says: `make test-docs`; one page is part of `make test`."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from tests.manual.pages import ROOT, blocks_of, manual_pages
from tests.manual.terminal import opened, run_page

QUICK = {"one-machine"}
PAGES = [
    page for page in (ROOT / "README.md", *manual_pages()) if any(block.is_run for block in blocks_of(page))
]


@pytest.mark.engine
@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, marks=[] if page.stem in QUICK else [pytest.mark.full], id=page.stem)
        for page in PAGES
    ],
)
def test_commands_print_what_the_page_shows(page: Path) -> None:
    """In a home and a cluster of their own; the blocks of a page one after the other."""
    # Short, as homes are: a socket's path has at most 107 characters.
    with tempfile.TemporaryDirectory(prefix="qg-") as home, opened(Path(home)) as terminal:
        wrong = [
            f"{page.relative_to(ROOT)}:{block.line}: $ {command}\n{what}"
            for block, command, what in run_page(page, terminal)
        ]

    assert not wrong, "\n\n".join(wrong)
