"""What people have sent gets into a folder of their account, and nowhere else."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from openquake.baselib import config

from quakegrid import errors
from quakegrid.engine.web import inputs

NAME = "0" * 24


@pytest.fixture
def sent(tmp_path: Path) -> Iterator[int]:
    """A descriptor of a folder that was sent."""
    folder = tmp_path / "sent"
    (folder / "below" / "it").mkdir(parents=True)
    (folder / "job.ini").write_text("[general]")
    (folder / "below" / "it" / "model.xml").write_bytes(bytes(5000))
    number = os.open(folder, os.O_RDONLY)
    yield number
    os.close(number)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home without a shared folder."""
    monkeypatch.setitem(config.directory, "shared_dir", "")
    monkeypatch.setattr(inputs, "results_folder", lambda: tmp_path / "home" / "oqdata")
    return tmp_path / "home"


def test_all_files_are_copied_and_closed_to_others(sent: int, home: Path) -> None:
    """With their folders; removing them leaves nothing."""
    taken = inputs.take(sent, NAME)

    assert taken == home / "oqdata" / "web-inputs" / NAME
    found = {str(path.relative_to(taken)): path.stat().st_mode & 0o777 for path in taken.rglob("*")}
    assert found == {"job.ini": 0o600, "below": 0o700, "below/it": 0o700, "below/it/model.xml": 0o600}
    assert (taken / "below" / "it" / "model.xml").read_bytes() == bytes(5000)
    assert taken.stat().st_mode & 0o777 == taken.parent.stat().st_mode & 0o777 == 0o700

    inputs.remove([NAME, "f" * 24])

    assert list(taken.parent.iterdir()) == []


def test_inputs_are_beside_results_on_a_shared_folder(
    sent: int, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that all nodes can read them."""
    monkeypatch.setitem(config.directory, "shared_dir", str(home))

    assert inputs.take(sent, NAME) == home / "web-inputs" / NAME


@pytest.mark.parametrize("name", ["", "..", "x" * 24, "0" * 23, "../" + "0" * 21, "0" * 24 + "\n"])
def test_names_that_the_service_does_not_give_are_refused(sent: int, name: str) -> None:
    """For taking and for removing."""
    with pytest.raises(errors.UsageError):
        inputs.take(sent, name)
    with pytest.raises(errors.UsageError):
        inputs.remove([name])


def test_folder_that_is_a_link_is_not_used(sent: int, home: Path, tmp_path: Path) -> None:
    """Nothing is written through it; one that is there already is not written into."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (home / "oqdata").mkdir(parents=True)
    (home / "oqdata" / "web-inputs").symlink_to(elsewhere)
    with pytest.raises(errors.UsageError, match="is not a folder of your own"):
        inputs.take(sent, NAME)
    (home / "oqdata" / "web-inputs").unlink()
    inputs.take(sent, NAME)

    with pytest.raises(errors.UsageError, match="is there already"):
        inputs.take(sent, NAME)

    assert list(elsewhere.iterdir()) == []


def test_folder_of_another_account_is_not_used(
    sent: int, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody may have made it before."""
    (home / "oqdata").mkdir(parents=True)
    monkeypatch.setattr(os, "geteuid", lambda: 54321)

    with pytest.raises(errors.UsageError, match="let an administrator remove it"):
        inputs.take(sent, NAME)

    assert inputs.is_foreign(sent)


@pytest.mark.parametrize("kind", ["link", "pipe"])
def test_what_is_no_plain_file_is_not_taken(sent: int, home: Path, tmp_path: Path, kind: str) -> None:
    """The service sends none. What was copied before goes."""
    odd = tmp_path / "sent" / "below" / "odd"
    if kind == "link":
        odd.symlink_to("/etc/passwd")
    else:
        os.mkfifo(odd)

    with pytest.raises((errors.UsageError, OSError)):
        inputs.take(sent, NAME)

    assert list((home / "oqdata" / "web-inputs").iterdir()) == []
