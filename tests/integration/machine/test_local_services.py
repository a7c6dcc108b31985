"""Starting and stopping services as processes, with stand-ins that only announce themselves.

The stand-ins live in the state folder, and a `sitecustomize.py` on PYTHONPATH puts them before the services.
"""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from quakegrid import errors
from quakegrid.cli import cluster
from quakegrid.machine import local_services, own_cluster, service_files
from quakegrid.settings import authkeys, config
from quakegrid.settings.config import Settings

SERVICE = """\
import os, signal, sys
from pathlib import Path
from quakegrid.machine import service_files
from quakegrid.settings import config
settings = config.load_settings(Path(sys.argv[2]))
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
path = service_files.write(settings, {name!r}, "127.0.0.1:0")
signal.sigwait([signal.SIGINT])
path.unlink()
"""
FIRST = """\
from pathlib import Path
from quakegrid import services
services.__path__.insert(0, str(Path(__file__).parent / "services"))
"""
BROKEN = "import sys\nprint('loading')\nprint('quakegrid: the disk is full')\nsys.exit(2)\n"
STUBBORN = SERVICE.replace("signal.sigwait([signal.SIGINT])", "signal.sigwait([signal.SIGUSR1])")


def write_service(state_dir: Path, name: str, text: str) -> None:
    """Put a stand-in where `python -m quakegrid.services.NAME` finds it."""
    folder = state_dir / "services" / name
    folder.mkdir(parents=True, exist_ok=True)
    (state_dir / "sitecustomize.py").write_text(FIRST)
    (folder / "__init__.py").touch()
    (folder / "__main__.py").write_text(text.format(name=name))


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Settings]:
    """A cluster of stand-ins on free ports, stopped at the end."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("OQ_CONFIG_FILE", raising=False)
    state_dir = tmp_path / "state"
    monkeypatch.setenv("PYTHONPATH", str(state_dir))
    path = own_cluster.prepare_state(state_dir, authkeys.new_authkey)
    ports = [f"port = {free_port()}", f"receiver_ports = {free_port()}"]
    text = path.read_text().replace("[dbserver]", "\n".join(["[dbserver]", *ports]))
    text = text.replace("[zworkers]", f"[zworkers]\nctrl_port = {free_port()}")
    path.write_text(f"{text}\n[broker]\nport = {free_port()}\n[web]\nport = 0\n")
    for name in service_files.SERVICES:
        write_service(state_dir, name, SERVICE)
    settings = config.load_settings(state_dir, {})
    yield settings
    for record in local_services.running(settings).values():
        local_services.stop(record, deadline_s=0.0)


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_services_start_detached_and_stop(settings: Settings) -> None:
    """All three run in sessions of their own, and end on request."""
    local_services.start(settings, service_files.SERVICES)

    records = local_services.running(settings)
    stopped = [local_services.stop(record) for record in records.values()]

    assert tuple(records) == service_files.SERVICES
    assert stopped == [True, True, True]
    assert local_services.running(settings) == {}


def test_service_that_fails_takes_the_others_down(settings: Settings) -> None:
    """The error has the service's last words and its exit code; nothing is left running."""
    write_service(settings.state_dir, "broker", BROKEN)
    settings.log_dir.mkdir()
    (settings.log_dir / "broker.log").write_text("words of an earlier life\n")

    with pytest.raises(errors.QuakeGridError, match="the broker did not start") as caught:
        local_services.start(settings, service_files.SERVICES)

    assert "(exit code 2): the disk is full (log: " in str(caught.value)
    assert caught.value.exit_code == 2
    assert local_services.running(settings) == {}


def test_stubborn_service_is_killed_after_the_deadline(settings: Settings) -> None:
    """A process that ignores the request does not stay."""
    write_service(settings.state_dir, "agent", STUBBORN)
    local_services.start(settings, ["agent"])

    was_orderly = local_services.stop(local_services.running(settings)["agent"], deadline_s=0.1)

    assert not was_orderly
    assert local_services.running(settings) == {}


def test_stop_leaves_a_reused_pid_alone(settings: Settings) -> None:
    """A stale record whose pid is another process now harms nobody."""
    local_services.start(settings, ["agent"])
    record = local_services.running(settings)["agent"]

    assert local_services.stop(replace(record, start_ticks=record.start_ticks - 1))
    assert "agent" in local_services.running(settings)


@pytest.mark.alone  # the holder of the port must be called pytest
def test_port_in_use_names_port_holder_and_setting(settings: Settings) -> None:
    """One line: which port, who has it, what to change."""
    listener = socket.create_server(("127.0.0.1", settings.broker_port))
    with listener, pytest.raises(errors.QuakeGridError) as caught:
        local_services.check_ports(settings, service_files.SERVICES)

    assert str(settings.broker_port) in str(caught.value)
    assert "[broker] port" in str(caught.value)
    assert f"in use by process {os.getpid()} (" in str(caught.value)


def test_address_of_another_machine_is_a_settings_error(settings: Settings) -> None:
    """Listening where this machine is not ends with 2."""
    elsewhere = replace(settings, dbserver_listen="192.0.2.1")

    with pytest.raises(errors.SettingsError, match=r"cannot listen on 192\.0\.2\.1"):
        local_services.check_ports(elsewhere, ["dbserver"])


