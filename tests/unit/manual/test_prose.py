"""The sentences of the manual are short; `make check` asks proselint as well."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.manual import prose
from tests.manual.prose import MOST_WORDS, MOST_WORDS_OF_A_PAGE, checked_pages, mean, sentences, word_counts

TEXT = """# A heading is none

A first sentence, with `code in it` and [a link](page.md). A second one
goes over two lines!

| a | table |
|---|---|

<!-- not run: a comment -->
```console
$ code is none
```

- An item is one.
- Another. With two.
"""


def test_sentences_are_found_in_prose_only() -> None:
    """Without headings, tables, comments and code; a piece of code counts as a word."""
    found = sentences(TEXT)

    assert found == [
        "A first sentence, with Code1 and a link.",
        "A second one goes over two lines!",
        "An item is one.",
        "With two.",
    ]


def test_sentences_of_the_manual_are_short() -> None:
    """On average, and on each page."""
    long = {page.stem for page in checked_pages() if mean(word_counts(page)) > MOST_WORDS_OF_A_PAGE}

    assert mean(prose.all_counts()) <= MOST_WORDS
    assert long == set()


def test_linter_finds_what_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So it is not silent because it could not read the pages."""
    page = tmp_path / "page.md"
    page.write_text("It stays there for ever.\n", encoding="utf-8")
    monkeypatch.setattr(prose, "ROOT", tmp_path)
    monkeypatch.setattr(prose, "checked_pages", lambda: [page])

    found = prose.linted()

    assert len(found) == 1
    assert found[0].startswith("page.md:")
    assert "archaic" in found[0]
