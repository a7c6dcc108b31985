"""The machine that QuakeGrid is installed on: its files and users, and how a step changes them.

An installation notes what it makes in a file that only root can write; `removal` undoes what is noted. Below
another root than `/` owners of files are not changed, and no command is run.
"""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import json
import os
import shutil
import stat
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from quakegrid.errors import QuakeGridError
from quakegrid.install import accounts, plan
from quakegrid.install.plan import NO_IDS, SharedIds
from quakegrid.install.steps import (
    AddMember,
    GetCertificate,
    MakeFolder,
    MakeGroup,
    MakeUser,
    RunCommand,
    Step,
    WriteFile,
    in_words,
)
from quakegrid.settings import installation, node_files

NOTES = installation.NOTES
Say = Callable[[str], None]
# The numbers of a user and its group; None where the account is there, or may have any number.
_Ids = tuple[int | None, int | None]


@dataclass
class Notes:
    """What installations made here: files with their SHA-256, folders in their order, users, groups, members.

    `user` is that of the services. `is_complete` says whether all steps were done, commands too.
    """

    files: dict[str, str] = field(default_factory=dict)
    folders: list[str] = field(default_factory=list)
    user: str = ""
    is_complete: bool = False
    other_users: list[str] = field(default_factory=list)
    groups: list[str] = field(default_factory=list)
    members: list[str] = field(default_factory=list)


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

    def has_certificate(self) -> bool:
        """Whether this machine became a node with a token, and its certificate counts."""
        return _counts(self.place(node_files.path_of(plan.STATE_DIR)))

    def pending(self, steps: Sequence[Step]) -> list[Step]:
        """The steps that would change something, and the commands if there are any or not all ended well."""
        # Files on a file server may belong to a user and a group that are still to be made here.
        coming = {
            step.name: (
                None if accounts.has_user(step.name) else step.ids[0],
                None if accounts.has_group(step.name) else step.ids[1],
            )
            for step in steps
            if isinstance(step, MakeUser) and step.ids
        }
        changes = [
            step for step in steps if not isinstance(step, RunCommand) and self._would_change(step, coming)
        ]
        commands = [step for step in steps if isinstance(step, RunCommand)]
        return [*changes, *commands] if changes or not self.read_notes().is_complete else []

    def _would_change(
        self,
        step: MakeGroup | MakeUser | AddMember | MakeFolder | WriteFile | GetCertificate,
        coming: Mapping[str, _Ids],
    ) -> bool:
        match step:
            case GetCertificate():
                return self.is_real and not self.has_certificate()
            case MakeGroup(name=name):
                return self.is_real and not accounts.has_group(name)
            case MakeUser(name=name):
                return self.is_real and not accounts.has_user(name)
            case AddMember(name, group):
                return self.is_real and name not in accounts.members(group)
            case MakeFolder():
                return not self._is_made(step)
            case WriteFile():
                return not self._is_written(step, coming)

    def _is_made(self, step: MakeFolder) -> bool:
        """Whether a folder is there, and as it should be if an installation has made it."""
        place = self.place(step.path)
        if not place.is_dir() or str(step.path) not in self.read_notes().folders:
            return place.is_dir()
        try:
            is_groups = not self.is_real or place.group() == step.group
        except KeyError:  # a group without a name
            is_groups = False
        return is_groups and place.stat().st_mode & 0o7777 == step.mode

    def _is_written(self, step: WriteFile, coming: Mapping[str, _Ids]) -> bool:
        uid, gid = coming.get(step.owner, (None, None))
        try:
            found = self.place(step.path)
            status = found.stat()
            is_owners = status.st_uid == uid or found.owner() == step.owner
            is_groups = not step.mode & stat.S_IRWXG or status.st_gid == gid or found.group() == step.group
            is_ours = not self.is_real or (is_owners and is_groups)
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
                say(in_words(step))
                self._do(step, notes)
            notes.is_complete = True
        finally:
            self._make_missing(NOTES.parent, notes)
            text = json.dumps(dataclasses.asdict(notes), indent=1)
            self._write(WriteFile(NOTES, text, 0o644, plan.ROOT_USER, plan.ROOT_USER))

    def _do(self, step: Step, notes: Notes) -> None:
        match step:
            case MakeGroup(name, number):
                self.run(("groupadd", "--system", *(("--gid", str(number)) if number else ()), name))
                notes.groups.append(name)
            case MakeUser():
                self._make_user(step, notes)
            case AddMember(name, group):
                self.run(("gpasswd", "--add", name, group))  # also for people of a directory service
                notes.members.append(name)
            case MakeFolder(path, mode, owner, group):
                self._make_missing(path, notes)
                self._own(self.place(path), owner, group)
                self.place(path).chmod(mode)  # after the owner: a change of the owner clears set-group-id
            case WriteFile():
                is_known = str(step.path) in notes.files
                if is_known or not self.place(step.path).exists():
                    notes.files[str(step.path)] = digest(step.content.encode())
                self._make_missing(step.path.parent, notes)
                self._write(step)
            case RunCommand() | GetCertificate():
                self.run(step.argv, _environ_of(step))

    def _make_user(self, step: MakeUser, notes: Notes) -> None:
        name, (uid, gid) = step.name, step.ids or (None, None)
        if not accounts.has_group(name):
            self.run(("groupadd", "--system", *(("--gid", str(gid)) if gid else ()), name))
        number = ("--uid", str(uid)) if uid else ()
        place = ("--no-create-home", "--home-dir", str(step.home), "--shell", "/usr/sbin/nologin")
        self.run(("useradd", "--system", *number, "--gid", name, *place, name))
        if step.home == plan.STATE_DIR:
            notes.user = name
        else:
            notes.other_users.append(name)

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

    def run(self, argv: Sequence[str], environ: Mapping[str, str] | None = None) -> None:
        """Run a command; none below another root than `/`.

        Args:
            argv: the command.
            environ: its environment; None for that of this process.
        Raises:
            QuakeGridError: there is no such program, or it failed.
        """
        if not self.is_real:
            return
        try:
            done = subprocess.run(argv, check=False, capture_output=True, text=True, env=environ)
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


