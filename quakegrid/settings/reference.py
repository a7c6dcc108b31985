"""The reference of all settings, as Markdown: `python -m quakegrid.settings.reference`.

Sections, keys, defaults and what is allowed are those that the functions of `sections.py` ask the
reader for; only the sentence on what a key means stands here. `make reference` writes
docs/reference/settings.md.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from quakegrid.settings import sections
from quakegrid.settings.hosts import HostCores
from quakegrid.settings.reader import Reader

T = TypeVar("T")

_HEAD = """\
# Configuration reference

*Generated from the code by `make reference`.*

All settings are in `openquake.cfg`, the engine's own file. Of the files that exist the last one wins, key by
key:

1. `<state dir>/openquake.cfg`, the embedded cluster's own;
2. `openquake.cfg` in the virtual environment that QuakeGrid runs in, or, outside of one,
   `/etc/openquake/openquake.cfg`; `quakegrid install` writes this one;
3. `~/openquake.cfg`;
4. the file that `OQ_CONFIG_FILE` names.

Services read it when they start. Sections and keys that are not listed here are the engine's own; they work
as they do there, but for the key `code`, which the engine executes and QuakeGrid does not.

A wrong value stops the program with exit code 2 and a line that names file, section, key, value and what is
allowed.
"""

_ENVIRONMENT = """\
## Environment variables

