"""Opens the agent's socket to the members of a group.

The mode of the file is the check, not a list of groups that the agent would look up. The kernel compares it
with the groups that the connecting process really has, those of directory services and of `newgrp` included.
SO_PEERCRED tells the primary group only.
"""

from __future__ import annotations

import logging
import os
import stat
from pathlib import Path

from quakegrid.services.agent.linux.user_rights import UserRights

log = logging.getLogger("quakegrid.agent")
# Members may enter the folder, and not list it.
FOLDER_MODE = 0o710
SOCKET_MODE = 0o660


def open_to_group(path: Path, gid: int, rights: UserRights) -> bool:
    """Let the members of a group connect to a socket of ours, in a folder of ours.

    Args:
        path: of the socket; its folder is in the state directory.
        gid: number of the group.
        rights: of this process over other users and groups.
    Returns:
        Whether they can now.
    """
    folder, state_dir = path.parent, path.parent.parent
    try:
        with rights.in_group(gid):
            os.chown(folder, -1, gid)
            os.chown(path, -1, gid)
        folder.chmod(FOLDER_MODE)
        mode = stat.S_IMODE(state_dir.stat().st_mode)
        if not mode & stat.S_IXOTH:  # everybody may pass, nobody else may list; each file has its own mode
            state_dir.chmod(mode | stat.S_IXOTH)
        path.chmod(SOCKET_MODE)
    except OSError as exc:
        log.warning("socket_not_shared path=%s gid=%d reason=%s", path, gid, exc)
        return False
    return True
