"""Where an installation may run programs from."""

from __future__ import annotations

from pathlib import Path

import pytest

from quakegrid import errors
from quakegrid.install import environments
from quakegrid.install.environments import Folder

VENV = Folder(Path("/opt/quakegrid/venv"), 0o40755, 0, 0)
TOP = Folder(Path("/"), 0o40755, 0, 0)


@pytest.mark.parametrize(
    "folder",
    [
        Folder(Path("/opt"), 0o40755, 0, 0),
        Folder(Path("/opt"), 0o40775, 0, 0),  # root's own group
        Folder(Path("/tmp"), 0o41777, 0, 0),
    ],
)
def test_folders_that_only_root_changes_are_fine(folder: Folder) -> None:
    """All may enter them."""
    environments.check([VENV, folder, TOP])


@pytest.mark.parametrize(
    ("folder", "words"),
    [
        (Folder(Path("/home/bob"), 0o40700, 1000, 1000), "cannot enter /home/bob"),
        (Folder(Path("/root"), 0o40700, 0, 0), "cannot enter /root"),
        (Folder(Path("/home/bob"), 0o40755, 1000, 1000), "others than root can change /home/bob"),
        (Folder(Path("/srv"), 0o40777, 0, 0), "others than root can change /srv"),
        (Folder(Path("/srv"), 0o40775, 0, 50), "others than root can change /srv"),
    ],
)
def test_folder_that_others_change_or_cannot_enter_is_refused(folder: Folder, words: str) -> None:
    """With the folder and a better place."""
    with pytest.raises(errors.UsageError, match=f"{words}.*make install-system"):
        environments.check([VENV, folder, TOP])


def test_all_folders_on_the_way_are_looked_at(tmp_path: Path) -> None:
    """Up to the top."""
    found = environments.look(tmp_path)

    assert [folder.path for folder in found] == [tmp_path.resolve(), *tmp_path.resolve().parents]
