"""The keys of `openquake.cfg` that QuakeGrid reads, section by section: defaults and what is allowed.

The sections and keys are upstream's where upstream has them. Each function asks the reader, which knows the
files; `reference.py` makes the page of all settings from the same questions.
"""

from __future__ import annotations

from pathlib import Path
from typing import TypedDict

from quakegrid.settings import conversions
from quakegrid.settings.agent_accounts import AgentAccounts, read_agent_accounts
from quakegrid.settings.agent_limits import AgentLimits, read_agent_limits
from quakegrid.settings.hosts import LOOPBACK, HostCores, is_loopback
from quakegrid.settings.reader import Reader
from quakegrid.settings.web.access import WebAccess, read_web_access

# In `[agent] preload`: the engine's calculators and commands.
ENGINE = "openquake"


class DbserverKeys(TypedDict):
    """Where the dbserver is, its key, its file, and how long it keeps logs."""

    authkey: str
    authkey_path: Path | None
    old_authkey: str
    old_authkey_until_s: float
    dbserver_host: str
    dbserver_port: int
    dbserver_listen: str
    database: Path
    log_retention_days: int
    log_retention_bytes: int
    audit_days: int


class JournalKeys(TypedDict):
    """What becomes of calculations whose driver has died."""

    resume: str
    max_resumes: int
    journal_bytes: int


class BrokerKeys(JournalKeys):
    """Where the broker and its lanes are, and how they treat tasks and nodes."""

    broker_host: str
    broker_port: int
    broker_listen: str
    broker_metrics_port: int
    lane_ports: tuple[int, ...]
    max_attempts: int
    lane_memory_bytes: int
    node_timeout_s: float
    task_timeout_s: float
    placement: str
    max_jobs_per_user: int
    max_cores_per_user: int


class AgentKeys(TypedDict):
    """Which nodes there are, and what an agent does on its own."""

    agent_port: int
    agent_listen: str
    agent_host_cores: tuple[HostCores, ...]
    agent_memory_bytes: int
    agent_limits: AgentLimits
    agent_accounts: AgentAccounts
    preload: tuple[str, ...]
    try_engine: bool


class JobKeys(TypedDict):
    """How jobs run, and where their files are."""

    serialize_jobs: int
    shared_dir: str
    custom_tmp: str


class WebKeys(TypedDict):
    """Where the web service listens, and what it takes from people."""

    web_port: int
    web_listen: str
    web_upload_bytes: int
    web_quota_bytes: int
    web_keep_inputs_days: int
    web_access: WebAccess


class NotifyKeys(TypedDict):
    """Where the end of every job is told."""

    notify: tuple[str, ...]
    notify_hosts: tuple[str, ...]


class AllKeys(DbserverKeys, BrokerKeys, AgentKeys, JobKeys, WebKeys, NotifyKeys):
    """All that is read."""


def read_all(reader: Reader) -> AllKeys:
    """All settings of the files.

    Raises:
        SettingsError: a value is not allowed.
    """
    dbserver = read_dbserver(reader)
    return {
        **dbserver,
        **read_broker(reader, dbserver["dbserver_host"], dbserver["dbserver_listen"]),
        **read_agent(reader, dbserver["dbserver_host"]),
        **read_jobs(reader),
        **read_web(reader),
        **read_notify(reader),
    }


def read_dbserver(reader: Reader) -> DbserverKeys:
    """`[dbserver]`, but for the lanes' ports."""
    host = reader.get("dbserver", "host", LOOPBACK) or LOOPBACK
    database = reader.parse(
        "dbserver",
        "file",
        "~/oqdata/db.sqlite3",
        conversions.whole_path,
        "a whole path, or one that begins with ~",
    )
    authkey_path = reader.path_of("dbserver", "authkey")
    old_authkey = reader.get("dbserver", "old_authkey", "")
    if reader.path_of("dbserver", "old_authkey") != authkey_path:
        old_authkey = ""  # of another key than the one that counts
    return {
        "authkey": reader.get("dbserver", "authkey", ""),
        "authkey_path": authkey_path,
        "old_authkey": old_authkey,
        "old_authkey_until_s": reader.parse(
            "dbserver",
            "old_authkey_until",
            0.0,
            conversions.instant_s,
            "a time with its zone, as in 2026-01-31T12:00:00+00:00",
        ),
        "dbserver_host": host,
        "dbserver_port": reader.port("dbserver", "port", 1908),
        "dbserver_listen": reader.get("dbserver", "listen", "") or host,
        "database": Path(database).expanduser(),
        "log_retention_days": reader.parse(
            "dbserver",
            "log_retention_days",
            0,
            conversions.days,
            "days to keep logs of ended jobs, 0 for ever",
        ),
        "log_retention_bytes": reader.parse(
            "dbserver",
            "log_retention_mb",
            0,
            conversions.megabytes,
            "MB of database above which the oldest logs of ended jobs are dropped, 10 or more (0: never)",
        ),
        "audit_days": reader.parse(
            "dbserver", "audit_days", 365, conversions.days, "days to keep the audit log, 0 for ever"
        ),
    }


