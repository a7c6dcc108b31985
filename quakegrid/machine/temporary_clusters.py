"""The configuration of a cluster that lives as long as one program: free ports, a fresh key, its own folder.

For programs that start a cluster of their own, and for tests. Starts nothing.
"""

from __future__ import annotations

import configparser
import secrets
import socket
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

from quakegrid.settings import authkeys, config

# Above the standard ports, below those that Linux gives to outgoing connections (from 32768).
FIRST_PORT = 20_000
LAST_PORT = 32_000
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
        first = FIRST_PORT + secrets.randbelow(LAST_PORT - FIRST_PORT - count)
        ports = range(first, first + count)
        if _are_free(ports):
            return ports
    raise OSError(f"no {count} free TCP ports in a row between {FIRST_PORT} and {LAST_PORT}")


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
                "authkey": authkeys.new_authkey(),
                "receiver_ports": f"{lane_ports[0]}-{lane_ports[-1]}",
            },
            "broker": {"port": broker_port},
            "web": {"port": 0},
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
