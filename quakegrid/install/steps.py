"""The steps of an installation: what is made on a machine, as values, and each in words."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from quakegrid.settings.config import CONFIG_NAME


@dataclass(frozen=True, slots=True)
class MakeGroup:
    """A system group; `gid` is the number that file servers know it by, None for any."""

    name: str
    gid: int | None = None


@dataclass(frozen=True, slots=True)
class MakeUser:
    """A system user with a group of its own name; `ids` are uid and gid that file servers know it by."""

    name: str
    home: Path
    ids: tuple[int, int | None] | None = None
    purpose: str = "runs the services"


@dataclass(frozen=True, slots=True)
class AddMember:
    """Somebody who comes into a group, and stays in all others."""

    name: str
    group: str


@dataclass(frozen=True, slots=True)
class MakeFolder:
    """A folder; one that exists, and that no installation has made, is left as it is."""

    path: Path
    mode: int
    owner: str
    group: str


@dataclass(frozen=True, slots=True)
class WriteFile:
    """A file with exactly this content."""

    path: Path
    content: str = field(repr=False)
    mode: int
    owner: str
    group: str


@dataclass(frozen=True, slots=True)
class RunCommand:
    """A command that does no harm when it is run again."""

    argv: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class GetCertificate:
    """What makes a machine a node without the authkey; not done again where one counts.

    Args:
        argv: the command, which finds the token in its environment.
        token: made on the master.
    """

    argv: tuple[str, ...]
    token: str = field(repr=False)


Step = MakeGroup | MakeUser | AddMember | MakeFolder | WriteFile | RunCommand | GetCertificate


def in_words(step: Step) -> str:
    """One line that says what a step does."""
    match step:
        case MakeGroup(name, gid):
            number = f" (gid {gid})" if gid else ""
            return f"make the group {name}{number}: its members may start calculations"
        case AddMember(name, group):
            return f"put {name} into the group {group}"
        case MakeUser(name, home, ids, purpose):
            known = [
                f"{what} {number}" for what, number in zip(("uid", "gid"), ids or (), strict=False) if number
            ]
            numbers = "".join(f", {each}" for each in known)
            return f"make the system user and group {name} (home {home}{numbers}): {purpose}"
        case MakeFolder(path, mode, owner, group):
            return f"make {path}/ ({mode:04o}, {owner}:{group})"
        case WriteFile(path=path, mode=mode, owner=owner, group=group):
            secret = ", holds the cluster's key" if path.name == CONFIG_NAME else ""
            return f"write {path} ({mode:04o}, {owner}:{group}{secret})"
        case GetCertificate():
            return "get a certificate of this node with the token, from the cluster that the token is of"
        case RunCommand(argv):
            return f"run `{' '.join(argv)}`"
