"""Undoes what installations have noted on a machine.

Files go unless they were changed since, folders when they are empty, users and groups when no folder is left.
"""

from __future__ import annotations

from pathlib import Path

from quakegrid.install import accounts, plan
from quakegrid.install import machine as machines
from quakegrid.install.machine import NOTES, Machine, Notes, Say


def in_words(machine: Machine) -> tuple[list[str], list[str]]:
    """What `remove` would do, and which files it would leave, with the reason."""
    notes = machine.read_notes()
    units = _units(notes)
    removed = [f"stop and disable {', '.join(units)}"] * bool(units)
    kept = []
    for path in map(Path, notes.files):
        if _is_unchanged(machine, path, notes):
            removed.append(f"remove {path}")
        elif machine.place(path).exists():
            kept.append(f"{path}, which was changed since")
    removed += [f"remove {folder}/ if it is empty" for folder in reversed(notes.folders)]
    for user in filter(None, (notes.user, *notes.other_users)):
        removed.append(f"remove the user {user} if nothing of it is left")
    removed += [f"remove the group {group} if nobody else was put into it" for group in notes.groups]
    return removed, kept


def remove(machine: Machine, say: Say) -> None:
    """Undo what was noted; returns what had to stay, in words."""
    notes = machine.read_notes()
    _remove_services(machine, notes)
    left = [folder for folder in reversed(notes.folders) if not _remove_empty(machine.place(Path(folder)))]
    for folder in left:
        say(f"kept {folder}/, which is not empty")
    for user in filter(None, (notes.user, *notes.other_users)):
        if left:
            say(f"kept the user {user}, whose files these are")
        elif accounts.has_user(user):
            machine.run(("userdel", user))
    for group in notes.groups:
        if left or {*accounts.members(group)} - {*notes.members}:
            say(f"kept the group {group}")
        elif accounts.has_group(group):
            machine.run(("groupdel", group))


def _remove_services(machine: Machine, notes: Notes) -> None:
    """Stop the services, then remove the noted files and make systemd and the NFS server forget them."""
    units = _units(notes)
    if units:
        machine.run(("systemctl", "disable", "--now", *units))
    for path in map(Path, notes.files):
        if _is_unchanged(machine, path, notes):
            machine.place(path).unlink()
    machine.place(NOTES).unlink(missing_ok=True)
    if units:
        machine.run(("systemctl", "daemon-reload"))
    if str(plan.EXPORTS) in notes.files:
        machine.run(("exportfs", "-ra"))


def _units(notes: Notes) -> list[str]:
    return [path.name for path in map(Path, notes.files) if path.parent == plan.UNIT_FOLDER]


def _is_unchanged(machine: Machine, path: Path, notes: Notes) -> bool:
    try:
        return machines.digest(machine.place(path).read_bytes()) == notes.files[str(path)]
    except FileNotFoundError:
        return False


def _remove_empty(place: Path) -> bool:
    """Remove a folder; returns whether it is gone."""
    try:
        place.rmdir()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True
