"""What tests of QuakeGrid, and of programs built on it, need to start a cluster of their own.

Free ports away from the standard ones, an `openquake.cfg` that puts everything of a cluster under one
directory, an environment that no user's settings reach, and calculations that come with the engine.
Starts nothing, imports nothing of a service and not the engine. `fake_broker.py` and `fake_lane.py` stand in
for what a driver talks to.
"""

from __future__ import annotations

import configparser
import importlib.util
import os
import secrets
import shutil
import socket
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

from quakegrid import errors
from quakegrid.settings import config
from quakegrid.transport import credentials

# Above the standard ports, below those that Linux gives to outgoing connections (from 32768).
FIRST_TEST_PORT = 20_000
LAST_TEST_PORT = 32_000
PORT_ATTEMPTS = 200

Sections = Mapping[str, Mapping[str, str | int]]


def free_port_range(count: int) -> range:
    """Contiguous TCP ports that nobody listens on, at a random place, so that test runs side by side differ.

    Args:
        count: how many ports, >= 1.
    Raises:
        OSError: no such range was found.
    """
    for _ in range(PORT_ATTEMPTS):
        first = FIRST_TEST_PORT + secrets.randbelow(LAST_TEST_PORT - FIRST_TEST_PORT - count)
        ports = range(first, first + count)
        if _are_free(ports):
            return ports
    raise OSError(f"no {count} free TCP ports in a row between {FIRST_TEST_PORT} and {LAST_TEST_PORT}")


def free_ports(count: int) -> list[int]:
    """Different TCP ports that nobody listens on.

    Args:
        count: how many ports, >= 1.
    Raises:
        OSError: there are not enough.
    """
    return list(free_port_range(count))


def _are_free(ports: range) -> bool:
    with ExitStack() as stack:
        try:
            for port in ports:
                stack.enter_context(socket.socket()).bind(("", port))
        except OSError:
            return False
    return True


def write_cluster_config(state_dir: Path, extra: Sections | None = None, *, lane_count: int = 3) -> Path:
    """Write `<state_dir>/openquake.cfg`, mode 0600, of a cluster on loopback that disturbs no other.

    Ports are free ones, the authkey is fresh, and database and data lie below `state_dir`, so that
    `quakegrid --state-dir <state_dir> up` starts it and removing the directory removes all of it.

    Args:
        state_dir: made if it is missing.
        extra: section to key to value, written over these settings.
        lane_count: how many ports the lanes may use, >= 1.
    Returns:
        The file's path.
    """
    shared_dir = state_dir / "shared"
    shared_dir.mkdir(parents=True, exist_ok=True)
    ports = free_port_range(3 + lane_count)
    dbserver_port, broker_port, agent_port, *lane_ports = ports
    parser = configparser.ConfigParser(interpolation=None)
    parser.read_dict(
        {
            "dbserver": {
                "host": config.LOOPBACK,
                "port": dbserver_port,
                "file": state_dir / "db.sqlite3",
                "authkey": credentials.new_authkey(),
                "receiver_ports": f"{lane_ports[0]}-{lane_ports[-1]}",
            },
            "broker": {"port": broker_port},
            "zworkers": {"ctrl_port": agent_port, "host_cores": f"{config.LOOPBACK} -1"},
            "directory": {"shared_dir": shared_dir},
            "distribution": {"oq_distribute": "zmq"},
        }
    )
    parser.read_dict(extra or {})
    path = state_dir / config.CONFIG_NAME
    path.touch(mode=0o600)
    with path.open("w", encoding="utf-8") as stream:
        parser.write(stream)
    return path


def isolated_environ(home: Path, environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The environment for a program that shall see no settings and no calculations of the user.

    The user's caches stay in use: recompiling the engine's numerical kernels takes more than a minute.
    Python may write its bytecode, as it would for a user, and the engine does not ask its web site for
    newer versions.

    Args:
        home: an existing directory, the new HOME.
        environ: what to start from.
    """
    foreign = ("OQ_", "QUAKEGRID_", "XDG_STATE_HOME", "PYTHONDONTWRITEBYTECODE")
    kept = {key: value for key, value in environ.items() if not key.startswith(foreign)}
    cache_dir = environ.get("XDG_CACHE_HOME") or str(Path("~/.cache").expanduser())
    return kept | {"HOME": str(home), "XDG_CACHE_HOME": cache_dir, "CI": "1"}


def copy_engine_case(folder: str, directory: Path) -> Path:
    """Copy one of the engine's own quality tests, so that running it writes nothing among installed files.

    Args:
        folder: its place below `openquake/qa_tests_data`, such as "classical/case_01".
        directory: the copy; must not exist.
    Returns:
        `directory`.
    Raises:
        EngineMissingError: openquake.engine is not installed.
    """
    spec = importlib.util.find_spec("openquake")
    for root in spec.submodule_search_locations or () if spec else ():
        source = Path(root, "qa_tests_data", folder)
        if source.is_dir():
            shutil.copytree(source, directory)
            return directory
    raise errors.EngineMissingError(f"openquake.engine is not installed, or lacks qa_tests_data/{folder}")


def end_worker(signal_number: int) -> int:
    """A task that ends the worker that runs it, by a signal; for trying what the cluster does then."""
    os.kill(os.getpid(), signal_number)
    return signal_number


def fail_task(message: str) -> str:
    """A task that raises `ValueError(message)`."""
    raise ValueError(message)
