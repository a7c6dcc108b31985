"""The manual is whole: every page can be found, every link between pages leads somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from quakegrid.settings import reference
from tests.unit.house import where_things_are

ROOT = Path(__file__).parents[3]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
LINK = re.compile(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)")


def test_navigation_names_every_page_once() -> None:
    """Neither a page without a way to it, nor a way without a page."""
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").split("\nnav:", 1)[1]

    named = re.findall(r"[\w/.-]+\.md", navigation)

    assert sorted(named) == [str(page.relative_to(DOCS)) for page in PAGES]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(DOCS)))
def test_page_links_to_files_that_exist(page: Path) -> None:
    """Relative links lead to files of the manual."""
    links = LINK.findall(page.read_text(encoding="utf-8"))

    lost = [link for link in links if not (page.parent / link).is_file()]

    assert not lost


def test_contributing_shows_the_layers_that_tests_hold() -> None:
    """`make reference` was run after the last change of a layer, a folder or what it holds."""
    page = where_things_are.PAGE.read_text(encoding="utf-8")

    assert page == where_things_are.with_tables(page)


def test_every_setting_has_a_meaning_and_every_meaning_a_setting() -> None:
    """The table of meanings follows the reader's keys."""
    names = {(key.section, key.name) for key in reference.known_keys()}

    assert names == set(reference.MEANINGS)


def test_four_bare_machines_take_ten_commands() -> None:
    """The tutorial counts its commands, those of three nodes three times."""
    text = (DOCS / "tutorial" / "team-cluster.md").read_text(encoding="utf-8")

    counted = re.findall(r"^\$ (?:sudo|git|quakegrid) .*  # (\d+(?:, \d+)*)$", text, re.MULTILINE)

    assert sorted(int(number) for line in counted for number in line.split(", ")) == list(range(1, 11))
    assert len(re.findall(r"  # \d", text)) == len(counted)


def test_pages_install_from_this_repository() -> None:
    """Nothing is published: pip asks no index, and people clone from one variable that pages explain."""
    explained = "from this repository"
    for page in (ROOT / "README.md", *PAGES):
        text = " ".join(page.read_text(encoding="utf-8").split())
        cloned = set(re.findall(r"git clone (?:-\S+ )*(\S+)", text))

        assert cloned <= {'"$REPOSITORY"'}, page
        assert "decisions" in page.parts or not re.search(r"install (?:-\S+ )*['\"]?quakegrid\b", text), page
        if cloned:
            assert explained in text, page
            assert "`REPOSITORY` stands for the address from which you have it" in text, page


def test_readme_is_short_and_leads_somewhere() -> None:
    """At most a hundred lines; every link and picture is there."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")

    assert text.count("\n") <= 100
    assert [link for link in LINK.findall(text) if not (ROOT / link).exists()] == []


def test_every_picture_is_shown() -> None:
    """Each file of docs/pictures is on a page, so that nobody makes what nobody sees."""
    pages = "".join(page.read_text(encoding="utf-8") for page in (ROOT / "README.md", *PAGES))

    assert [path.name for path in (DOCS / "pictures").iterdir() if f"pictures/{path.name}" not in pages] == []
