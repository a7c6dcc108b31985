"""Changelog and version of a release."""

from __future__ import annotations

import re

import pytest

from deploy import release
from deploy.release import ReleaseError

LOG = """# Changelog

## Unreleased

### Added: pages

- A page of events.

### Fixed

- A worker that was lost.

### Added and changed: people

- Credentials.

### Added

- A command.

## 1.0.0 - 2026-01-01

### Added

- All.
"""


def test_entries_are_arranged_by_kind() -> None:
    """Those without a subject first; older releases stay as they are, and a new section awaits what comes."""
    text = release.released(LOG, "1.1.0", "2026-02-03")

    assert re.findall(r"^##.*", text, re.MULTILINE) == [
        "## Unreleased",
        "## 1.1.0 - 2026-02-03",
        "### Added",
        "#### Pages",
        "#### People",
        "### Fixed",
        "## 1.0.0 - 2026-01-01",
        "### Added",
    ]
    assert text.index("- A command.") < text.index("#### Pages")
    assert [line for line in LOG.splitlines() if line.startswith("- ") and line not in text] == []
    assert "\n\n\n" not in text


def test_real_changelog_can_be_released() -> None:
    """Each of its sections is of a kind that there is."""
    text = release.CHANGELOG.read_text(encoding="utf-8")
    unreleased = text.partition(release.UNRELEASED)[2].partition("\n## ")[0]

    if unreleased.strip():
        assert "### Added" in release.released(text, "99.0.0", "2026-02-03")


@pytest.mark.parametrize(
    ("log", "words"),
    [
        ("# Changelog\n", "no section Unreleased"),
        ("## Unreleased\n\nSome words.\n", "no sections under Unreleased"),
        (
            "## Unreleased\n\n### Improved\n\n- Much.\n",
            "'Improved'; there are Added, Changed, Fixed, Removed",
        ),
    ],
)
def test_changelog_without_what_a_release_needs_is_refused(log: str, words: str) -> None:
    """In words that say what to mend."""
    with pytest.raises(ReleaseError, match=words):
        release.released(log, "1.1.0", "2026-02-03")


def test_version_rises() -> None:
    """By number, not by letter."""
    source = 'first = 1\n__version__ = "1.9.0"\nlast = 2\n'

    assert release.with_version(source, "1.10.0") == 'first = 1\n__version__ = "1.10.0"\nlast = 2\n'
    for low in ("1.9.0", "1.8.9", "0.99.0"):
        with pytest.raises(ReleaseError, match=r"not higher than 1\.9\.0"):
            release.with_version(source, low)
    for odd in ("1.10", "v2.0.0", "2.0.0rc1"):
        with pytest.raises(ReleaseError, match="is no version"):
            release.with_version(source, odd)
