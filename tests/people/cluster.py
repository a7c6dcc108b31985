"""A cluster on a machine with accounts: dbserver, broker and agent run as an account that no person has.

`PeopleCluster.quakegrid` runs command lines of people. An agent without capabilities cannot change users.
"""

from __future__ import annotations

import configparser
import contextlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from quakegrid import testing
from quakegrid.settings import config
from quakegrid.settings.config import Settings
from tests.people.accounts import SERVICE, USERS_GROUP, WORKER
from tests.people.machine import CAPABILITIES, Machine, Program

STATE = SERVICE.home / "state"
START_TIMEOUT_S = 60.0
Sections = Mapping[str, Mapping[str, str | int]]
# `[agent]` as an installation for several people has it.
FOR_PEOPLE: Sections = {"agent": {"group": USERS_GROUP, "worker_user": WORKER.name, "preload": "none"}}


class PeopleCluster:
    """A cluster on one machine, or a node of a cluster on another machine.

    Args:
        machine: where its processes run.
        text: of its `openquake.cfg`, which only the services can read.
        state_dir: on the machine.
    """

    def __init__(self, machine: Machine, text: str, state_dir: Path = STATE) -> None:
        self.machine, self.text, self.state_dir = machine, text, state_dir
        self.services: dict[str, Program] = {}
        self.service_environ = self.environ()
        machine.write(SERVICE.name, state_dir / "openquake.cfg", text, 0o400)
        machine.path(SERVICE.home).chmod(0o711)

    @property
    def settings(self) -> Settings:
        """What the services read. The paths are those on the machine."""
        path = self.machine.path(self.state_dir / "openquake.cfg")
        return config.load_settings(self.state_dir, {"OQ_CONFIG_FILE": str(path), config.ONLY_CONFIG: "1"})

    def environ(self) -> dict[str, str]:
        """In the environment of services and people: which cluster of the machine is meant."""
        return {"QUAKEGRID_STATE_DIR": str(self.state_dir)}

    def start(self, name: str, capabilities: Sequence[str] = ()) -> Program:
        """Start a service as the services' account, and wait until it is available."""
        log = self.log_path(name)
        record = self.machine.path(self.state_dir / "run" / f"{name}.json")
        record.unlink(missing_ok=True)  # of one that was killed
        command = f'exec "$0" -m quakegrid.services.{name} >>{self.state_dir / name}.log 2>&1'
        program = self.machine.start_program(
            SERVICE.name,
            "sh",
            "-c",
            command,
            sys.executable,
            environ=self.service_environ,
            capabilities=capabilities,
        )
        end_s = time.monotonic() + START_TIMEOUT_S
        while not record.exists():
            assert program.process.poll() is None, log.read_text(encoding="utf-8")
            assert time.monotonic() < end_s, log.read_text(encoding="utf-8")
            time.sleep(0.01)
        self.services[name] = program
        return program

    def stop(self, name: str) -> None:
        """Stop a service."""
        self.services.pop(name).stop()

    def log_path(self, name: str) -> Path:
        """Where a test finds the log of a service."""
        return self.machine.path(self.state_dir / f"{name}.log")

    def log(self, name: str) -> str:
        """The log of a service."""
        return self.log_path(name).read_text(encoding="utf-8")

    def quakegrid(self, who: str, *args: object, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run `quakegrid` as somebody to its end; options are those of `Machine.run`."""
        environ = self.environ() | options.pop("environ", {})
        return self.machine.run(who, "quakegrid", *args, environ=environ, **options)

    def run_quakegrid(self, who: str, *args: object, **options: Any) -> Program:
        """Start `quakegrid` as somebody; options are those of `Machine.start_program`."""
        environ = self.environ() | options.pop("environ", {})
        return self.machine.start_program(who, "quakegrid", *args, environ=environ, **options)

    def json(self, who: str, *args: object) -> Any:
        """Run `quakegrid` as somebody and parse what it prints."""
        done = self.quakegrid(who, *args, "--output", "json")
        assert done.returncode == 0, done.stderr + done.stdout
        return json.loads(done.stdout)

    def close(self) -> None:
        """Stop all services, the agent first."""
        for name in reversed(list(self.services)):
            self.stop(name)


def configuration(extra: Sections = FOR_PEOPLE) -> str:
    """An `openquake.cfg` on free ports, with a fresh key; its paths are those of a machine for tests."""
    with tempfile.TemporaryDirectory() as folder:
        parser = configparser.ConfigParser(interpolation=None)
        parser.read(testing.write_cluster_config(Path(folder), extra))
    parser["dbserver"]["file"] = str(STATE / "db.sqlite3")
    parser["directory"]["shared_dir"] = ""
    return "".join(
        f"[{name}]\n" + "".join(f"{key} = {value}\n" for key, value in parser[name].items())
        for name in parser.sections()
    )


@contextlib.contextmanager
def running_cluster(
    machine: Machine,
    extra: Sections = FOR_PEOPLE,
    capabilities: Sequence[str] = CAPABILITIES,
    environ: Mapping[str, str] | None = None,
) -> Iterator[PeopleCluster]:
    """A cluster that is up: dbserver, broker, and an agent with these capabilities.

    Args:
        machine: where it runs.
        extra: section to key to value, see `write_cluster_config`.
        capabilities: of the agent.
        environ: added to the environment of the services.
    """
    cluster = PeopleCluster(machine, configuration(extra))
    cluster.service_environ |= environ or {}
    try:
        cluster.start("dbserver")
        cluster.start("broker")
        cluster.start("agent", capabilities)
        yield cluster
    finally:
        cluster.close()
