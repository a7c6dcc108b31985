"""Changelog and version of a release."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from deploy import release
from deploy.release import ReleaseError

LOG = """# Changelog

## Unreleased

The release of pages.

### Added: pages

- A page of events.

### Fixed

- A worker that was lost.

### Added and changed: people

- Credentials.

### Added

- A command.

### Added: pages

- A page of nodes.

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


def test_subject_with_several_sections_is_one_list() -> None:
    """Whoever reads of pages finds all of it at one place, below what the release is about."""
    text = release.released(LOG, "1.1.0", "2026-02-03")

    assert "#### Pages\n\n- A page of events.\n- A page of nodes.\n\n#### People" in text
    assert "## 1.1.0 - 2026-02-03\n\nThe release of pages.\n\n### Added\n\n- A command." in text


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


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small checkout with one commit; what is built is one file, with the time that it is given."""
    for name, value in (("GIT_CONFIG_GLOBAL", os.devnull), ("GIT_CONFIG_NOSYSTEM", "1")):
        monkeypatch.setenv(name, value)
    for role in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{role}_NAME", "Anna")
        monkeypatch.setenv(f"GIT_{role}_EMAIL", "anna@example.org")
    (tmp_path / "CHANGELOG.md").write_text(LOG, encoding="utf-8")
    (tmp_path / "__init__.py").write_text('__version__ = "1.0.0"\n', encoding="utf-8")
    (tmp_path / ".gitignore").write_text("dist/\n", encoding="utf-8")
    for name, path in (
        ("ROOT", ""),
        ("DIST", "dist"),
        ("CHANGELOG", "CHANGELOG.md"),
        ("PACKAGE", "__init__.py"),
    ):
        monkeypatch.setattr(release, name, tmp_path / path)

    def build(folder: Path, epoch_s: int) -> list[Path]:
        (folder / "quakegrid.whl").write_text(str(epoch_s), encoding="utf-8")
        return [folder / "quakegrid.whl"]

    monkeypatch.setattr(release, "build", build)
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "--message", "Begin")
    return tmp_path


def git(folder: Path, *args: str) -> str:
    """What git says."""
    return subprocess.run(
        ["git", *args], cwd=folder, check=True, capture_output=True, text=True
    ).stdout.strip()


def test_release_is_tagged_when_it_is_built(checkout: Path) -> None:
    """Its archives have the time of its commit, so that others can build them from the tag."""
    paths = release.release("1.1.0")

    assert git(checkout, "tag", "--list") == "v1.1.0"
    assert paths[0].read_text(encoding="utf-8") == git(checkout, "log", "-1", "--format=%ct", "v1.1.0")
    assert git(checkout, "status", "--porcelain") == ""
    with pytest.raises(ReleaseError, match=r"a tag v1\.1\.0 already"):
        release.release("1.1.0")


def test_tag_can_wait_until_the_commit_has_passed_ci(
    checkout: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command that is printed tags the commit of the release, and no later one."""
    assert release.main(["1.1.0", "--no-tag"]) == 0

    command = capsys.readouterr().out.splitlines()[-1]
    released = git(checkout, "rev-parse", "HEAD")
    assert git(checkout, "tag", "--list") == ""
    git(checkout, "commit", "--quiet", "--allow-empty", "--message", "Go on")
    git(checkout, *shlex.split(command)[1:])
    assert git(checkout, "rev-parse", "v1.1.0^{commit}") == released


def test_release_that_cannot_be_built_leaves_no_trace(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither commit nor tag nor version, so that it can be tried again."""

    def build(_folder: Path, _epoch_s: int) -> list[Path]:
        raise subprocess.CalledProcessError(2, "uv")

    monkeypatch.setattr(release, "build", build)

    with pytest.raises(ReleaseError, match="the build failed"):
        release.release("1.1.0")

    assert (git(checkout, "tag", "--list"), git(checkout, "status", "--porcelain")) == ("", "")
    assert git(checkout, "log", "--format=%s") == "Begin"


def test_words_of_git_are_told(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Such as those of a hook that refuses the commit."""
    hook = checkout / ".git" / "hooks" / "pre-commit"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\necho it is Friday >&2\nexit 1\n", encoding="utf-8")
    hook.chmod(0o755)

    assert release.main(["1.1.0"]) == 2

    assert "git commit failed: it is Friday" in capsys.readouterr().err
    assert (git(checkout, "tag", "--list"), git(checkout, "status", "--porcelain")) == ("", "")
