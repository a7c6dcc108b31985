"""The pages that `make reference` writes are what the code says now."""

from __future__ import annotations

import pytest

from tests.manual.pages import DOCS, GENERATED
from tests.manual.reference.pages import PAGES


@pytest.mark.parametrize("name", PAGES)
def test_page_is_what_the_code_says(name: str) -> None:
    """`make reference` was run after the last change of a command, setting, metric, error, route or call."""
    page = (DOCS / "reference" / f"{name}.md").read_text(encoding="utf-8")

    assert page == PAGES[name](), "run `make reference`"


def test_what_is_generated_is_left_out_of_checks_of_prose() -> None:
    """The pages that are made, and no others."""
    assert set(PAGES) == set(GENERATED)
