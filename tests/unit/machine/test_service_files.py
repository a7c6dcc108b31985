"""Which run records are believed."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from quakegrid.machine import process_stats, service_files
from quakegrid.settings import config
from quakegrid.settings.config import Settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """With a record of this process as the agent."""
    settings = config.load_settings(tmp_path / "state", {})
    service_files.write(settings, "agent", "127.0.0.1:1909")
    return settings


def change(path: Path, **fields: object) -> None:
    """Write other values into a record."""
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def test_own_record_is_believed(settings: Settings) -> None:
    """What a living service wrote."""
    record = service_files.read(settings, "agent")

    assert record is not None
    assert (record.pid, record.address) == (os.getpid(), "127.0.0.1:1909")
    assert record.boot_id == service_files.boot_id() != ""


def test_record_of_an_older_version_is_believed(settings: Settings) -> None:
    """It has no boot id; an upgrade must find the services that run."""
    path = settings.run_dir / "agent.json"
    fields = json.loads(path.read_text())
    del fields["boot_id"]
    path.write_text(json.dumps(fields))

    assert service_files.read(settings, "agent") is not None


@pytest.mark.parametrize("word", ["quakegrid.services.agent", "/opt/venv/bin/agentctl"])
def test_service_is_found_where_a_container_hides_the_boot(settings: Settings, word: str) -> None:
    """What the process runs tells that it is the service, since people and services see other ids there."""
    command = ["sh", "-c", "echo; read line", word]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()  # the kernel shows no command line before the program runs
        ticks = process_stats.start_ticks(process.pid)
        change(settings.run_dir / "agent.json", boot_id="another", pid=process.pid, start_ticks=ticks)

        record = service_files.read(settings, "agent")

        process.communicate(b"\n")
    assert record is not None
    assert record.pid == process.pid


def link_elsewhere(path: Path) -> None:
    """Put a link to the same record in its place."""
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


def name_another_users_process(path: Path) -> None:
    """Name a process that belongs to root, or, for root's record, give the file to somebody else."""
    if os.getuid() == 0:
        os.chown(path, 65534, 65534)
    else:
        change(path, pid=1, start_ticks=process_stats.start_ticks(1))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: change(path, boot_id="another"),
        lambda path: change(path, start_ticks=1),
        lambda path: change(path, pid="self"),
        lambda path: path.write_text("[]"),
        link_elsewhere,
        name_another_users_process,
    ],
    ids=["other boot", "other process", "no number", "no record", "link", "other user"],
)
def test_record_that_is_not_the_services_own_counts_as_none(
    settings: Settings, spoil: Callable[[Path], None]
) -> None:
    """Whoever stops services signals what it names, and may be root."""
    spoil(settings.run_dir / "agent.json")

    assert service_files.read(settings, "agent") is None
