"""The embedded cluster's own folder: its configuration file, data folder and lock.

Makes the files that `quakegrid up` needs before services start. Starts nothing itself.
"""

from __future__ import annotations

import configparser
import fcntl
import getpass
import io
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from quakegrid import errors
from quakegrid.machine import temporary_clusters
from quakegrid.settings.config import CONFIG_NAME, agent_socket

# Linux keeps a unix socket's path in 108 bytes, the closing zero included.
MAX_SOCKET_PATH_BYTES = 107

_TEMPLATE = """\
# Made by `quakegrid up`. ~/openquake.cfg and $OQ_CONFIG_FILE win over this file, key by key.
[dbserver]
host = 127.0.0.1
authkey = {authkey}
file = {state_dir}/db.sqlite3

[directory]
shared_dir = {state_dir}/shared

[zworkers]
host_cores = 127.0.0.1 {cores}

[distribution]
oq_distribute = zmq
"""

# Of a cluster beside another one, of somebody else on this machine.
_PORTS = """
[dbserver]
port = {dbserver}
receiver_ports = {first_lane}-{last_lane}
[broker]
port = {broker}
[zworkers]
ctrl_port = {agent}
[web]
port = {web}
"""
_LANES = 9
_TRY_ENGINE = "try_engine = yes"


def prepare_state(
    state_dir: Path, new_authkey: Callable[[], str], cores: int | None = None, *, tries_engine: bool = False
) -> Path:
    """Make the state folder, the user's data folder and the configuration, as far as they are missing.

    Args:
        state_dir: absolute; gets mode 0700 when it is made.
        new_authkey: makes the secret of a new configuration.
        cores: how many cores of this machine the cluster may use, -1 for all; None: as before.
        tries_engine: whether a version of the engine that QuakeGrid does not know is tried from now on.
    Returns:
        The path of the configuration file, of mode 0600.
    Raises:
        UsageError: the path is too long for a unix socket.
    """
    socket_path = os.fsencode(agent_socket(state_dir))
    if len(socket_path) > MAX_SOCKET_PATH_BYTES:
        raise errors.UsageError(
            f"the state directory {state_dir} has too long a path for a unix socket; choose a shorter one "
            "with --state-dir"
        )
    for folder in (
        state_dir,
        data_dir(state_dir).parent.parent,
        data_dir(state_dir).parent,
        data_dir(state_dir),
    ):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = state_dir / CONFIG_NAME
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        if cores is not None:
            _set_cores(path, cores)
    else:
        text = _TEMPLATE.format(authkey=new_authkey(), state_dir=state_dir, cores=cores or -1)
        _write(path, descriptor, text)
    if tries_engine:
        _try_engine(path)
    return path


def give_ports(path: Path) -> range:
    """Write free ports into a configuration that was just made, in place of the usual ones.

    Args:
        path: of the configuration.
    Returns:
        The ports.
    Raises:
        OSError: there are not enough free ones.
    """
    ports = temporary_clusters.free_port_range(4 + _LANES)
    dbserver, broker, agent, web, *lanes = ports
    wanted = configparser.ConfigParser(interpolation=None)
    wanted.read_string(path.read_text(encoding="utf-8"))
    text = _PORTS.format(
        dbserver=dbserver, broker=broker, agent=agent, web=web, first_lane=lanes[0], last_lane=lanes[-1]
    )
    wanted.read_string(text)
    made = io.StringIO()
    made.write(_TEMPLATE.partition("\n")[0] + "\n")
    wanted.write(made)
    _rewrite(path, made.getvalue())
    return ports


def data_dir(state_dir: Path) -> Path:
    """Where the engine puts this user's datastores."""
    return state_dir / "shared" / getpass.getuser() / "oqdata"


def _set_cores(path: Path, cores: int) -> None:
    text = path.read_text(encoding="utf-8")
    changed, count = re.subn(r"(?m)^host_cores\s*=.*$", f"host_cores = 127.0.0.1 {cores}", text)
    if not count:
        raise errors.UsageError(
            f"{path} has no [zworkers] host_cores; put `host_cores = 127.0.0.1 {cores}` there"
        )
    if changed != text:
        _rewrite(path, changed)


def _try_engine(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    changed, count = re.subn(r"(?m)^try_engine\s*=.*$", _TRY_ENGINE, text)
    if not count:
        changed, count = re.subn(r"(?m)^\[agent\]\s*$", f"[agent]\n{_TRY_ENGINE}", text, count=1)
    if not count:
        changed = f"{text.rstrip()}\n\n[agent]\n{_TRY_ENGINE}\n"
    if changed != text:
        _rewrite(path, changed)


def _rewrite(path: Path, text: str) -> None:
    temporary = path.with_suffix(".tmp")
    temporary.unlink(missing_ok=True)
    _write(temporary, os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), text)
    temporary.replace(path)


def _write(path: Path, descriptor: int, text: str) -> None:
    """Write a file as a whole or not at all, so that no half configuration is ever read."""
    try:
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
    except OSError:
        path.unlink(missing_ok=True)
        raise


@contextmanager
def locked(state_dir: Path, on_wait: Callable[[], None]) -> Iterator[None]:
    """Hold the folder's lock, so that starts and stops never run side by side.

    Args:
        state_dir: the embedded cluster's folder; made with mode 0700 if missing.
        on_wait: called once if another process holds the lock.
    """
    state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (state_dir / "up.lock").open("w", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            on_wait()
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
