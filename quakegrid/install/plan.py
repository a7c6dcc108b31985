"""An installation as a list of steps: files and folders with path, content, mode and owner; commands.

Pure: does not look at the disk or the machine's users; `machine` does, and applies the steps.
"""

from __future__ import annotations

import configparser
import ipaddress
import re
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from quakegrid.errors import SettingsError, UsageError
from quakegrid.install import config_text, units
from quakegrid.install.steps import (
    AddMember,
    GetCertificate,
    MakeFolder,
    MakeGroup,
    MakeUser,
    RunCommand,
    Step,
    WriteFile,
)
from quakegrid.settings import authkeys, installation, reader
from quakegrid.settings.config import LOOPBACK, MIN_AUTHKEY_LENGTH

STATE_DIR = installation.STATE_DIR
UNIT_FOLDER = Path("/etc/systemd/system")
COMMAND_FOLDER = Path("/usr/local/bin")
EXPORTS = Path("/etc/exports.d/quakegrid.exports")
ROOT_USER = "root"
# People of this group may start calculations; the account runs what belongs to people without an account
# here. `[agent] group` and `[agent] worker_user` in openquake.cfg name others.
PEOPLE_GROUP = "quakegrid-users"
WORKER_USER = "quakegrid-worker"
WORKER_HOME = Path("/var/lib/quakegrid-worker")
# Paths and names go into units, shell scripts and exports, so they must not need quoting.
_PLAIN_PATH = re.compile(r"/[\w./+-]+")
_PLAIN_NAME = re.compile(r"[\w.:/*-]+")
_COMMAND = """\
#!/bin/sh
# Written by `quakegrid install`: the command of this machine's cluster.
export QUAKEGRID_STATE_DIR="${{QUAKEGRID_STATE_DIR:-{state_dir}}}"
exec {venv}/bin/{name} "$@"
"""


class Role(Enum):
    """What a machine is in the cluster; a master has an agent, too."""

    MASTER = "master"
    NODE = "node"


@dataclass(frozen=True, slots=True)
class Choice:
    """What the administrator chose.

    Args:
        role: of this machine.
        master: host of the master, as nodes reach it; for a node "" takes that of its `openquake.cfg`.
        user: whom the services run as.
        prefix: folder for what the nodes share.
        venv: environment that QuakeGrid is installed in.
        config: the environment's `openquake.cfg`.
        network: whom the prefix is exported to over NFS; "" for nobody.
        members: people who may start calculations here.
        token: with which a node gets a certificate, in place of the authkey; "" for none.
        is_certified: a node has a certificate already.
    """

    role: Role
    master: str
    user: str
    prefix: Path
    venv: Path
    config: Path
    network: str = ""
    members: tuple[str, ...] = ()
    token: str = field(default="", repr=False)
    is_certified: bool = False

    @property
    def has_key(self) -> bool:
        """Whether this machine is to have the cluster's key."""
        return not (self.token or self.is_certified)


@dataclass(frozen=True, slots=True)
class SharedIds:
    """Numbers by which a file server knows the owners of what the machines share; None: any will do.

    Args:
        user: of the services' user.
        group: of its group.
        people: of the group of those who may start calculations.
    """

    user: int
    group: int | None = None
    people: int | None = None


NO_IDS = SharedIds(0)


def steps(choice: Choice, config: str | None, new_authkey: str, ids: SharedIds = NO_IDS) -> list[Step]:
    """All that makes a machine what it is to be, in order, done or not.

    Args:
        choice: of the administrator.
        config: text of the machine's `openquake.cfg`: "" if there is none, None if it cannot be read.
        new_authkey: for a master that has none.
        ids: numbers that users and groups have on the master, if known.
    Raises:
        UsageError: something in `choice` cannot be used.
        SettingsError: the node has no `openquake.cfg` with the cluster's key, or it contradicts `choice`.
    """
    _check(choice)
    is_master = choice.role is Role.MASTER
    text = _checked_config(choice, config, new_authkey)
    places = _places(choice, text)
    people = _people(choice, text)
    found = _accounts(choice, people, ids)
    if is_master:
        # Members make folders of their own, in which files belong to the group (set-group-id), and do not
        # remove those of others (sticky).
        found.append(MakeFolder(places.writable[0], 0o3775, choice.user, people.group))
    if text:
        # For this user alone: people may be members of its group, to use shared folders.
        found.append(WriteFile(choice.config, text, 0o400, choice.user, choice.user))
    for name in ("quakegrid", "agentctl"):
        command = _COMMAND.format(state_dir=STATE_DIR, venv=choice.venv, name=name)
        found.append(_public_file(COMMAND_FOLDER / name, command, 0o755))
    rendered = units.render(places)
    found += [_public_file(UNIT_FOLDER / name, unit) for name, unit in rendered.items()]
    if choice.network:
        exported = f"{choice.prefix} {choice.network}(ro,no_subtree_check)\n"
        found += [MakeFolder(EXPORTS.parent, 0o755, ROOT_USER, ROOT_USER), _public_file(EXPORTS, exported)]
        found.append(RunCommand(("exportfs", "-ra")))
    found += _certificate(choice)
    found.append(RunCommand(("systemctl", "daemon-reload")))
    found.append(RunCommand(("systemctl", "enable", "--now", *rendered)))
    return found


