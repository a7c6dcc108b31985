"""Job files that lie on this machine already, named by their path.

Drivers read them with the rights of the account that services run as. So only who looks after the cluster,
and has these rights anyway, may name a path; others send their files.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path

from quakegrid.errors import UsageError
from quakegrid.services.web.api import owners
from quakegrid.services.web.callers import Caller

MOST_PATH_CHARS = 4096
KINDS = (".ini", ".zip")


def job_file(caller: Caller, text: str, kinds: Collection[str] = KINDS) -> Path:
    """The path of a job file.

    Args:
        caller: who asks.
        text: as a client gives it.
        kinds: what its name may end in.
    Raises:
        NotAllowedError: the caller may name no path.
        UsageError: it is no whole path of a plain file that this user can read.
    """
    owners.check_care(caller, "name files of the server; send them instead")
    shown = ascii(text[:200])
    if "://" in text:
        raise UsageError(f"job_ini = {shown}: an address; download it, and give its path")
    if not text.startswith("/") or not text.isprintable() or len(text) > MOST_PATH_CHARS:
        raise UsageError(f"job_ini = {shown} is no whole path of a file on the server")
    try:
        path = Path(text).resolve(strict=True)
        is_readable = path.is_file() and os.access(path, os.R_OK)
    except (OSError, RuntimeError):
        is_readable = False
    if not is_readable:
        raise UsageError(f"job_ini = {shown}: there is no such file, or it cannot be read")
    if path.suffix not in kinds:
        raise UsageError(f"job_ini = {shown}: the name of a job file ends in {' or '.join(kinds)}")
    return path
