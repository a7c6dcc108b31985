"""The machine that QuakeGrid is installed on: its files and users, and how a step changes them.

An installation notes what it makes in a file that only root can write; `removal` undoes what is noted. Below
another root than `/` owners of files are not changed, and no command is run.
"""

from __future__ import annotations

import dataclasses
import grp
import hashlib
import json
import pwd
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from quakegrid.errors import QuakeGridError
from quakegrid.install import plan
from quakegrid.install.plan import MakeFolder, MakeUser, RunCommand, Step, WriteFile
from quakegrid.settings import installation

NOTES = installation.NOTES
Say = Callable[[str], None]


@dataclass
class Notes:
    """What installations made here: files with their SHA-256, folders in their order, a user.

    `is_complete` says whether all steps were done, commands too.
    """

    files: dict[str, str] = field(default_factory=dict)
    folders: list[str] = field(default_factory=list)
    user: str = ""
    is_complete: bool = False


@dataclass(frozen=True, slots=True)
class Machine:
    """A machine, or a folder that stands for one.

    Args:
        root: what takes the place of `/`.
    """

    root: Path = Path("/")

    @property
    def is_real(self) -> bool:
        """Whether users and commands are this machine's."""
        return self.root == Path("/")

    def place(self, path: Path) -> Path:
        """Where an absolute path is."""
        return self.root / path.relative_to("/")

    def read_config(self, path: Path) -> str | None:
        """Text of a configuration; "" if there is none, None if we may not read it."""
        try:
            return self.place(path).read_text(encoding="utf-8")
        except FileNotFoundError:
            return ""
        except PermissionError:
            return None

    def owner_ids(self, folder: Path) -> tuple[int, int] | None:
        """Uid and gid of a folder that is not root's, such as one of a file server."""
        try:
            found = self.place(folder).stat()
        except OSError:
            return None
        return (found.st_uid, found.st_gid) if found.st_uid and self.is_real else None

    def pending(self, steps: Sequence[Step]) -> list[Step]:
        """The steps that would change something, and the commands if there are any or not all ended well."""
        # Files on a file server may belong to a group that is still to be made here.
        gids = {
            step.name: step.ids[1]
            for step in steps
            if isinstance(step, MakeUser) and step.ids and not _has_group(step.name)
        }
        changes = [
            step for step in steps if not isinstance(step, RunCommand) and self._would_change(step, gids)
        ]
        commands = [step for step in steps if isinstance(step, RunCommand)]
        return [*changes, *commands] if changes or not self.read_notes().is_complete else []

    def _would_change(self, step: MakeUser | MakeFolder | WriteFile, gids: dict[str, int]) -> bool:
        match step:
            case MakeUser(name=name):
                return self.is_real and not has_user(name)
            case MakeFolder(path=path):
                return not self.place(path).is_dir()
            case WriteFile():
                return not self._is_written(step, gids)

    def _is_written(self, step: WriteFile, gids: dict[str, int]) -> bool:
        try:
            found = self.place(step.path)
            status = found.stat()
            is_groups = status.st_gid == gids.get(step.group) or found.group() == step.group
            is_ours = not self.is_real or (found.owner() == step.owner and is_groups)
            is_same = found.read_bytes() == step.content.encode()
        except (OSError, KeyError):  # not there, not for us to read, or of a user without a name
            return False
        return is_ours and is_same and status.st_mode & 0o7777 == step.mode

    def apply(self, steps: Sequence[Step], say: Say) -> None:
        """Do the steps and note what they made.

        Raises:
            QuakeGridError: a command failed; what was done is noted.
        """
        notes = self.read_notes()
        notes.is_complete = False
        try:
            for step in steps:
                say(plan.in_words(step))
                self._do(step, notes)
            notes.is_complete = True
        finally:
            self._make_missing(NOTES.parent, notes)
            text = json.dumps(dataclasses.asdict(notes), indent=1)
            self._write(WriteFile(NOTES, text, 0o644, plan.ROOT_USER, plan.ROOT_USER))

    def _do(self, step: Step, notes: Notes) -> None:
        match step:
            case MakeUser(name, home, ids):
                gid, uid = (("--gid", str(ids[1])), ("--uid", str(ids[0]))) if ids else ((), ())
                if not _has_group(name):
                    self.run(("groupadd", "--system", *gid, name))
                place = ("--no-create-home", "--home-dir", str(home), "--shell", "/usr/sbin/nologin")
                self.run(("useradd", "--system", *uid, "--gid", name, *place, name))
                notes.user = name
            case MakeFolder(path, mode, owner):
                self._make_missing(path, notes)
                self._own(self.place(path), owner, owner)
                self.place(path).chmod(mode)  # after the owner: a change of the owner clears set-group-id
            case WriteFile():
                is_known = str(step.path) in notes.files
                if is_known or not self.place(step.path).exists():
                    notes.files[str(step.path)] = digest(step.content.encode())
                self._make_missing(step.path.parent, notes)
                self._write(step)
            case RunCommand(argv):
                self.run(argv)

    def _make_missing(self, folder: Path, notes: Notes) -> None:
        missing = [each for each in (folder, *folder.parents) if not self.place(each).exists()]
        for each in reversed(missing):
            self.place(each).mkdir(mode=0o755)
            notes.folders.append(str(each))

    def _write(self, step: WriteFile) -> None:
        """Replace a file whole; it is never there with another mode than its own."""
        path = self.place(step.path)
        temporary = path.with_name(f".{path.name}.new")
        temporary.unlink(missing_ok=True)
        temporary.touch(mode=0o600, exist_ok=False)
        temporary.write_text(step.content, encoding="utf-8")
        self._own(temporary, step.owner, step.group)
        temporary.chmod(step.mode)
        temporary.replace(path)

    def _own(self, path: Path, owner: str, group: str) -> None:
        if self.is_real:
            shutil.chown(path, owner, group)

    def run(self, argv: Sequence[str]) -> None:
        """Run a command; none below another root than `/`.

        Raises:
            QuakeGridError: there is no such program, or it failed.
        """
        if not self.is_real:
            return
        try:
            done = subprocess.run(argv, check=False, capture_output=True, text=True)
        except FileNotFoundError:
            raise QuakeGridError(
                f"there is no program {argv[0]} on this machine; install it, then again"
            ) from None
        if done.returncode:
            reason = " ".join((done.stderr or done.stdout).split()) or f"exit code {done.returncode}"
            raise QuakeGridError(f"`{' '.join(argv)}` failed: {reason}")

    def read_notes(self) -> Notes:
        """What was made here by earlier installations."""
        try:
            return Notes(**json.loads(self.place(NOTES).read_text(encoding="utf-8")))
        except FileNotFoundError:
            return Notes()
        except (ValueError, TypeError) as exc:
            raise QuakeGridError(f"{NOTES} is damaged ({exc}); remove by hand what it names") from exc


def digest(content: bytes) -> str:
    """The SHA-256 of a file's content, as it is noted."""
    return hashlib.sha256(content).hexdigest()


def has_user(name: str) -> bool:
    """Whether this machine has a user of that name."""
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True


def _has_group(name: str) -> bool:
    try:
        grp.getgrnam(name)
    except KeyError:
        return False
    return True
