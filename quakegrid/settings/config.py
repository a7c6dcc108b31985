"""Settings of a cluster, read from `openquake.cfg`.

Reads the files that upstream reads, in upstream's order, with its keys and defaults, and checks every value
that QuakeGrid itself uses. Never imports the engine and never executes anything from a file
(upstream passes a key named `code` to `exec`; here it is an unknown key like any other).
"""

from __future__ import annotations

import configparser
import math
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from quakegrid.errors import SettingsError
from quakegrid.settings import authkeys, installation
from quakegrid.settings import names as config_names
from quakegrid.settings.agent_limits import AgentLimits, read_agent_limits
from quakegrid.settings.hosts import is_loopback

T = TypeVar("T")

# Set for the services of a program's own cluster, so that they do not read the settings of its user.
ONLY_CONFIG = "QUAKEGRID_ONLY_CONFIG"
CONFIG_NAME = "openquake.cfg"
MIN_AUTHKEY_LENGTH = authkeys.MIN_LENGTH
WEAK_AUTHKEYS = authkeys.NONE
LOOPBACK = "127.0.0.1"
# In `[agent] preload`: the engine's calculators and commands.
ENGINE = "openquake"
RUN_FOLDER = "run"
# In the environment of all processes that an agent starts: its state directory, to find those that are left.
AGENT_MARK = "QUAKEGRID_AGENT"
MAX_RETENTION_DAYS = 36_500
# The smallest limit of the database: its tables need some room even without logs.
MIN_RETENTION_MB = 10
MAX_RETENTION_MB = 1 << 32


@dataclass(frozen=True, slots=True)
class HostCores:
    """One node of the cluster and how many of its cores the cluster may use (-1: all)."""

    host: str
    cores: int


@dataclass(frozen=True, slots=True)
class Settings:
    """What every QuakeGrid process needs to know, frozen at its start.

    Ports are TCP. `authkey` is empty when no file gives a usable one. `paths` are the files that were
    found, in the order in which they were read (the last one wins key by key).
    """

    state_dir: Path
    paths: tuple[Path, ...]
    authkey: str = field(repr=False)
    dbserver_host: str
    dbserver_port: int
    dbserver_listen: str
    database: Path
    broker_host: str
    broker_port: int
    broker_listen: str
    broker_metrics_port: int
    lane_ports: tuple[int, ...]
    agent_port: int
    agent_listen: str
    agent_host_cores: tuple[HostCores, ...]
    agent_memory_bytes: int
    agent_limits: AgentLimits
    # Modules that templates import before they fork; ENGINE stands for all that calculations need.
    preload: tuple[str, ...]
    serialize_jobs: int
    max_attempts: int
    # Bytes of payloads that a lane keeps in memory; the rest waits in `custom_tmp`.
    lane_memory_bytes: int
    node_timeout_s: float
    # How long a task may run before its worker is killed; 0 for ever: only its author knows how long.
    task_timeout_s: float
    shared_dir: str
    custom_tmp: str
    # Logs of jobs that ended so many days ago are dropped, and the oldest ones while the database is
    # larger. The default 0 keeps them for ever: no log is dropped unless a setting asks for it.
    log_retention_days: int
    log_retention_bytes: int
    # The file that gives the authkey; None without one.
    authkey_path: Path | None = None
    # Warnings about values that are probably not as they were meant, one sentence each.
    warnings: tuple[str, ...] = ()

    @property
    def run_dir(self) -> Path:
        """Where services write their service files and the agent its unix socket."""
        return self.state_dir / RUN_FOLDER

    @property
    def log_dir(self) -> Path:
        """Where the services' own logs go."""
        return self.state_dir / "logs"

    @property
    def dbserver_address(self) -> str:
        """`host:port` of the dbserver."""
        return f"{self.dbserver_host}:{self.dbserver_port}"

    @property
    def broker_address(self) -> str:
        """`host:port` of the broker's gRPC port."""
        return f"{self.broker_host}:{self.broker_port}"

    @property
    def is_embedded(self) -> bool:
        """Whether the whole cluster is this machine, on loopback."""
        return is_loopback(self.dbserver_host)


