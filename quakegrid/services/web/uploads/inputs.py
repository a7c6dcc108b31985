"""The folders of inputs that people sent: where they are, how much a person has, and when they go.

A folder begins as one of nobody, and is a calculation's when that was accepted. It goes with its calculation,
or some days after that has ended; a folder that no calculation took goes after a day.

Where calculations run as people, a person's driver takes the files into a folder of the same name that
belongs to the person. This service has the record of it, and removes the folder with the person's rights.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from quakegrid.errors import QuakeGridError
from quakegrid.settings.config import Settings

FOLDER = "web-inputs"
RECORD_SUFFIX = ".json"
# Free space that stays for others.
LEFT_BYTES = 256 << 20
DAY_S = 24 * 3600.0
# In place of the number of a calculation that has not been accepted yet.
NO_JOB = 0
# More are not listed at once; each is a folder of one calculation.
MOST_FOLDERS = 100_000


@dataclass(frozen=True, slots=True)
class Kept:
    """Inputs of one calculation.

    Args:
        name: of the folder.
        owner: whose calculation it is.
        job_id: the calculation.
        size_bytes: of the files.
        is_with_owner: whether the owner has them in a folder of theirs.
    """

    name: str
    owner: str
    job_id: int
    size_bytes: int
    is_with_owner: bool = False


class Inputs:
    """All folders of inputs of one cluster. Methods block: call them in a thread.

    Args:
        settings: of the cluster; nodes see the folders if it has a shared one.
        user_name: whom the folders belong to, which is who runs this service.
    """

    def __init__(self, settings: Settings, user_name: str) -> None:
        shared = settings.shared_dir
        # What people send passes through the second, and records of what they have taken are there.
        self.passing = settings.state_dir / FOLDER
        self.root = Path(shared, user_name, FOLDER) if _may_write(shared, user_name) else self.passing
        self._quota_bytes = settings.web_quota_bytes

    def new_folder(self, *, is_passing: bool = False) -> Path:
        """An empty folder, private to this user.

        Args:
            is_passing: whether a person's driver will take the files from there.
        Raises:
            QuakeGridError: it cannot be made, or another user has made its parent.
        """
        root = self.passing if is_passing else self.root
        try:
            root.mkdir(mode=0o700, parents=True, exist_ok=True)
            found = root.lstat()
            if root.is_symlink() or found.st_uid != os.geteuid():
                raise QuakeGridError(f"{root} belongs to another user; remove it")
            folder = root / secrets.token_hex(12)
            folder.mkdir(mode=0o700)
        except OSError as exc:
            raise QuakeGridError(f"cannot make a folder in {root}: {exc.strerror}") from exc
        return folder

    def used_bytes(self, owner: str) -> int:
        """What a person's kept inputs take."""
        return sum(each.size_bytes for each in self.kept() if each.owner == owner)

    def why_no_room(self, folder: Path, owner: str, more_bytes: int) -> str:
        """Why a person may not keep so much more; empty if there is room.

        Args:
            folder: where it would be.
            owner: the person.
            more_bytes: beside what they keep.
        """
        if self.used_bytes(owner) + more_bytes > self._quota_bytes:
            return (
                f"the inputs of {owner} would take more than {self._quota_bytes >> 20} MB "
                "([web] inputs_quota); remove calculations that are not needed any more"
            )
        free = shutil.disk_usage(folder).free
        if free - more_bytes < LEFT_BYTES:
            return f"no space for {more_bytes >> 20} MB: {free >> 20} MB are free on the server"
        return ""

    def keep(self, folder: Path, owner: str, job_id: int) -> None:
        """Keep a folder for a calculation."""
        self._record(folder, Kept(folder.name, owner, job_id, size_of(folder)))

    def give(self, folder: Path, owner: str, job_id: int = NO_JOB) -> None:
        """Note that the owner has, or may soon have, the files of a folder in one of their own."""
        size_bytes = 0 if job_id == NO_JOB else size_of(folder)
        self._record(folder, Kept(folder.name, owner, job_id, size_bytes, is_with_owner=True))

    def is_kept_here(self, folder: Path) -> bool:
        """Whether a folder is a calculation's."""
        return any(kept.name == folder.name and not kept.is_with_owner for kept in self._read([folder]))

    def has_waited(self, kept: Kept) -> bool:
        """Whether inputs that no calculation took have waited long enough for one."""
        records = [path for path in self._paths(f"{kept.name}{RECORD_SUFFIX}") if path.is_file()]
        return kept.job_id == NO_JOB and all(time.time() - path.stat().st_mtime > DAY_S for path in records)

    def _record(self, folder: Path, kept: Kept) -> None:
        staged = folder.with_suffix(".new")
        staged.write_text(json.dumps(asdict(kept)))
        staged.replace(folder.with_suffix(RECORD_SUFFIX))

    def kept(self) -> Iterator[Kept]:
        """All that are kept; a record that cannot be read counts as none."""
        return self._read(self._paths(f"*{RECORD_SUFFIX}"))

    def remove(self, name: str) -> None:
        """Remove a folder and its record; the folder first, so that what is left is found again."""
        for root in {self.root, self.passing}:
            shutil.rmtree(root / name, ignore_errors=True)
            (root / name).with_suffix(RECORD_SUFFIX).unlink(missing_ok=True)

    def remove_strays(self) -> None:
        """Remove what no calculation took within a day."""
        named = {each.name for each in self.kept()}
        for path in self._paths("*"):
            try:
                is_old = time.time() - path.lstat().st_mtime > DAY_S
            except OSError:
                continue
            if is_old and path.stem not in named:
                shutil.rmtree(path, ignore_errors=True)
                if not path.is_dir():
                    path.unlink(missing_ok=True)

    def _read(self, paths: Iterable[Path]) -> Iterator[Kept]:
        """The records of folders; one that cannot be read counts as none."""
        for path in paths:
            try:
                kept = Kept(**json.loads(path.with_suffix(RECORD_SUFFIX).read_text()))
            except (OSError, ValueError, TypeError):
                continue
            if kept.name == path.stem:
                yield kept

    def _paths(self, pattern: str) -> list[Path]:
        found = (path for root in {self.root, self.passing} if root.is_dir() for path in root.glob(pattern))
        return [path for _, path in zip(range(MOST_FOLDERS), found, strict=False)]


def _may_write(shared: str, user_name: str) -> bool:
    """Whether this user may have a folder in a shared one, which may be for people only."""
    if not shared:
        return False
    own = Path(shared, user_name)
    if not own.exists():
        return os.access(shared, os.W_OK | os.X_OK)
    # One that another user has made: they could put files of their own in the place of what was checked.
    is_ours = own.stat().st_uid == os.geteuid() and own.lstat().st_uid in (0, os.geteuid())
    return is_ours and os.access(own, os.W_OK | os.X_OK)


def size_of(folder: Path) -> int:
    """Bytes of all files below a folder."""
    total = 0
    for path, _folders, files in os.walk(folder):
        total += sum(os.lstat(os.path.join(path, name)).st_size for name in files)  # noqa: PTH118 - many
    return total
