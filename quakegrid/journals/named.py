"""Journals of calls, which have names: folders of files, as many as programs used a name at the same time.

A program reads all files of a name, and continues one that no other program has. So two programs do not wait
for each other, nothing is merged, and the next program sees what both have written.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from quakegrid import errors
from quakegrid.journals import files, records
from quakegrid.journals.files import JournalFile
from quakegrid.journals.records import RecordKind

NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")
NAME_WORDS = "letters, digits and _ - . of ASCII, at most 64, the first one no - or ."


@dataclass(frozen=True, slots=True)
class NamedJournal:
    """What is known of a journal of calls.

    Args:
        name: by which programs ask for it.
        answer_count: results in it.
        byte_count: of its files.
        last_time: when it last got a result.
        is_used: whether a program has it.
    """

    name: str
    answer_count: int
    byte_count: int
    last_time: datetime.datetime
    is_used: bool


def folder_of(state_dir: Path, name: str) -> Path:
    """The folder of a journal of this process's user; made if it does not exist, as is the state directory.

    Raises:
        OSError: it cannot be made, or is not only ours.
    """
    assert NAME.fullmatch(name), name
    state_dir.mkdir(parents=True, exist_ok=True)
    folder = files.own_folder(state_dir) / files.CALLS / name
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


def paths(folder: Path) -> list[Path]:
    """The files of a journal, in the order in which they were made."""
    found = [path for path in folder.glob(f"*{files.SUFFIX}") if path.stem.isdecimal()]
    return sorted(found, key=lambda path: int(path.stem))


def opened(folder: Path) -> JournalFile:
    """The first file of a journal that nobody has, or a new one; locked.

    Raises:
        OSError: it cannot be opened.
    """
    while True:
        folder.mkdir(mode=0o700, exist_ok=True)  # another program may have forgotten it
        found = paths(folder)
        for path in found:
            with contextlib.suppress(errors.StateError, errors.NotFoundError):
                return JournalFile(path)
        number = int(found[-1].stem) + 1 if found else 1
        with contextlib.suppress(FileExistsError):  # another program has made it just now
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            os.close(os.open(files.path_of(folder, number), flags, 0o600))


def forget(folder: Path) -> None:
    """Remove the files of a journal; what programs that run now add to them is lost as well."""
    for path in paths(folder):
        path.unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # a program has made another file just now
        folder.rmdir()


def all_of(state_dir: Path) -> Iterator[NamedJournal]:
    """The journals of this process's user, by name.

    Raises:
        OSError: they cannot be read.
    """
    if not (state_dir / files.FOLDER).exists():
        return
    folder = files.own_folder(state_dir) / files.CALLS
    for each in sorted(folder.iterdir()) if folder.exists() else ():
        if found := paths(each):
            yield _seen(each.name, found)


def _seen(name: str, found: list[Path]) -> NamedJournal:
    answers: set[bytes] = set()
    byte_count, last_s, is_used = 0, 0.0, False
    for path in found:
        with contextlib.suppress(FileNotFoundError):
            data = files.content_of(path)
            placed = [each.record for each in records.read(data)]
            answers.update(record.digest for record in placed if record.kind is RecordKind.OUTCOME)
            byte_count += data.nbytes
            last_s = max(last_s, path.stat().st_mtime)
            is_used |= _is_used(path)
    last_time = datetime.datetime.fromtimestamp(last_s, datetime.UTC)
    return NamedJournal(name, len(answers), byte_count, last_time, is_used)


def _is_used(path: Path) -> bool:
    try:
        JournalFile(path).close()
    except errors.StateError:
        return True
    return False