| variable | meaning |
|---|---|
| `QUAKEGRID_STATE_DIR` | state dir; default `$XDG_STATE_HOME/quakegrid`, else `~/.local/state/quakegrid` |
| `QUAKEGRID_CLUSTER` | the cluster that commands ask, as `quakegrid --cluster` does |
| `OQ_CONFIG_FILE` | one more `openquake.cfg`, read last |
| `OQ_DATADIR` | where the engine puts its datastores; default `<shared_dir>/<user>/oqdata`, else `~/oqdata` |
| `OQ_DISTRIBUTE` | `no` runs a calculation in one process |
"""

# The meaning of each key; the rest of its line in the table comes from the reader.
MEANINGS = {
    (
        "agent",
        "cores_per_worker",
    ): "how wide workers of this node are, and threads of their numerical libraries",
    (
        "agent",
        "group",
    ): "whose members may start calculations on this machine; default: `quakegrid-users`, if there is one",
    (
        "agent",
        "listen",
    ): "address on which the agent listens; default: loopback, or all addresses of a cluster",
    ("agent", "nice"): "added to the niceness of workers",
    ("agent", "preload"): "what workers find loaded",
    (
        "agent",
        "stopped_timeout",
    ): "how long a worker may stay stopped (SIGSTOP) before it is killed and its task is tried again",
    ("agent", "try_engine"): "whether a version of the engine is tried that QuakeGrid was not tested with",
    ("agent", "worker_memory"): "what a worker may use",
    (
        "agent",
        "worker_user",
    ): "runs what belongs to people without an account here; default: `quakegrid-worker`, if there is one",
    ("broker", "host"): "where the broker is; default: as `[dbserver] host`",
    (
        "broker",
        "lane_memory",
    ): "what a lane keeps in memory: payloads, and 500 bytes for each; more waits in `custom_tmp`",
    ("broker", "listen"): "address on which broker and lanes listen; default: as the dbserver's",
    ("broker", "max_attempts"): "workers that a task may end before its job fails",
    (
        "broker",
        "max_cores_per_user",
    ): "cores that all calculations of one user have together, also while others are free",
    ("broker", "max_jobs_per_user"): "calculations of one user that execute at once; the others wait",
    ("broker", "metrics_port"): "metrics over HTTP, on `listen`, without a key",
    (
        "broker",
        "task_timeout",
    ): "time after which a task's worker is killed; counts as an attempt",
    ("broker", "node_timeout"): "time without an answer after which a node is lost",
    (
        "broker",
        "placement",
    ): "`spread`: workers start on the node with fewest used cores; `pack`: with most, others stay empty",
    ("broker", "port"): "the broker's port",
    (
        "broker",
        "resume",
    ): "`auto`: a calculation whose driver died is started again; `ask`: by `quakegrid resume`; `never`: not",
    (
        "broker",
        "max_resumes",
    ): "how often in a row a calculation is started again without a new outcome of a task",
    ("broker", "journal_bytes"): "disk space for the journals of one person; the oldest make room",
    ("dbserver", "audit_days"): "when records of the audit log are dropped (`quakegrid audit`)",
    ("dbserver", "authkey"): "the cluster's one secret, the same on all nodes; `quakegrid authkey` makes one",
    ("dbserver", "file"): "the job database, on a local disk of the master",
    ("dbserver", "host"): "the master, as nodes reach it; `127.0.0.1` is a cluster of one machine",
    ("dbserver", "listen"): "address on which the dbserver listens; default: `host`",
    ("dbserver", "log_retention_days"): "when logs of ended jobs are dropped",
    ("dbserver", "log_retention_mb"): "size of the database from which logs of ended jobs are dropped",
    (
        "dbserver",
        "old_authkey",
    ): "the authkey before, which still counts; from `quakegrid key rotate`",
    ("dbserver", "old_authkey_until"): "when the authkey before ends, such as 2026-01-31T12:00:00+00:00",
    ("dbserver", "port"): "the dbserver's port",
    ("dbserver", "receiver_ports"): "the lanes' ports",
    ("directory", "custom_tmp"): "folder for temporary files; default: the system's",
    ("directory", "shared_dir"): "folder for the engine's datastores; nodes that mount it, read it there",
    ("distribution", "serialize_jobs"): "calculations that execute at once; the others wait",
    ("memory", "hard_mem_limit"): "past it the largest worker of the job that has most is stopped",
    ("memory", "soft_mem_limit"): "from it on a node goes on with one worker",
    (
        "notify",
        "command",
    ): "shell command that is told the end of each job as JSON; runs as the job's person",
    (
        "notify",
        "hosts",
    ): "hosts of your own network whose URLs people may send to be told; others must be outside",
    ("notify", "url"): "URL that gets the end of each job as an HTTP POST with JSON",
    (
        "web",
        "certificate",
    ): "the site's certificate (PEM, with the chain); default off loopback: one of the cluster's own CA",
    ("web", "hosts"): "more names by which people reach the web service; it answers to no others",
    (
        "web",
        "mode",
    ): "who may look; default: `PUBLIC` on loopback, else `RESTRICTED` ([more](../how-to/open-the-web.md))",
    ("web", "origins"): "other sites whose pages may ask the web service, with a token",
    ("web", "private_key"): "the key of `certificate`",
    ("web", "proxies"): "proxies in front of the web service, which are believed from where somebody asks",
    ("web", "proxy_user_header"): "header in which these proxies say who has logged in",
    ("web", "inputs_quota"): "disk space for the inputs of one person that were sent to the web service",
    ("web", "keep_inputs_days"): "how long inputs that were sent stay after the end of their calculation",
    (
        "web",
        "listen",
    ): "address on which the web service listens; TLS off loopback, unless `proxies` are named",
    ("web", "max_upload"): "size of one upload to the web service",
    ("web", "port"): "port of the web service, for browsers, QGIS and scripts",
    ("zworkers", "ctrl_port"): "the agents' port",
    ("zworkers", "host_cores"): "nodes that belong to the cluster always; others join",
}


@dataclass(frozen=True, slots=True)
class Key:
    """A setting as the reader asks for it; `allowed` is empty where any text will do."""

    section: str
    name: str
    default: str
    allowed: str


class _Recorder(Reader):
    """Notes what is asked for, and answers with defaults: what is asked for is the truth to be shown."""

    def __init__(self) -> None:
        super().__init__(Path("/"), [])
        self.keys: list[Key] = []

    def get(self, section: str, key: str, default: str) -> str:
        self.keys.append(Key(section, key, default, ""))
        return default

    def parse(self, section: str, key: str, default: T, convert: Callable[[str], T], allowed: str) -> T:
        del convert
        self.keys.append(Key(section, key, _as_text(default), allowed))
        return default


def known_keys() -> list[Key]:
    """All settings, by section and key."""
    recorder = _Recorder()
    sections.read_all(recorder)
    return sorted(recorder.keys, key=lambda key: (key.section, key.name))


def markdown() -> str:
    """The page."""
    parts = [_HEAD]
    section = ""
    for key in known_keys():
        if key.section != section:
            section = key.section
            parts.append(f"\n## [{section}]\n\n| key | default | meaning | allowed |\n|---|---|---|---|\n")
        default = f"`{key.default}`" if key.default else ""
        meaning = MEANINGS.get((key.section, key.name), "")
        parts.append(f"| `{key.name}` | {default} | {meaning} | {key.allowed} |\n")
    return "".join((*parts, "\n", _ENVIRONMENT))


def _as_text(value: object) -> str:
    match value:
        case (HostCores(host, cores), *_):
            return f"{host} {cores}"
        case (int(first), *_, int(last)):
            return f"{first}-{last}"
        case tuple():
            return ", ".join(value)
        case int() if value and value % (1 << 30) == 0:
            return f"{value >> 30}G"
        case float():
            return f"{value:g}"
        case _:
            return str(value)


if __name__ == "__main__":
    sys.stdout.write(markdown())
