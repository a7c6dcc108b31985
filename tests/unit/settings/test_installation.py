"""What `up`, `down` and messages say where systemd runs the services."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from quakegrid import errors
from quakegrid.cli import __main__ as command_line
from quakegrid.settings import config, installation
from quakegrid.transport import grpc_channels


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine on which this environment is installed: its folder of units, notes and homes."""
    unit = tmp_path / "quakegrid-agent.service"
    unit.write_text(f"[Service]\nExecStart={sys.prefix}/bin/agentctl serve\n")
    notes = tmp_path / "installed.json"
    notes.write_text(json.dumps({"files": {str(unit): "0" * 64}, "folders": [], "user": "quakegrid"}))
    monkeypatch.setattr(installation, "NOTES", notes)
    monkeypatch.setattr(installation, "STATE_DIR", tmp_path / "var")
    for name in ("OQ_CONFIG_FILE", "QUAKEGRID_STATE_DIR", "XDG_STATE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return tmp_path


def run(monkeypatch: pytest.MonkeyPatch, *argv: str) -> int:
    """Run `quakegrid` in this process; the exit code."""
    monkeypatch.setattr(sys, "argv", ["quakegrid", *argv])
    return command_line.run_command_line()


@pytest.mark.parametrize("command", ["up", "down"])
@pytest.mark.parametrize("who", ["root", "services' user", "wrapper"])
def test_up_and_down_of_an_installed_machine_write_nothing(
    machine: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: str,
    who: str,
) -> None:
    """Whoever types it gets the command of systemd; a file of the wrong owner would end the services."""
    if who == "services' user":
        monkeypatch.setenv("HOME", str(machine / "var"))
    elif who == "wrapper":  # what /usr/local/bin/quakegrid does
        monkeypatch.setenv("QUAKEGRID_STATE_DIR", str(machine / "var"))
    before = sorted(machine.rglob("*"))

    code = run(monkeypatch, command)

    said = capsys.readouterr().err
    assert code == 1
    verb = {"up": "start", "down": "stop"}[command]
    assert f"as root: systemctl {verb} quakegrid-agent" in said
    assert sorted(machine.rglob("*")) == before


def test_cluster_of_an_environment_of_its_own_is_nobody_elses(machine: Path) -> None:
    """A user with another environment may have a cluster beside the installed one."""
    (machine / "quakegrid-agent.service").write_text("ExecStart=/opt/quakegrid/venv/bin/agentctl serve\n")

    installation.refuse_if_installed(machine / "home" / "state", "quakegrid up", "start")


def test_machine_without_an_installation_is_ones_own(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the note nothing is refused, and messages name `quakegrid up`."""
    monkeypatch.setattr(installation, "NOTES", machine / "none.json")

    installation.refuse_if_installed(machine / "var", "quakegrid up", "start")

    assert installation.start_words() == "`quakegrid up`"


def test_damaged_note_still_counts(machine: Path) -> None:
    """Better to refuse than to make a second cluster."""
    (machine / "installed.json").write_text("{")

    with pytest.raises(errors.StateError, match="start quakegrid-dbserver quakegrid-broker quakegrid-agent"):
        installation.refuse_if_installed(machine / "var", "quakegrid up", "start")


@pytest.mark.parametrize(
    ("what", "address", "words"),
    [
        ("broker", "10.0.0.1:1911", "it must be started on 10.0.0.1)"),
        ("dbserver", "master.site:1908", "it must be started on master.site)"),
        ("agent", "10.0.0.2:1909", "`systemctl start quakegrid-agent` as root on 10.0.0.2 starts it"),
        ("agent of n2", "10.0.0.2:1909", "`systemctl start quakegrid-agent` as root on 10.0.0.2 starts it"),
        ("broker", "127.0.0.1:1911", "`quakegrid up` starts it"),
        ("broker", "localhost:1911", "`quakegrid up` starts it"),
    ],
)
@pytest.mark.usefixtures("machine")
def test_unreachable_service_names_the_command_that_starts_it(what: str, address: str, words: str) -> None:
    """Only if it is there; an installed cluster never listens on loopback, where one's own does."""
    assert words in str(grpc_channels.unreachable(what, address))


@pytest.mark.usefixtures("machine")
def test_services_of_an_installed_machine_are_started_as_root() -> None:
    """People are told who must do it."""
    assert installation.start_words("10.0.0.1") == "`systemctl start quakegrid-agent` as root"


def test_settings_for_the_services_user_alone_name_it(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their rights are as they should be."""
    monkeypatch.setattr(Path, "read_text", refuse_only("openquake.cfg", Path.read_text))
    with pytest.raises(errors.SettingsError, match=r"`sudo -u quakegrid quakegrid …`"):
        config.load_settings(machine / "home", {"HOME": str(machine)})


def refuse_only(name: str, read: Callable[..., str]) -> Callable[..., str]:
    """A `read_text` that may not read files of this name, whoever runs the test."""

    def read_text(path: Path, *args: str, **options: str) -> str:
        if path.name == name:
            raise PermissionError(13, "Permission denied", str(path))
        return read(path, *args, **options)

    return read_text