def _checked_config(choice: Choice, config: str | None, new_authkey: str) -> str:
    """The text of `openquake.cfg` as it is to be; None could not be read, and is not checked."""
    if choice.role is Role.MASTER:
        return _master_config(choice, config or "", new_authkey)
    if not choice.has_key:
        _check_without_key(choice, config or "")
    elif config is not None:
        _check_node_config(choice, config)
    return config or ""


def _certificate(choice: Choice) -> list[Step]:
    """What gets a node's certificate, as the agent's user, if there is a token."""
    if not choice.token:
        return []
    become = ("setpriv", f"--reuid={choice.user}", f"--regid={choice.user}", "--clear-groups")
    join = (str(COMMAND_FOLDER / "agentctl"), "join", *filter(None, (choice.master,)))
    return [GetCertificate((*become, *join), choice.token)]


@dataclass(frozen=True, slots=True)
class _People:
    """Names for people who use the cluster: their group, and the account of those without one here."""

    group: str
    worker: str


def _people(choice: Choice, text: str) -> _People:
    """The group and the account, as the configuration says.

    Raises:
        SettingsError: the worker account could read the cluster's key.
        UsageError: a name cannot be used.
    """
    found = _People(
        _value(choice, text, "agent", "group") or PEOPLE_GROUP,
        _value(choice, text, "agent", "worker_user") or WORKER_USER,
    )
    for name in {choice.user, found.worker, ROOT_USER} & {*choice.members}:
        raise UsageError(f"{name} cannot be one of the people who start calculations: --member names others")
    for name in (found.group, found.worker):
        if not _PLAIN_NAME.fullmatch(name):
            raise UsageError(f"{choice.config}: {name!r} cannot be used as a name of a user or group")
    if found.worker in {choice.user, ROOT_USER}:
        raise SettingsError(
            f"{choice.config}: [agent] worker_user is {found.worker}, whose processes can read the authkey; "
            "name an account that has no other use"
        )
    if found.group in {choice.user, ROOT_USER, found.worker}:
        raise SettingsError(
            f"{choice.config}: [agent] group is {found.group}, a group of the services; name one for people"
        )
    return found


def _accounts(choice: Choice, people: _People, ids: SharedIds) -> list[Step]:
    """The accounts, and the folders that they need."""
    numbers = (ids.user, ids.group) if ids.user else None
    return [
        MakeUser(choice.user, STATE_DIR, numbers),
        MakeUser(people.worker, WORKER_HOME, purpose="runs what belongs to people without an account here"),
        MakeGroup(people.group, ids.people),
        *(AddMember(name, people.group) for name in choice.members),
        # All may pass, to the agent's socket, and nobody else may list.
        MakeFolder(STATE_DIR, 0o751, choice.user, choice.user),
        MakeFolder(WORKER_HOME, 0o700, people.worker, people.worker),
    ]


def _check(choice: Choice) -> None:
    for path in (choice.prefix, choice.venv, choice.config):
        if not _PLAIN_PATH.fullmatch(str(path)):
            raise UsageError(f"{path}: give an absolute path of letters, digits and . _ + - only")
    if choice.user == ROOT_USER:
        raise UsageError("services do not run as root: calculations could change the whole machine")
    for name in (choice.user, choice.master, choice.network, *choice.members):
        if name and not _PLAIN_NAME.fullmatch(name):
            raise UsageError(f"{name!r} cannot be used as a name of a user, host or network")
    _check_role(choice)


def _check_role(choice: Choice) -> None:
    if choice.role is Role.NODE and choice.network:
        raise UsageError("--export is for the master")
    if choice.role is Role.MASTER and choice.master in {"", "localhost", LOOPBACK}:
        raise UsageError(
            f"other machines cannot reach {choice.master or 'this machine by its name'}: give --master, an "
            "address or a name that they know"
        )
    if choice.role is Role.MASTER and choice.token:
        raise UsageError("--token is for nodes: the master has the cluster's key")


