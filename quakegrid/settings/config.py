"""Settings of a cluster: their values, and the files that they are read from, in upstream's order.

`reader.py` reads `openquake.cfg`, `sections.py` has the keys and their defaults, `conversions.py` what is
allowed. Never imports the engine.
"""

from __future__ import annotations

import datetime
import getpass
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from quakegrid.access.proofs import ClusterKeys, Keyring, Proof, Renewed
from quakegrid.errors import SettingsError
from quakegrid.settings import authkeys, credential_files, hosts, node_files, sections
from quakegrid.settings.agent_accounts import AgentAccounts
from quakegrid.settings.agent_limits import AgentLimits
from quakegrid.settings.credential_files import CredentialFile
from quakegrid.settings.hosts import HostCores, is_loopback
from quakegrid.settings.reader import Reader
from quakegrid.settings.web.access import WebAccess, WebMode

# Set for the services of a program's own cluster, so that they do not read the settings of its user.
ONLY_CONFIG = "QUAKEGRID_ONLY_CONFIG"
# Set in containers, where a secret is a file of the host with the host's mode, and there is one account.
ALLOW_WIDE_KEY = "QUAKEGRID_ALLOW_WIDE_KEY_FILE"
CONFIG_NAME = "openquake.cfg"
MIN_AUTHKEY_LENGTH = authkeys.MIN_LENGTH
WEAK_AUTHKEYS = authkeys.NONE
LOOPBACK = hosts.LOOPBACK
RUN_FOLDER = "run"
# In the environment of an agent whose node has a certificate, and of its children: the addresses of dbserver
# and broker, with a space between. So children need not read the file, which has a key.
CLUSTER_AT = "QUAKEGRID_CLUSTER_AT"
# In the environment of all processes that an agent starts: its state directory, to find those that are left.
AGENT_MARK = "QUAKEGRID_AGENT"


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
    web_port: int
    web_listen: str
    # Of one upload; of all inputs that are kept for one person; and how long these are kept after the end.
    web_upload_bytes: int
    web_quota_bytes: int
    web_keep_inputs_days: int
    web_access: WebAccess
    agent_port: int
    agent_listen: str
    agent_host_cores: tuple[HostCores, ...]
    agent_memory_bytes: int
    agent_limits: AgentLimits
    agent_accounts: AgentAccounts
    # Modules that templates import before they fork; "openquake" stands for all that calculations need.
    preload: tuple[str, ...]
    # Whether an engine that QuakeGrid was not tested with is tried.
    try_engine: bool
    serialize_jobs: int
    max_attempts: int
    # Bytes of payloads that a lane keeps in memory; the rest waits in `custom_tmp`.
    lane_memory_bytes: int
    node_timeout_s: float
    # How long a task may run before its worker is killed; 0 for ever: only its author knows how long.
    task_timeout_s: float
    # Where a worker starts: `spread` takes the node with fewest used cores, since the workers of a node share
    # its memory bandwidth; `pack` takes the one with most, so that others stay empty.
    placement: str
    # Calculations of one person that execute at once, and cores of their workers together; 0 for no limit.
    max_jobs_per_user: int
    max_cores_per_user: int
    # Whether a calculation whose driver has died is started again (`auto`), can be by a person (`ask`), or
    # has no journal (`never`); how often in a row without a new outcome; room for one person's journals.
    resume: str
    max_resumes: int
    journal_bytes: int
    shared_dir: str
    custom_tmp: str
    # Logs of jobs that ended so many days ago are dropped, and the oldest ones while the database is
    # larger. The default 0 keeps them for ever: no log is dropped unless a setting asks for it.
    log_retention_days: int
    log_retention_bytes: int
    # How long the audit log is kept; 0 for ever.
    audit_days: int
    # Commands and URLs by which the end of every job is told, as the job's person.
    notify: tuple[str, ...] = ()
    # Hosts of one's own network that people may let be told of the ends of calculations that they have sent.
    notify_hosts: tuple[str, ...] = ()
    # The file that gives the authkey; None without one.
    authkey_path: Path | None = None
    # The authkey before, and until when it counts, in seconds since 1970; empty if there is none.
    old_authkey: str = field(default="", repr=False)
    old_authkey_until_s: float = 0.0
    # Of a person who is not the cluster; None where the authkey proves who we are.
    credential: CredentialFile | None = None
    # Of a driver, and of an agent whose node has a certificate: neither has the authkey. None elsewhere.
    given: Renewed | None = None
    # What the fleet calls this node, as its certificate says; empty where the node has the authkey.
    node_name: str = ""
    # Warnings about values that are probably not as they were meant, one sentence each.
    warnings: tuple[str, ...] = ()
    # The keys from above, which a service replaces when the files change; None without an authkey.
    keyring: Keyring | None = field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.authkey:
            keys = ClusterKeys(self.authkey, self.old_authkey, self.old_authkey_until_s)
            object.__setattr__(self, "keyring", Keyring(keys))

    @property
    def proof(self) -> Proof:
        """What a process shows to the services of the cluster."""
        if self.given is not None:
            return self.given
        if self.credential is not None:
            return self.credential.proof
        return self.keyring or ""

    @property
    def current_authkey(self) -> str:
        """The authkey that counts now: a running service takes each new one."""
        return self.keyring.keys.active if self.keyring else ""

    @property
    def web_mode(self) -> WebMode:
        """Who may do what at the web service."""
        return self.web_access.mode_at(self.web_listen)

    @property
    def web_has_tls(self) -> bool:
        """Whether the web service speaks TLS."""
        return self.web_access.is_tls_at(self.web_listen)

    @property
    def web_scheme(self) -> str:
        """Of the web service's address."""
        return "https" if self.web_has_tls else "http"

    @property
    def user_name(self) -> str:
        """Whose jobs the jobs of this user are."""
        return getpass.getuser() if self.credential is None else self.credential.name

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
        SettingsError: a file cannot be read, a value is not allowed, or the directory's path is not UTF-8.
    """
    state_dir = (state_dir or default_state_dir(environ)).absolute()
    _check_is_text(state_dir)
    reader = Reader(state_dir, config_paths(state_dir, environ))
    read = sections.read_all(reader)
    doubts = [*reader.check_names(), *authkeys.doubts(read["authkey"], read["authkey_path"])]
    found = Settings(state_dir=state_dir, paths=tuple(reader.found), **read, warnings=tuple(doubts))
    addresses = environ.get(CLUSTER_AT, "").split(" ")
    return _of_cluster(found, reader, *addresses) if len(addresses) == len(("dbserver", "broker")) else found


def settings_of_machine(state_dir: Path | None = None, environ: Mapping[str, str] = os.environ) -> Settings:
    """The settings of a command that asks the agent of this machine only, by its unix socket.

    The file with the key is for the services; a person who may not read it does not need it.

    Raises:
        SettingsError: as `load_settings`, but for files that this user may not read.
    """
    state_dir = (state_dir or default_state_dir(environ)).absolute()
    _check_is_text(state_dir)
    reader = Reader(state_dir, config_paths(state_dir, environ), leaves_out_closed=True)
    return Settings(state_dir=state_dir, paths=tuple(reader.found), **sections.read_all(reader))


def settings_of(credential: CredentialFile, state_dir: Path | None = None) -> Settings:
    """The settings of a command that shows a credential: where its cluster is, and else the defaults.

    `openquake.cfg` may be of another cluster, or be for its services alone, and is not read.

    Args:
        credential: of the person who gives the command.
        state_dir: directory of the embedded cluster; None takes `default_state_dir`.
    """
    state_dir = (state_dir or default_state_dir()).absolute()
    read = sections.read_all(Reader(state_dir, []))
    defaults = Settings(state_dir=state_dir, paths=(), **read)
    dbserver_host, dbserver_port = credential_files.split_address(credential.dbserver)
    broker_host, broker_port = credential_files.split_address(credential.broker)
    return replace(
        defaults,
        dbserver_host=dbserver_host,
        dbserver_port=dbserver_port,
        broker_host=broker_host,
        broker_port=broker_port,
        credential=credential,
    )


def client_settings(cluster: str = "", state_dir: Path | None = None) -> Settings:
    """The settings of who asks services: of the cluster that is named, or of this machine.

    Where the settings of this machine give no authkey, or are not for this user to read, a credential that
    `quakegrid login` has put in place is used.

    Args:
        cluster: a cluster that this user has logged in to; empty: what `QUAKEGRID_CLUSTER` names, if it does.
        state_dir: directory of the embedded cluster; None takes `default_state_dir`.
    Raises:
        CredentialError: there is no credential for the cluster, or it has ended.
        SettingsError: the settings of this machine cannot be read.
    """
    credential, found, trouble = credential_files.chosen(cluster), None, None
    if credential is None:
        try:
            found = load_settings(state_dir)
        except SettingsError as exc:
            trouble = exc
        if found is not None and found.authkey:
            return found
        credential = credential_files.only()
    if credential is not None:
        credential.check(datetime.datetime.now(datetime.UTC))
        return settings_of(credential, state_dir)
    if found is None:
        assert trouble is not None, "there are settings, or a reason why not"
        raise trouble
    return found


def load_node_settings(state_dir: Path | None = None, environ: Mapping[str, str] = os.environ) -> Settings:
    """The settings of an agent, and of commands that ask it.

    Where no file gives an authkey, the node may have a certificate. Then its file says where the cluster is.

    Raises:
        SettingsError: as `load_settings`.
        CredentialError: the certificate has ended, is of another machine, or its file cannot be used.
    """
    found = load_settings(state_dir, environ)
    file = None if found.authkey else node_files.read(found.state_dir)
    if file is None:
        return found
    file.check(datetime.datetime.now(datetime.UTC))
    reader = Reader(found.state_dir, config_paths(found.state_dir, environ))
    found = _of_cluster(found, reader, file.dbserver, file.broker)
    return replace(found, given=Renewed(file.proof), node_name=file.host)


def _of_cluster(found: Settings, reader: Reader, dbserver: str, broker: str) -> Settings:
    """The settings of a node whose cluster is at these addresses, whatever its files say."""
    dbserver_host, dbserver_port = credential_files.split_address(dbserver)
    broker_host, broker_port = credential_files.split_address(broker)
    return replace(
        found,
        **sections.read_agent(reader, dbserver_host),
        dbserver_host=dbserver_host,
        dbserver_port=dbserver_port,
        broker_host=broker_host,
        broker_port=broker_port,
    )


def _check_is_text(state_dir: Path) -> None:
    """Refuse a path that messages, logs and files of services cannot hold."""
    try:
        str(state_dir).encode()
    except UnicodeEncodeError:
        shown = os.fsencode(state_dir).decode(errors="backslashreplace")
        raise SettingsError(
            f"the path of the state directory, {shown}, is not UTF-8; give another directory with "
            "--state-dir or QUAKEGRID_STATE_DIR, or rename the folder"
        ) from None


def check_authkey(settings: Settings, service: str, environ: Mapping[str, str] = os.environ) -> None:
    """Refuse to start a service without an authkey, and with one that others can guess or read.

    The agent of a node with a certificate needs none.

    Args:
        settings: of the service.
        service: as in "the broker".
        environ: where `ALLOW_WIDE_KEY` says that nobody else is here.
    Raises:
        SettingsError: there is no key, or it is weak, or others than the service and its group can read it.
    """
    remedy = "run `quakegrid authkey` and put it as [dbserver] authkey into openquake.cfg on every node"
    if settings.node_name:
        return
    if not settings.authkey:
        raise SettingsError(
            f"{service} has no authkey; `quakegrid up` makes one for this machine, or {remedy}"
        )
    if authkeys.is_weak(settings.authkey):
        is_short = len(settings.authkey) < MIN_AUTHKEY_LENGTH
        why = f"is shorter than {MIN_AUTHKEY_LENGTH} characters" if is_short else "can be guessed"
        raise SettingsError(f"{service} refuses to start: the authkey {why}; {remedy}")
    if settings.authkey_path is None or environ.get(ALLOW_WIDE_KEY):
        return
    if fault := authkeys.too_wide(settings.authkey_path, os.getegid()):
        raise SettingsError(f"{service} refuses to start: {fault}")