def agent_socket(state_dir: Path) -> Path:
    """Where the agent of a state directory listens for the command lines of its machine."""
    return state_dir / RUN_FOLDER / "agent.sock"


def default_state_dir(environ: Mapping[str, str] = os.environ) -> Path:
    """`$QUAKEGRID_STATE_DIR`, else `$XDG_STATE_HOME/quakegrid`, else `~/.local/state/quakegrid`."""
    explicit = environ.get("QUAKEGRID_STATE_DIR")
    if explicit:
        return Path(explicit).expanduser().absolute()
    base = environ.get("XDG_STATE_HOME") or "~/.local/state"
    return Path(base).expanduser().absolute() / "quakegrid"


def config_paths(state_dir: Path, environ: Mapping[str, str] = os.environ) -> list[Path]:
    """The files to read, in order, the last one winning key by key.

    Upstream's order, with the embedded cluster's own file below the user's files:
    `<state>/openquake.cfg`, then `<venv>/openquake.cfg` or `/etc/openquake/openquake.cfg`, then
    `~/openquake.cfg`, then `$OQ_CONFIG_FILE`. Where `$QUAKEGRID_ONLY_CONFIG` is set, the last of them alone.
    """
    in_venv = sys.prefix != sys.base_prefix
    site = Path(sys.prefix, CONFIG_NAME) if in_venv else Path("/etc/openquake", CONFIG_NAME)
    paths = [state_dir / CONFIG_NAME, site, Path("~", CONFIG_NAME).expanduser()]
    if environ.get("OQ_CONFIG_FILE"):
        named = Path(environ["OQ_CONFIG_FILE"]).expanduser()
        if not named.is_file():
            raise SettingsError(f"OQ_CONFIG_FILE names {named}, which does not exist; mend or unset it")
        if environ.get(ONLY_CONFIG):
            return [named]
        paths.append(named)
    return paths


def load_settings(state_dir: Path | None = None, environ: Mapping[str, str] = os.environ) -> Settings:
    """Read the settings of the cluster that this user and environment mean.

    Args:
        state_dir: directory of the embedded cluster; None takes `default_state_dir`.
        environ: where `OQ_CONFIG_FILE`, `QUAKEGRID_STATE_DIR` and `XDG_STATE_HOME` are looked up.
    Raises:
        SettingsError: a file cannot be read, or a value is not allowed.
    """
    state_dir = (state_dir or default_state_dir(environ)).absolute()
    return _Reader(state_dir, config_paths(state_dir, environ)).settings()


def _how_to_read(exc: OSError | UnicodeDecodeError) -> str:
    """The command that helps when a configuration file cannot be read."""
    found = installation.find() if isinstance(exc, PermissionError) else None
    if found is None or not found.user:
        return "mend the file or its permissions"
    return f"it is for the user of the services: `sudo -u {found.user} quakegrid …`"