def test_bring_up_starts_only_what_is_missing(settings: Settings) -> None:
    """The first call starts all, the second nothing, the third what has gone."""
    state_dir = settings.state_dir

    _, first = cluster.bring_up(state_dir, None)
    _, second = cluster.bring_up(state_dir, None)
    local_services.stop(local_services.running(settings)["agent"])
    _, third = cluster.bring_up(state_dir, 1)

    assert (first, second, third) == (service_files.SERVICES, (), ("agent",))
    assert config.load_settings(state_dir, {}).agent_host_cores[0].cores == 1


def test_cores_of_a_running_cluster_are_refused(settings: Settings) -> None:
    """A change that would have no effect is not accepted in silence; the words name what has one."""
    cluster.bring_up(settings.state_dir, None)
    command = re.escape(f"`agentctl --state-dir {settings.state_dir} cores 1`")

    with pytest.raises(errors.StateError, match=f"runs already; {command} changes its cores"):
        cluster.bring_up(settings.state_dir, 1)


def test_default_folder_need_not_be_named(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """`agentctl` finds it, as `quakegrid up` did."""
    monkeypatch.setenv("QUAKEGRID_STATE_DIR", str(settings.state_dir))
    cluster.bring_up(None, None)

    with pytest.raises(errors.StateError, match="`agentctl cores 1`"):
        cluster.bring_up(None, 1)


def test_second_start_waits_for_the_first(settings: Settings) -> None:
    """While one holds the lock another says that it waits, and goes on afterwards."""
    code = (
        "import sys; from pathlib import Path; from quakegrid.machine import own_cluster\n"
        "with own_cluster.locked(Path(sys.argv[1]), lambda: print('waiting', flush=True)): print('mine')"
    )
    with own_cluster.locked(settings.state_dir, lambda: None):
        other = subprocess.Popen(
            [sys.executable, "-c", code, str(settings.state_dir)], stdout=subprocess.PIPE, text=True
        )
        assert other.stdout is not None
        assert other.stdout.readline() == "waiting\n"

    assert other.communicate(timeout=30)[0] == "mine\n"


def test_down_and_status_of_nothing(settings: Settings) -> None:
    """Without a cluster `down` is content, and `status` ends with 3."""
    program = [sys.executable, "-m", "quakegrid.cli", "--state-dir", str(settings.state_dir)]

    down = subprocess.run([*program, "down"], capture_output=True, text=True, check=False)
    status = subprocess.run(
        [*program, "status", "--output", "json"], capture_output=True, text=True, check=False
    )
    listing = subprocess.run([*program, "jobs", "list"], capture_output=True, text=True, check=False)

    assert (down.returncode, status.returncode, listing.returncode) == (0, 3, 3)
    assert "not running" in down.stderr
    assert '"is_up": false' in status.stdout
    assert "quakegrid up" in listing.stderr


def test_process_that_lives_but_does_not_serve_is_not_up(settings: Settings) -> None:
    """`up` and `status` ask the service: these processes have written their records and answer nobody."""
    cluster.bring_up(settings.state_dir, None)
    program = [sys.executable, "-m", "quakegrid.cli", "--state-dir", str(settings.state_dir)]

    up = subprocess.run([*program, "up"], capture_output=True, text=True, check=False)
    status = subprocess.run(
        [*program, "status", "--output", "json"], capture_output=True, text=True, check=False
    )

    found = json.loads(status.stdout)
    assert (up.returncode, status.returncode) == (3, 3)
    assert found["is_up"] is False
    assert [(service["service"], service["is_up"]) for service in found["services"]] == [
        (name, False) for name in service_files.SERVICES
    ]
    for name, record in local_services.running(settings).items():
        assert f"the {name} runs (process {record.pid}) but does not answer" in up.stderr
        assert f"the {name} runs (process {record.pid}) but does not answer" in status.stderr
    assert "down`, which ends what runs, and `up` start it anew" in up.stderr


def set_web_port(settings: Settings, port: int) -> None:
    """Want a web service."""
    path = settings.state_dir / config.CONFIG_NAME
    path.write_text(path.read_text().replace("[web]\nport = 0", f"[web]\nport = {port}"))
    write_service(settings.state_dir, "web", SERVICE)


def test_web_service_starts_with_the_others(settings: Settings) -> None:
    """Where it has a port; `up` starts it alone where only it is missing."""
    _, before = cluster.bring_up(settings.state_dir, None)
    set_web_port(settings, free_port())

    _, started = cluster.bring_up(settings.state_dir, None)

    assert before == service_files.SERVICES
    assert started == ("web",)
    assert set(local_services.running(settings)) == set(service_files.ALL_SERVICES)


def test_port_of_the_web_that_is_taken_stops_nothing(
    settings: Settings, capfd: pytest.CaptureFixture[str]
) -> None:
    """Calculations need no web pages; the person is told what to change."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        set_web_port(settings, other.getsockname()[1])

        _, started = cluster.bring_up(settings.state_dir, None)

    assert started == service_files.SERVICES
    assert "[web] port" in capfd.readouterr().err


def test_down_refuses_where_nobody_can_say_whether_jobs_run(settings: Settings) -> None:
    """As after the key in the settings was changed; --force stops the services all the same."""
    cluster.bring_up(settings.state_dir, None)
    program = [sys.executable, "-m", "quakegrid.cli", "--state-dir", str(settings.state_dir)]

    down = subprocess.run([*program, "down"], capture_output=True, text=True, check=False)
    before = set(local_services.running(settings))
    forced = subprocess.run([*program, "down", "--force"], capture_output=True, text=True, check=False)

    assert (down.returncode, before) == (3, set(service_files.SERVICES))
    assert "down --force` stops the cluster" in down.stderr
    assert (forced.returncode, local_services.running(settings)) == (0, {})
