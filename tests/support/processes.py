"""Real service processes for tests: a state directory, free ports, start, stop and kill."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import time
from pathlib import Path

from quakegrid import testing
from quakegrid.machine import service_files
from quakegrid.settings import config
from quakegrid.settings.config import Settings

START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 30.0
REPOSITORY = Path(__file__).parents[2]


def free_port() -> int:
    """A TCP port that nobody uses, of those that this test process may give away."""
    return testing.free_ports(1)[0]


def make_state(directory: Path, **values: str) -> Settings:
    """A state directory with an openquake.cfg of free ports; `values` override its [dbserver] keys."""
    state_dir = directory / "state"
    (directory / "home").mkdir(parents=True)
    state_dir.mkdir()
    keys = {
        "file": str(directory / "oqdata" / "db.sqlite3"),
        "host": "127.0.0.1",
        "port": str(free_port()),
        "receiver_ports": str(free_port()),
        "authkey": secrets.token_urlsafe(24),
    } | values
    path = state_dir / "openquake.cfg"
    path.touch(mode=0o600)
    broker, agent = testing.free_ports(2)
    others = f"[broker]\nport = {broker}\n[zworkers]\nctrl_port = {agent}\n"
    path.write_text("[dbserver]\n" + "".join(f"{key} = {value}\n" for key, value in keys.items()) + others)
    return config.load_settings(state_dir, {"OQ_CONFIG_FILE": str(path)})


def environment(settings: Settings) -> dict[str, str]:
    """The environment of a user who has nothing but this cluster."""
    home = settings.state_dir.parent / "home"
    kept = {key: os.environ[key] for key in ("PATH", "LANG") if key in os.environ}
    return kept | {"HOME": str(home), "OQ_CONFIG_FILE": str(settings.state_dir / "openquake.cfg")}


class Service:
    """One service process of a cluster."""

    def __init__(self, settings: Settings, name: str) -> None:
        self.settings = settings
        self.name = name
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait for its run record."""
        log_path = self.settings.state_dir / f"{self.name}.log"
        with log_path.open("ab") as log:
            self.process = subprocess.Popen(self.command, env=self.environment, cwd=REPOSITORY, stderr=log)
        end_s = time.monotonic() + START_TIMEOUT_S
        while service_files.read(self.settings, self.name) is None:
            assert self.process.poll() is None, log_path.read_text()
            assert time.monotonic() < end_s, log_path.read_text()
            time.sleep(0.01)

    @property
    def command(self) -> list[str]:
        """What starts it."""
        return [
            sys.executable,
            "-m",
            f"quakegrid.services.{self.name}",
            "--state-dir",
            str(self.settings.state_dir),
        ]

    @property
    def environment(self) -> dict[str, str]:
        """Its environment variables."""
        return environment(self.settings)

    def fail_to_start(self) -> tuple[int, str]:
        """Start it where it cannot run; returns its exit code and what it says on stderr."""
        ended = subprocess.run(
            self.command,
            env=self.environment,
            cwd=REPOSITORY,
            stderr=subprocess.PIPE,
            timeout=START_TIMEOUT_S,
            check=False,
        )
        return ended.returncode, ended.stderr.decode()

    def stop(self, number: int = signal.SIGTERM) -> int:
        """End it with a signal; returns the exit code."""
        assert self.process is not None
        self.process.send_signal(number)
        code = self.process.wait(STOP_TIMEOUT_S)
        self.process = None
        return code

    def close(self) -> None:
        """Leave nothing behind."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
