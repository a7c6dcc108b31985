"""Hands the file that a view has made to the web service, as a descriptor.

The file is in the temporary folder of this driver, with the rights and on the account of the person. It has
no name any more when the service gets it, so nothing has to be removed, and the service opens no path of a
person.
"""

from __future__ import annotations

import contextlib
import os
import socket
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ZIP_SUFFIX = ".zip"


def hand_over(reply_fd: int, made: dict[str, Any]) -> dict[str, Any]:
    """Send the file of a view; what is left to tell of it.

    Args:
        reply_fd: socket of the service.
        made: what the view told. `paths` are its files; several are sent as one archive, named `zip_name`. A
            file of the person's own, `own_path`, is sent as it is.
    """
    paths: Sequence[str] = made.pop("paths", ())
    own_path, zip_name = made.pop("own_path", None), made.pop("zip_name", None)
    if own_path is None and not paths:
        return made
    if own_path is None and (zip_name or len(paths) > 1):
        path = _zipped([Path(each) for each in paths], zip_name or "files.zip")
        made["is_zip"] = True
    else:
        path = Path(own_path or paths[0])
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        if own_path is None:
            path.unlink()
        with contextlib.closing(socket.socket(fileno=os.dup(reply_fd))) as reply:
            socket.send_fds(reply, [b"\0"], [file])
    finally:
        os.close(file)
    return made | {"file_name": path.name}


def _zipped(paths: Sequence[Path], name: str) -> Path:
    target = paths[0].parent / name
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, allowZip64=True) as archive:
        for path in paths:
            archive.write(path, path.name)
            path.unlink()
    return target
