"""Which names files may have that people send: such as stay inside of their folder. Pure."""

from __future__ import annotations

import re

from quakegrid.errors import UsageError

MOST_NAME_BYTES = 255  # what file systems take
MOST_PATH_BYTES = 1024
MOST_FOLDERS = 32
_DRIVE = re.compile(r"[A-Za-z]:")


def checked(name: str) -> str:
    """A name, possibly with folders, as a path that is relative to the folder of the upload.

    Args:
        name: as a browser or an archive gives it; Windows' separators are taken too.
    Raises:
        UsageError: it would lead out of the folder, or no file system takes it.
    """
    shown = ascii(name[:80])
    path = name.replace("\\", "/")
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if path.startswith("/") or _DRIVE.match(path):
        raise UsageError(f"{shown}: an absolute path; files in an upload have relative names")
    if ".." in parts:
        raise UsageError(f"{shown}: the name leads out of the upload (..)")
    if not parts or not path.isprintable():
        raise UsageError(f"{shown} is no name of a file")
    try:
        sizes = [len(part.encode()) for part in parts]
    except UnicodeEncodeError:
        raise UsageError(f"{shown}: the name is no text") from None
    if max(sizes) > MOST_NAME_BYTES or sum(sizes) > MOST_PATH_BYTES or len(parts) > MOST_FOLDERS:
        raise UsageError(f"{shown}…: the name is too long, or has too many folders")
    return "/".join(parts)
