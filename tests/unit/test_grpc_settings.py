"""What gRPC is told before it is imported."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from quakegrid import grpc_settings


def test_installed_grpc_is_told_and_says_nothing() -> None:
    """A gRPC that does not know the names would print a line in each process of ours."""
    environ = {key: value for key, value in os.environ.items() if not key.startswith("GRPC_")}
    use = "grpc.insecure_channel('127.0.0.1:1'); print(os.environ['GRPC_EXPERIMENTS'])"

    done = subprocess.run(
        [sys.executable, "-c", f"import os, quakegrid, grpc; {use}"],
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

    grpc_settings.tell(environ)

    assert environ == {"GRPC_EXPERIMENTS": "", "GRPC_VERBOSITY": "DEBUG"}


def test_interval_that_is_set_stays_beside_our_way_to_wait() -> None:
    """The older way is ours, how often it looks may be theirs."""
    environ = {"GRPC_CLIENT_CHANNEL_BACKUP_POLL_INTERVAL_MS": "50"}

    grpc_settings.tell(environ)

    assert environ["GRPC_CLIENT_CHANNEL_BACKUP_POLL_INTERVAL_MS"] == "50"
    assert "GRPC_EXPERIMENTS" in environ


def test_other_grpc_waits_in_its_own_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that we have not run is told no names that it may not know."""
    environ: dict[str, str] = {}
    monkeypatch.setattr(grpc_settings, "VERSIONS_WITH_POLLERS", ("0.1.",))

    grpc_settings.tell(environ)

    assert environ == {"GRPC_VERBOSITY": "ERROR"}
