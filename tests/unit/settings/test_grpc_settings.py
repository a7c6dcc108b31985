"""What gRPC is told before it is imported."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from quakegrid.transport import grpc_environment

TELL = "import os; from quakegrid.transport import grpc_environment; grpc_environment.tell(os.environ)"


def test_installed_grpc_is_told_and_says_nothing() -> None:
    """A gRPC that does not know the names would print a line in each process of ours."""
    environ = {key: value for key, value in os.environ.items() if not key.startswith("GRPC_")}
    use = "grpc.insecure_channel('127.0.0.1:1'); print(os.environ['GRPC_EXPERIMENTS'])"

    done = subprocess.run(
        [sys.executable, "-c", f"{TELL}; import grpc; {use}"],
        env=environ,
        capture_output=True,
        text=True,
        check=True,
    )

    assert done.stdout.split() == ["-event_engine_client,-event_engine_listener"]
    assert done.stderr == ""


def test_what_is_set_stays() -> None:
    """Administrators may know better."""
    environ = {"GRPC_EXPERIMENTS": "", "GRPC_VERBOSITY": "DEBUG"}

    grpc_environment.tell(environ)

    assert environ == {"GRPC_EXPERIMENTS": "", "GRPC_VERBOSITY": "DEBUG"}


def test_interval_that_is_set_stays_beside_our_way_to_wait() -> None:
    """The older way is ours, how often it looks may be theirs."""
    environ = {"GRPC_CLIENT_CHANNEL_BACKUP_POLL_INTERVAL_MS": "50"}

    grpc_environment.tell(environ)

    assert environ["GRPC_CLIENT_CHANNEL_BACKUP_POLL_INTERVAL_MS"] == "50"
    assert "GRPC_EXPERIMENTS" in environ


def test_other_grpc_waits_in_its_own_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that we have not run is told no names that it may not know."""
    environ: dict[str, str] = {}
    monkeypatch.setattr(grpc_environment, "VERSIONS_WITH_POLLERS", ("0.1.",))

    grpc_environment.tell(environ)

    assert environ == {"GRPC_VERBOSITY": "NONE"}


def test_import_leaves_the_environment_alone() -> None:
    """A program that uses QuakeGrid has its own gRPC, its own log and its own children."""
    code = (
        "import os; before = dict(os.environ); import quakegrid, quakegrid.transport.grpc_channels; "
        "assert os.environ == before"
    )

    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    "module", ["quakegrid.services.dbserver", "quakegrid.services.broker", "quakegrid.services.agent"]
)
def test_service_is_told_before_grpc_is_imported(module: str) -> None:
    """Its log would have a line for each handshake of a stranger."""
    code = (
        f"import os, sys, importlib; from quakegrid.transport import grpc_environment\n"
        "grpc_environment.tell = lambda environ: print('grpc' in sys.modules, flush=True)\n"
        f"importlib.import_module('{module}.__main__')"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.split() == ["False"]