class _Reader:
    """Merged files, remembering which file gave each value, so that errors can name it."""

    def __init__(self, state_dir: Path, paths: list[Path]) -> None:
        self.state_dir = state_dir
        self.found: list[Path] = []
        self.values: dict[tuple[str, str], tuple[str, Path]] = {}
        self.asked: set[tuple[str, str]] = set()
        for path in paths:
            self._read(path)

    def _read(self, path: Path) -> None:
        parser = configparser.ConfigParser(interpolation=None)
        try:
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return
        except (OSError, UnicodeDecodeError) as exc:
            raise SettingsError(f"cannot read {path}: {exc}; {_how_to_read(exc)}") from exc
        try:
            parser.read_string(text, source=str(path))
        except configparser.Error as exc:
            reason = " ".join(str(exc).split())
            raise SettingsError(f"{path} is not a valid configuration file: {reason}") from exc
        self.found.append(path)
        for section in parser.sections():
            for key, value in parser.items(section):
                if key == "authkey" and value.strip() in WEAK_AUTHKEYS:
                    continue  # upstream ships `changeme`: that is no key, and hides none
                self.values[section, key] = (value.strip(), path)

    def get(self, section: str, key: str, default: str) -> str:
        self.asked.add((section, key))
        return self.values.get((section, key), (default, self.state_dir))[0]

    def parse(self, section: str, key: str, default: T, convert: Callable[[str], T], allowed: str) -> T:
        """Convert a value, or raise a `SettingsError` that names file, section, key and what is allowed."""
        self.asked.add((section, key))
        if (section, key) not in self.values or not self.values[section, key][0]:
            return default
        value, path = self.values[section, key]
        try:
            return convert(value)
        except (ValueError, OverflowError):
            message = f"{path}: [{section}] {key} = {value!r} is not allowed; give {allowed}"
            raise SettingsError(message) from None

    def port(self, section: str, key: str, default: int) -> int:
        return self.parse(section, key, default, _port, "a TCP port, 1 to 65535")

    def settings(self) -> Settings:
        """What the files say.

        Raises:
            SettingsError: a value is not allowed, or a section of our own has a key that we do not have.
        """
        settings = self._read_all()
        for (section, key), near in config_names.unknown_keys(self.values, self.asked):
            path = self.values[section, key][1]
            meant = f"; is {near} meant?" if near else "; take it out"
            raise SettingsError(f"{path}: [{section}] has no key {key}{meant}")
        doubts = [
            *config_names.doubtful_names(self.values, self.asked),
            *authkeys.doubts(settings.authkey, settings.authkey_path),
        ]
        return replace(settings, warnings=tuple(doubts))

    def _read_all(self) -> Settings:
        host = self.get("dbserver", "host", LOOPBACK) or LOOPBACK
        listen = self.get("dbserver", "listen", "") or host
        broker_host = self.get("broker", "host", "") or host
        broker_listen = self.get("broker", "listen", "") or (listen if broker_host == host else broker_host)
        agent_listen_default = LOOPBACK if is_loopback(host) else "0.0.0.0"  # noqa: S104 - needs a strong authkey
        nodes = "a list such as '10.0.0.1 -1, 10.0.0.2 32' (host and cores, -1 for all), or none"
        database = self.parse(
            "dbserver", "file", "~/oqdata/db.sqlite3", _whole_path, "a whole path, or one that begins with ~"
        )
        return Settings(
            state_dir=self.state_dir,
            paths=tuple(self.found),
            authkey=self.get("dbserver", "authkey", ""),
            authkey_path=self.values.get(("dbserver", "authkey"), (None, None))[1],
            dbserver_host=host,
            dbserver_port=self.port("dbserver", "port", 1908),
            dbserver_listen=listen,
            database=Path(database).expanduser(),
            broker_host=broker_host,
            broker_port=self.port("broker", "port", 1911),
            broker_listen=broker_listen,
            broker_metrics_port=self.parse(
                "broker", "metrics_port", 0, _port_or_none, "a TCP port for Prometheus, 0 for none"
            ),
            lane_ports=self.parse(
                "dbserver", "receiver_ports", tuple(range(1912, 1921)), _port_range, "ports such as 1912-1920"
            ),
            agent_port=self.port("zworkers", "ctrl_port", 1909),
            agent_listen=self.get("agent", "listen", "") or agent_listen_default,
            agent_host_cores=self.parse(
                "zworkers", "host_cores", (HostCores(LOOPBACK, -1),), _host_cores, nodes
            ),
            agent_memory_bytes=self.parse(
                "agent", "worker_memory", 0, _bytes, "bytes a worker may use, such as 4G (0: no limit)"
            ),
            agent_limits=read_agent_limits(self.parse),
            preload=self.parse(
                "agent",
                "preload",
                (ENGINE,),
                _preload,
                "openquake (drivers and workers have the engine), names of modules, both, or none",
            ),
            serialize_jobs=self.parse(
                "distribution", "serialize_jobs", 1, _count, "how many jobs execute at once, 0 for no limit"
            ),
            max_attempts=self.parse(
                "broker", "max_attempts", 3, _positive, "how often a task may be tried, 1 or more"
            ),
            lane_memory_bytes=self.parse(
                "broker", "lane_memory", 1 << 30, _bytes, "bytes that a lane keeps in memory, such as 1G"
            ),
            node_timeout_s=self.parse("broker", "node_timeout", 15.0, _seconds, "seconds, more than 0"),
            task_timeout_s=self.parse(
                "broker", "task_timeout", 0.0, _timeout, "seconds that a task may run, 0 for no limit"
            ),
            shared_dir=self.get("directory", "shared_dir", ""),
            custom_tmp=self.get("directory", "custom_tmp", ""),
            log_retention_days=self.parse(
                "dbserver", "log_retention_days", 0, _days, "days to keep logs of ended jobs, 0 for ever"
            ),
            log_retention_bytes=self.parse(
                "dbserver",
                "log_retention_mb",
                0,
                _megabytes,
                "MB of database above which the oldest logs of ended jobs are dropped, 10 or more (0: never)",
            ),
        )


