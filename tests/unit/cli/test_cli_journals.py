"""The commands `journals ...` on files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from quakegrid import errors
from quakegrid.cli.__main__ import cli
from quakegrid.sdk.answers.answers import CallAnswers


@pytest.fixture(autouse=True)
def journals(tmp_path: Path) -> None:
    """Two of them."""
    for name, count in (("waves", 2), ("sums", 1)):
        answers = CallAnswers(tmp_path, name, 1 << 30)
        for number in range(count):
            answers.put(bytes([number]) * 16, [b"answer"])
        answers.close()


def call(tmp_path: Path, *args: str) -> Result:
    """Run a command."""
    return CliRunner().invoke(cli, ["--state-dir", str(tmp_path), "journals", *args])


def test_journals_are_listed_by_name(tmp_path: Path) -> None:
    """As a table, as names, and whole."""
    table = call(tmp_path, "list").output.splitlines()
    found = json.loads(call(tmp_path, "list", "--output", "json").output)

    assert table[0].split() == ["name", "answers", "size", "last", "in", "use"]
    assert [line.split()[:4] for line in table[2:]] == [["sums", "1", "58", "B"], ["waves", "2", "116", "B"]]
    assert call(tmp_path, "list", "--output", "quiet").output.split() == ["sums", "waves"]
    assert [(each["name"], each["answer_count"], each["is_used"]) for each in found] == [
        ("sums", 1, False),
        ("waves", 2, False),
    ]


def test_forgotten_journals_are_gone(tmp_path: Path) -> None:
    """All or none of those that are named."""
    refused = call(tmp_path, "forget", "waves", "others")
    assert isinstance(refused.exception, errors.NotFoundError)
    assert call(tmp_path, "list", "--output", "quiet").output.split() == ["sums", "waves"]

    assert call(tmp_path, "forget", "waves").exit_code == 0
    assert call(tmp_path, "list", "--output", "quiet").output.split() == ["sums"]
    assert call(tmp_path, "forget", "sums").exit_code == 0
    assert json.loads(call(tmp_path, "list", "--output", "json").output) == []


def test_nobody_has_journals_at_first(tmp_path: Path) -> None:
    """Which is no error."""
    assert call(tmp_path / "other", "list", "--output", "json").output == "[]\n"
