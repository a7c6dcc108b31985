"""What a node shares with its driver is proven, never guessed."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from quakegrid.files import proofs
from quakegrid.files.proofs import NonceFiles, Proofs


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """This process is on another machine than the driver of the proofs that it reads later."""
    monkeypatch.setattr(proofs, "machine_id", lambda: "another machine")


def written(*folders: Path) -> tuple[NonceFiles, Proofs]:
    """Proofs of a driver on a machine called m."""
    files = NonceFiles()
    return files, replace(files.write(map(str, folders)), machine="m")


def test_same_machine_shares_everything() -> None:
    """One boot, one mount namespace."""
    assert NonceFiles().write([]).shared_folders() == ("/",)


def test_folder_is_shared_where_its_nonce_is_read(tmp_path: Path) -> None:
    """Each folder by itself; when the session has ended nothing is left."""
    first, second = tmp_path / "a", tmp_path / "b"
    first.mkdir()
    second.mkdir()
    files, told = written(first, second, first, tmp_path / "missing")
    assert len(told.nonces) == 2

    assert told.shared_folders() == (str(first), str(second))
    (next(second.iterdir())).unlink()
    assert told.shared_folders() == (str(first),)
    files.close()
    assert told.shared_folders() == ()
    assert list(first.iterdir()) == []


def test_copy_of_a_folder_proves_nothing(tmp_path: Path) -> None:
    """A copy that was made before the session has files of the same names, and no nonce or an earlier one."""
    folder = tmp_path / "oqdata"
    folder.mkdir()
    (folder / "calc_7.hdf5").write_bytes(b"stale")
    _, told = written(folder)
    (nonce,) = told.nonces
    path = folder / nonce.name
    path.write_text("0" * len(nonce.text))

    assert told.shared_folders() == ()
    path.unlink()
    path.symlink_to("/etc/hostname")
    assert told.shared_folders() == ()
    path.unlink()
    path.mkdir()
    assert told.shared_folders() == ()


def test_name_that_is_none_of_a_nonce_is_not_opened(tmp_path: Path) -> None:
    """A worker does not open what somebody else says."""
    _, told = written(tmp_path)
    (nonce,) = told.nonces
    (tmp_path / "x").write_text(nonce.text)

    assert replace(told, nonces=(replace(nonce, name="x"),)).shared_folders() == ()


def test_nonces_of_drivers_that_were_killed_are_removed_in_time(tmp_path: Path) -> None:
    """Those of today may be in use."""
    written(tmp_path)
    old = next(tmp_path.iterdir())
    os.utime(old, (0, 0))
    _, told = written(tmp_path)

    assert [path.name for path in tmp_path.iterdir()] == [told.nonces[0].name]
