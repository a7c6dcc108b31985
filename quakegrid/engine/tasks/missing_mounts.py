"""Tells from a task's error that its node has not a file which is none of the job's, and so was not served.

Looks at this node's files; imports nothing of the engine.
"""

from __future__ import annotations

import os
import re
import socket

# How h5py, the engine's datastore and Python's own errors name a file.
FILE_NAMES = re.compile(r"'(/[^']+)'|(?:: | in )(/.+)$")


def describe(exc: OSError, shared_dir: str) -> str:
    """Which file this node does not see, and what to mount; empty if the error is about something else.

    Args:
        exc: what a task raised.
        shared_dir: as the driver's settings have it; empty for none.
    """
    path = _unseen_file(exc)
    if not path:
        return ""
    if not shared_dir:
        remedy = "it must lie in a folder that all nodes mount, which [directory] shared_dir names"
    elif not path.startswith(f"{shared_dir.rstrip('/')}/"):
        remedy = f"it must lie in shared_dir {shared_dir}, which all nodes mount"
    else:
        remedy = (
            f"shared_dir {shared_dir} must be mounted there (`quakegrid doctor` names nodes where it is not)"
        )
    return (
        f"node {socket.gethostname()} does not see {path}, and the driver serves no such file of the job: "
        f"{remedy}"
    )


def _unseen_file(exc: OSError) -> str:
    """The file that an error names, if there is none here."""
    found = [exc.filename] if isinstance(exc.filename, str) else []
    found += [quoted or last for quoted, last in FILE_NAMES.findall(str(exc))]
    return next((path for path in found if path.startswith("/") and not os.path.lexists(path)), "")
