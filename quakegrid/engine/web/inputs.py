"""Takes inputs that the web service was sent into a folder of the account that this driver runs as.

The service gives a descriptor of the folder that it has received and checked; nothing changes there any
more. A driver of the service's own account reads the files where they are. All names here are the service's,
and all rights the person's: what somebody puts in the way leads to nothing that they could not reach
themselves.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import stat
from collections.abc import Sequence
from pathlib import Path

from openquake.baselib import config

from quakegrid import errors

FOLDER = "web-inputs"
_NAME = re.compile(r"[0-9a-f]{24}")
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_OLD_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
# Bytes that one system call copies.
BLOCK_BYTES = 16 << 20


def is_foreign(folder_fd: int) -> bool:
    """Whether what was sent belongs to another account, so that it has to be copied."""
    return os.fstat(folder_fd).st_uid != os.geteuid()


def results_folder() -> Path:
    """Where the engine writes the results of this person."""
    from openquake.commonlib import logs  # noqa: PLC0415 - imports all models of ground motion

    return Path(logs.get_datadir())


def parent_folder() -> Path:
    """Where the folders of this person's inputs are, beside their results."""
    results = results_folder()
    return (results.parent if config.directory.shared_dir else results) / FOLDER


def take(folder_fd: int, name: str) -> Path:
    """Copy what was sent into a new folder of this person; its path.

    Args:
        folder_fd: of the folder that was sent.
        name: of the new folder, as the service has chosen it.
    Raises:
        UsageError: there is a folder of that name, or one above it is another account's.
        OSError: there is no room for it; what was copied is gone then.
    """
    target = place_of(name)
    results = results_folder()
    results.mkdir(parents=True, exist_ok=True)
    for path in (results.parent if config.directory.shared_dir else results, target.parent):
        with contextlib.suppress(FileExistsError):
            path.mkdir(mode=0o700)
        found = path.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
            raise errors.UsageError(f"{path} is not a folder of your own; let an administrator remove it")
    try:
        target.mkdir(mode=0o700)
    except FileExistsError:
        raise errors.UsageError(f"{target} is there already") from None
    try:
        copy(folder_fd, target)
    except BaseException:
        shutil.rmtree(target, ignore_errors=True)
        raise
    return target


def copy(folder_fd: int, target: Path) -> None:
    """Copy all plain files below a folder into another one, in which nobody else works.

    Raises:
        UsageError: one is no plain file.
        OSError: one cannot be written.
    """
    for path, folders, files, here_fd in os.fwalk(".", dir_fd=folder_fd):
        inside = target / path
        for name in folders:
            (inside / name).mkdir(mode=0o700)
        for name in files:
            _copy_file(name, here_fd, inside / name)


def remove(names: Sequence[str]) -> None:
    """Remove folders of inputs, as far as there are any.

    Raises:
        OSError: a part cannot be removed.
    """
    for name in names:
        target = place_of(name)
        if target.is_dir() and not target.is_symlink():
            shutil.rmtree(target)


def place_of(name: str) -> Path:
    """Where a folder of inputs is.

    Raises:
        UsageError: none can have this name.
    """
    if not _NAME.fullmatch(name):
        raise errors.UsageError(f"{name[:80]!a} is no name of a folder of inputs")
    return parent_folder() / name


def _copy_file(name: str, folder_fd: int, target: Path) -> None:
    source = os.open(name, _OLD_FILE, dir_fd=folder_fd)
    try:
        if not stat.S_ISREG(os.fstat(source).st_mode):
            raise errors.UsageError(f"{name} is no plain file")
        written = os.open(target, _NEW_FILE, 0o600)
        try:
            while os.sendfile(written, source, None, BLOCK_BYTES):
                pass
        finally:
            os.close(written)
    finally:
        os.close(source)