def _counts(path: Path) -> bool:
    """Whether a node's certificate has not ended. One that this user cannot read counts.

    Whether it was revoked only the dbserver knows.
    """
    if not path.exists() or not os.access(path, os.R_OK):
        return path.exists()
    try:
        # Root may read it, though it is the agent's.
        node_files.decode(path.read_bytes(), path).check(datetime.datetime.now(datetime.UTC))
    except (QuakeGridError, OSError):
        return False
    return True


def _environ_of(step: RunCommand | GetCertificate) -> dict[str, str] | None:
    """The environment of a step; None for that of this process."""
    return certificate_environ(os.environ, step.token) if isinstance(step, GetCertificate) else None


def certificate_environ(environ: Mapping[str, str], token: str) -> dict[str, str]:
    """The environment of what gets a certificate as the agent's user: not with root's folders and settings.

    Args:
        environ: of this process.
        token: other users do not see it there.
    """
    own = {
        name: value
        for name, value in environ.items()
        if name != "HOME" and not name.startswith(("XDG_", "OQ_", "QUAKEGRID_"))
    }
    return own | {"HOME": str(plan.STATE_DIR), "QUAKEGRID_TOKEN": token}


def digest(content: bytes) -> str:
    """The SHA-256 of a file's content, as it is noted."""
    return hashlib.sha256(content).hexdigest()


def owner_ids(machine: Machine, folder: Path) -> SharedIds:
    """The numbers of the owners of a folder that is not root's, such as one of a file server.

    Its group is that of people where members cannot remove each other's files, as installations make it;
    else that of the services, as older ones did.
    """
    try:
        found = machine.place(folder).stat()
    except OSError:
        return NO_IDS
    if not found.st_uid or not machine.is_real:
        return NO_IDS
    is_for_people = bool(found.st_mode & stat.S_ISVTX)
    return SharedIds(
        found.st_uid,
        None if is_for_people else found.st_gid,
        found.st_gid if is_for_people else None,
    )
