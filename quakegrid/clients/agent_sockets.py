"""Connects to the unix socket of this machine's agent, if it is the agent's.

A command line hands over its environment, its terminal and the right to work in its name. So it looks first
who has made the folders of the socket, and the kernel tells who listens. Imports nothing heavy.
"""

from __future__ import annotations

import grp
import os
import socket
import stat
import struct
from pathlib import Path

from quakegrid import errors
from quakegrid.settings import installation
from quakegrid.settings.agent_accounts import account_name
from quakegrid.settings.config import Settings, agent_socket

# Accounts below are the system's: nobody logs in as one of them.
FIRST_PERSON_ID = 1000
_CREDENTIALS = struct.Struct("3i")  # of SO_PEERCRED: pid, uid, gid


def connect(settings: Settings) -> socket.socket:
    """A connection to the agent.

    Raises:
        PeerUnreachableError: there is no agent.
        StateError: this user may not connect, or the socket may be another user's trap.
    """
    path = agent_socket(settings.state_dir)
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        owner = _owner(settings.state_dir)
        connection.connect(str(path))
        _check_listener(connection, path, owner)
    except PermissionError:
        connection.close()
        raise errors.StateError(_not_allowed(path)) from None
    except OSError as exc:
        connection.close()
        raise errors.PeerUnreachableError(
            f"no agent answers at {path} ({exc.strerror}); "
            f"{installation.start_words(settings.dbserver_host)} starts one"
        ) from exc
    except errors.StateError:
        connection.close()
        raise
    return connection


def is_there(state_dir: Path) -> bool:
    """Whether the state directory has an agent's socket, or a folder for it that is closed to this user."""
    try:
        return agent_socket(state_dir).exists()
    except PermissionError:
        return True


def _owner(state_dir: Path) -> int:
    """The account whose agent this is: it has the state directory, and nobody else may change it.

    Raises:
        StateError: another user may have made it.
    """
    run_dir = agent_socket(state_dir).parent
    found = [folder.stat() for folder in (state_dir, run_dir)]
    owner = found[0].st_uid
    for folder, facts in zip((state_dir, run_dir), found, strict=True):
        is_open = facts.st_mode & stat.S_IWOTH and not facts.st_mode & stat.S_ISVTX
        if is_open or facts.st_uid not in (owner, 0) or not _is_trusted(owner):
            raise errors.StateError(
                f"{folder} belongs to {_name(facts.st_uid)}{' and anybody may change it' * bool(is_open)}; "
                "this may be a trap, so nothing was sent. Name the cluster's own state directory with "
                "--state-dir or QUAKEGRID_STATE_DIR"
            )
    return owner


def _check_listener(connection: socket.socket, path: Path, owner: int) -> None:
    """Check who listens: the socket may have been put there later, or given to another process."""
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    uid = _CREDENTIALS.unpack(credentials)[1]
    if uid not in (owner, 0):
        raise errors.StateError(
            f"{_name(uid)} listens at {path}, which belongs to {_name(owner)}; this may be a trap, so "
            "nothing was sent"
        )


def _is_trusted(uid: int) -> bool:
    """Whether an account may run this person's calculations."""
    own = os.geteuid()
    if own in (0, uid) or uid < FIRST_PERSON_ID:
        return True
    found = installation.find()
    return found is not None and bool(found.user) and _name(uid) == found.user


def _not_allowed(path: Path) -> str:
    user = _name(os.geteuid())
    words = f"user {user} may not start calculations on this machine"
    try:
        group = grp.getgrgid(path.parent.stat().st_gid).gr_name
    except (OSError, KeyError):
        return f"{words}: {path} is closed to {user}"
    return (
        f"{words}: that is for members of the group {group}; as root: `usermod --append --groups {group} "
        f"{user}`, then log in again"
    )


def _name(uid: int) -> str:
    return account_name(uid) or f"uid {uid}"
