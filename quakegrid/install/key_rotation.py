"""Changes the authkey in an `openquake.cfg`: the old one counts for some time, and services notice.

The file is replaced as a whole and keeps comments, mode and owner. Asks no service.
"""

from __future__ import annotations

import datetime
import fcntl
import os
import secrets
import stat
from pathlib import Path

from quakegrid import errors
from quakegrid.install import config_text

_SECTION = "dbserver"


def rotate(path: Path, authkey: str, new_authkey: str, until_time: datetime.datetime) -> None:
    """Put a new authkey into a file; the one that is there counts until a time.

    Args:
        path: the file that gives the authkey.
        authkey: what it says now, as the caller has read it.
        new_authkey: takes the place of the old one.
        until_time: aware.
    Raises:
        SettingsError: the file cannot be changed by this user, or somebody else changes it.
    """
    path = path.resolve()
    until = until_time.astimezone(datetime.UTC).isoformat(timespec="seconds")
    try:
        with path.open("rb") as before:
            fcntl.flock(before, fcntl.LOCK_EX)
            text = before.read().decode()
            is_same = os.path.samestat(os.fstat(before.fileno()), path.stat())
            if not is_same or config_text.read_value(text, _SECTION, "authkey") != authkey:
                raise errors.SettingsError(
                    f"somebody else changes {path} at this moment; look at it, and try again"
                )
            for key, value in (
                ("authkey", new_authkey),
                ("old_authkey", authkey),
                ("old_authkey_until", until),
            ):
                text = config_text.put(text, _SECTION, key, value)
            _replace(path, text.encode(), os.fstat(before.fileno()))
    except (OSError, UnicodeDecodeError) as exc:
        raise errors.SettingsError(
            f"the authkey in {path} cannot be changed: {exc}; do it as the user whose file it is, or as root"
        ) from exc


def _replace(path: Path, content: bytes, before: os.stat_result) -> None:
    """Put another file in the place of one, with its mode and owner."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    file = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(file, "wb") as stream:
            stream.write(content)
            if (before.st_uid, before.st_gid) != (os.geteuid(), os.getegid()):
                os.fchown(stream.fileno(), before.st_uid, before.st_gid)
            os.fchmod(stream.fileno(), stat.S_IMODE(before.st_mode))
            stream.flush()
            os.fsync(stream.fileno())
        fresh.replace(path)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