def read_broker(reader: Reader, dbserver_host: str, dbserver_listen: str) -> BrokerKeys:
    """`[broker]` and the lanes' ports; where nothing else is said, the broker is beside the dbserver."""
    host = reader.get("broker", "host", "") or dbserver_host
    listen = dbserver_listen if host == dbserver_host else host
    return {
        "broker_host": host,
        "broker_port": reader.port("broker", "port", 1911),
        "broker_listen": reader.get("broker", "listen", "") or listen,
        "broker_metrics_port": reader.parse(
            "broker",
            "metrics_port",
            0,
            conversions.port_or_none,
            "a TCP port for Prometheus, 0 for none",
        ),
        "lane_ports": reader.parse(
            "dbserver",
            "receiver_ports",
            tuple(range(1912, 1921)),
            conversions.port_range,
            "ports such as 1912-1920",
        ),
        "max_attempts": reader.parse(
            "broker", "max_attempts", 3, conversions.positive, "how often a task may be tried, 1 or more"
        ),
        "lane_memory_bytes": reader.parse(
            "broker",
            "lane_memory",
            1 << 30,
            conversions.byte_count,
            "bytes that a lane keeps in memory, such as 1G",
        ),
        "node_timeout_s": reader.parse(
            "broker", "node_timeout", 15.0, conversions.seconds, "seconds, more than 0"
        ),
        "task_timeout_s": reader.parse(
            "broker",
            "task_timeout",
            0.0,
            conversions.timeout,
            "seconds that a task may run, 0 for no limit",
        ),
        "placement": reader.parse("broker", "placement", "spread", conversions.placement, "spread or pack"),
        "max_jobs_per_user": reader.parse(
            "broker",
            "max_jobs_per_user",
            0,
            conversions.count,
            "how many jobs of one user execute at once, 0 for no limit",
        ),
        "max_cores_per_user": reader.parse(
            "broker",
            "max_cores_per_user",
            0,
            conversions.count,
            "how many cores all jobs of one user have, 0 for no limit",
        ),
        **read_journals(reader),
    }


def read_journals(reader: Reader) -> JournalKeys:
    """The keys of `[broker]` on calculations whose driver has died."""
    return {
        "resume": reader.parse("broker", "resume", "auto", conversions.resume, "auto, ask or never"),
        "max_resumes": reader.parse(
            "broker",
            "max_resumes",
            2,
            conversions.count,
            "how often in a row without a new outcome, 0 or more",
        ),
        "journal_bytes": reader.parse(
            "broker",
            "journal_bytes",
            16 << 30,
            conversions.some_bytes,
            "bytes of all journals of one person, such as 16G",
        ),
    }


def read_agent(reader: Reader, dbserver_host: str) -> AgentKeys:
    """`[agent]`, `[zworkers]` and `[memory]`; an agent of a cluster listens on all addresses."""
    listen = LOOPBACK if is_loopback(dbserver_host) else "0.0.0.0"  # noqa: S104 - needs a strong authkey
    return {
        "agent_port": reader.port("zworkers", "ctrl_port", 1909),
        "agent_listen": reader.get("agent", "listen", "") or listen,
        "agent_host_cores": reader.parse(
            "zworkers",
            "host_cores",
            (HostCores(LOOPBACK, -1),),
            conversions.host_cores,
            "a list such as '10.0.0.1 -1, 10.0.0.2 32' (host and cores, -1 for all), or none",
        ),
        "agent_memory_bytes": reader.parse(
            "agent",
            "worker_memory",
            0,
            conversions.byte_count,
            "bytes a worker may use, such as 4G (0: no limit)",
        ),
        "agent_limits": read_agent_limits(reader.parse),
        "agent_accounts": read_agent_accounts(reader.parse),
        "preload": reader.parse(
            "agent",
            "preload",
            (ENGINE,),
            conversions.preload,
            "openquake (drivers and workers have the engine), names of modules, both, or none",
        ),
        "try_engine": reader.parse("agent", "try_engine", False, conversions.yes_or_no, "yes or no"),
    }


def read_jobs(reader: Reader) -> JobKeys:
    """`[distribution]` and `[directory]`."""
    return {
        "serialize_jobs": reader.parse(
            "distribution",
            "serialize_jobs",
            1,
            conversions.count,
            "how many jobs execute at once, 0 for no limit",
        ),
        "shared_dir": reader.get("directory", "shared_dir", ""),
        "custom_tmp": reader.get("directory", "custom_tmp", ""),
    }


def read_web(reader: Reader) -> WebKeys:
    """`[web]`."""
    return {
        "web_port": reader.parse(
            "web", "port", 8800, conversions.port_or_none, "a TCP port, 0 for no web service"
        ),
        "web_listen": reader.get("web", "listen", "") or LOOPBACK,
        "web_upload_bytes": reader.parse(
            "web",
            "max_upload",
            1 << 30,
            conversions.some_bytes,
            "bytes that one upload may have, such as 500M",
        ),
        "web_quota_bytes": reader.parse(
            "web",
            "inputs_quota",
            10 << 30,
            conversions.some_bytes,
            "bytes that the kept inputs of one person may have, such as 20G",
        ),
        "web_keep_inputs_days": reader.parse(
            "web", "keep_inputs_days", 7, conversions.days, "days to keep inputs of ended jobs, 0 for ever"
        ),
        "web_access": read_web_access(reader.parse),
    }


def read_notify(reader: Reader) -> NotifyKeys:
    """`[notify]`."""
    command = reader.get("notify", "command", "").strip()
    url = reader.parse("notify", "url", "", conversions.web_address, "a URL: http:// or https://, and a host")
    none: tuple[str, ...] = ()
    hosts = reader.parse("notify", "hosts", none, conversions.host_names, "names or addresses of hosts")
    return {"notify": tuple(target for target in (command, url) if target), "notify_hosts": hosts}