def _master_config(choice: Choice, text: str, new_authkey: str) -> str:
    host = _value(choice, text, "dbserver", "host")
    if host in {LOOPBACK, "localhost"}:
        raise SettingsError(
            f"{choice.config}: [dbserver] host is {host}, a cluster of one machine; put {choice.master} there"
        )
    if host and host != choice.master:
        raise SettingsError(
            f"{choice.config}: [dbserver] host is {host}, not {choice.master}; make them agree"
        )
    filled = config_text.fill_in(
        text or "# Made by `quakegrid install`; whoever can read this can use the cluster.\n",
        [
            ("dbserver", "host", choice.master),
            # A name may mean an address that only this machine knows.
            *([] if _is_address(choice.master) else [("dbserver", "listen", "0.0.0.0")]),  # noqa: S104
            ("dbserver", "authkey", new_authkey),
            ("dbserver", "file", str(STATE_DIR / "db.sqlite3")),
            ("zworkers", "host_cores", f"{choice.master} -1"),
            ("directory", "shared_dir", str(choice.prefix / "shared")),
        ],
    )
    _check_key(choice, filled)
    file = _value(choice, filled, "dbserver", "file")
    if not file.startswith("/"):
        raise SettingsError(
            f"{choice.config}: [dbserver] file = {file} depends on who runs the dbserver; give a whole path"
        )
    return filled


def _check_node_config(choice: Choice, text: str) -> None:
    if not text:
        source = f"root@{choice.master or 'MASTER'}:{choice.config}"
        raise SettingsError(
            "a node needs --token, with what `quakegrid token create --node` prints on the master; or the "
            f"master's openquake.cfg, which holds the cluster's key: `scp -p {source} {choice.config}`, "
            "then again"
        )
    host = _value(choice, text, "dbserver", "host")
    if host in {"", LOOPBACK, "localhost"}:
        raise SettingsError(f"{choice.config}: [dbserver] host names no master; copy the master's file")
    _check_key(choice, text)


def _check_without_key(choice: Choice, text: str) -> None:
    if _value(choice, text, "dbserver", "authkey"):
        raise SettingsError(
            f"{choice.config} has the cluster's key, so this node needs no token; or take [dbserver] authkey "
            "out there, then again"
        )


def _check_key(choice: Choice, text: str) -> None:
    key = _value(choice, text, "dbserver", "authkey")
    if authkeys.is_weak(key):  # no service would leave loopback with it
        is_short = len(key) < MIN_AUTHKEY_LENGTH
        why = f"has fewer than {MIN_AUTHKEY_LENGTH} characters" if is_short else "can be guessed"
        raise SettingsError(
            f"{choice.config}: [dbserver] authkey {why}; put what `quakegrid authkey` prints there, on all "
            "machines"
        )


def _places(choice: Choice, text: str) -> units.Places:
    """Where services are installed and where they write, `shared_dir` first, as the configuration says."""
    folders = [Path(_value(choice, text, "directory", "shared_dir") or choice.prefix / "shared")]
    if custom_tmp := _value(choice, text, "directory", "custom_tmp"):
        folders.append(Path(custom_tmp))
    database = Path(_value(choice, text, "dbserver", "file") or STATE_DIR / "db.sqlite3")
    if choice.role is Role.MASTER and not database.is_relative_to(STATE_DIR):
        folders.append(database.parent)
    for folder in folders:
        if not _PLAIN_PATH.fullmatch(str(folder)):
            raise UsageError(f"{choice.config}: {folder} cannot be named in a unit of systemd")
    join = None
    if choice.role is Role.NODE:
        join = "" if not choice.has_key else choice.master or _value(choice, text, "dbserver", "host")
        if choice.has_key and not join:
            raise UsageError(f"{choice.config} cannot be read here; say --master HOST")
    return units.Places(choice.venv, STATE_DIR, choice.user, tuple(dict.fromkeys(folders)), join)


def _value(choice: Choice, text: str, section: str, key: str) -> str:
    try:
        return config_text.read_value(text, section, key)
    except configparser.Error as exc:
        raise reader.invalid(choice.config, exc) from None


def _public_file(path: Path, content: str, mode: int = 0o644) -> WriteFile:
    return WriteFile(path, content, mode, ROOT_USER, ROOT_USER)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
