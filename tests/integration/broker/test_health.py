"""`python -m quakegrid.health` tells by its exit code whether a service serves."""

from __future__ import annotations

import subprocess
import sys

import pytest

from quakegrid.settings.config import Settings
from tests.support.dbservers import LocalDbServer
from tests.support.processes import REPOSITORY, environment


def ask(settings: Settings, service: str) -> subprocess.CompletedProcess[str]:
    """Ask as a container engine does."""
    return subprocess.run(
        [sys.executable, "-m", "quakegrid.health", service],
        env=environment(settings) | {"QUAKEGRID_STATE_DIR": str(settings.state_dir)},
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_service_that_serves_is_healthy(dbserver: LocalDbServer) -> None:
    """It answers behind mutual TLS."""
    asked = ask(dbserver.settings, "dbserver")

    assert (asked.returncode, asked.stdout) == (0, "the dbserver serves\n"), asked.stderr


@pytest.mark.parametrize("service", ["broker", "agent"])
def test_service_that_does_not_run_is_named(dbserver: LocalDbServer, service: str) -> None:
    """Exit code 3, and its address."""
    asked = ask(dbserver.settings, service)

    assert asked.returncode == 3
    assert f"the {service} at 127.0.0.1:" in asked.stderr
