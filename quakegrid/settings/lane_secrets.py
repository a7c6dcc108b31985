"""The secret of a broker from which the keys of its lanes and the tokens of its sessions are made.

It is random and has nothing to do with the authkey: lanes and sessions go on when the authkey changes. The
broker and its lanes read it; drivers and workers are told what they need by the broker. It stays in the state
directory, so that the drivers of an earlier broker can go on with the next one.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from pathlib import Path

from quakegrid import errors

FILE_NAME = "lane_secret"
_BYTES = 32
_LARGEST_BYTES = 1024


def of_broker(state_dir: Path) -> str:
    """The secret of the broker with this state directory; the first one who asks makes it.

    Args:
        state_dir: of the broker.
    Raises:
        SettingsError: it cannot be read or made, or others can read it.
    """
    path = state_dir / FILE_NAME
    try:
        if not path.exists():
            _make(path)
        found = _read(path)
    except (OSError, UnicodeDecodeError) as exc:
        raise errors.SettingsError(
            f"the broker cannot use its secret for lanes: {exc}; {_remedy(path)}"
        ) from None
    if len(found) < _BYTES:
        raise errors.SettingsError(f"the broker's secret for lanes is damaged; {_remedy(path)}")
    return found


def _read(path: Path) -> str:
    """What is in the file.

    Raises:
        PermissionError: others than our user and group can read or change it. Volumes of containers give
            the group the same rights as the user.
    """
    with path.open("rb") as file:
        found = os.fstat(file.fileno())
        group = stat.S_IRWXG if found.st_gid != os.getegid() else 0
        if found.st_mode & (stat.S_IRWXO | group) or found.st_uid not in (os.geteuid(), 0):
            raise PermissionError(f"others can read or change {path}")
        return file.read(_LARGEST_BYTES).decode("ascii").strip()


def _make(path: Path) -> None:
    """Make the file whole, or leave the one that another process makes at the same time."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    file = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(file, "w", encoding="ascii") as stream:
            stream.write(secrets.token_urlsafe(_BYTES) + "\n")
            stream.flush()
            os.fsync(stream.fileno())
        with contextlib.suppress(FileExistsError):
            os.link(fresh, path)
    finally:
        fresh.unlink()


def _remedy(path: Path) -> str:
    return f"stop the broker, remove {path}, and start it again: it makes another one, and open sessions end"