def check_listen(settings: Settings, listen: str, service: str) -> None:
    """Refuse to start without a usable authkey, and to listen beyond loopback with a weak one.

    Raises:
        SettingsError: there is no key, or it is weak and `listen` is not a loopback address.
    """
    remedy = "run `quakegrid authkey` and put it as [dbserver] authkey into openquake.cfg on every node"
    if not settings.authkey:
        raise SettingsError(
            f"{service} has no authkey; `quakegrid up` makes one for this machine, or {remedy}"
        )
    if is_loopback(listen) or not authkeys.is_weak(settings.authkey):
        return
    is_short = len(settings.authkey) < MIN_AUTHKEY_LENGTH
    why = f"is shorter than {MIN_AUTHKEY_LENGTH} characters" if is_short else "can be guessed"
    raise SettingsError(f"{service} refuses to listen on {listen}: the authkey {why}; {remedy}")


def _whole_path(text: str) -> str:
    if not text.startswith(("/", "~")):  # it would be another file in each working directory
        raise ValueError(text)
    return text


def _port(text: str) -> int:
    port = int(text)
    if not 1 <= port <= 65535:
        raise ValueError(text)
    return port


def _port_or_none(text: str) -> int:
    return int(text) and _port(text)


def _port_range(text: str) -> tuple[int, ...]:
    first, _, last = text.partition("-")
    ports = tuple(range(_port(first), _port(last or first) + 1))
    if not ports:
        raise ValueError(text)
    return ports


def _host_cores(text: str) -> tuple[HostCores, ...]:
    nodes = []
    if text == "none":  # all nodes join
        return ()
    for item in text.split(","):
        host, cores = item.split()
        if int(cores) == 0 or int(cores) < -1:
            raise ValueError(text)
        nodes.append(HostCores(host, int(cores)))
    return tuple(nodes)


def _preload(text: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",")))
    if names == ("none",):
        return ()
    if "none" in names or not all(part.isidentifier() for name in names for part in name.split(".")):
        raise ValueError(text)
    return names


def _bytes(text: str) -> int:
    units = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
    unit = units.get(text[-1].upper(), 1)
    number = float(text[:-1] if unit > 1 else text)
    if number < 0:
        raise ValueError(text)
    return int(number * unit)


def _count(text: str) -> int:
    flags = {"yes": 1, "true": 1, "no": 0, "false": 0}
    count = flags[text.lower()] if text.lower() in flags else int(text)
    if count < 0:
        raise ValueError(text)
    return count


def _days(text: str) -> int:
    days = int(text)
    if not 0 <= days <= MAX_RETENTION_DAYS:
        raise ValueError(text)
    return days


def _megabytes(text: str) -> int:
    megabytes = int(text)
    if megabytes != 0 and not MIN_RETENTION_MB <= megabytes <= MAX_RETENTION_MB:
        raise ValueError(text)
    return megabytes << 20


def _positive(text: str) -> int:
    if int(text) < 1:
        raise ValueError(text)
    return int(text)


def _timeout(text: str) -> float:
    if not 0 <= float(text) < math.inf:
        raise ValueError(text)
    return float(text)


def _seconds(text: str) -> float:
    if not float(text) > 0:
        raise ValueError(text)
    return float(text)
