"""docker-compose.yml: in agreement with the code and with the image that it builds."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from quakegrid.machine import service_files
from quakegrid.services.agent.agentctl import __main__
from quakegrid.services.web.__main__ import check_settings
from quakegrid.settings import authkeys, config
from quakegrid.settings.web.access import WebMode

ROOT = Path(__file__).parents[4]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
STATE = "/var/lib/quakegrid"


def mounts(service: str) -> dict[str, str]:
    """Where a container has which volume or file, without how."""
    pairs = [volume.split(":") for volume in SERVICES[service]["volumes"]]
    return {target: source for source, target, *_how in pairs}


@pytest.mark.parametrize("name", SERVICES)
def test_command_and_image_are_ours(name: str) -> None:
    """The real command line takes the arguments; the image has a target in the Dockerfile."""
    found = SERVICES[name]
    dockerfile = (ROOT / "deploy" / "Dockerfile").read_text(encoding="utf-8")
    program, *args = found.get("command", ["agentctl", "serve"])

    assert found["build"]["target"] in re.findall(r"^FROM \S+ AS (\w+)$", dockerfile, re.MULTILINE)
    assert found["image"].startswith(f"quakegrid-{found['build']['target']}:")
    if program == "agentctl":
        verb, *options = ["4" if each.startswith("${") else each for each in args]
        __main__.cli.commands[verb].make_context(verb, options)
    else:
        assert (program, args[0]) == ("python", "-m")
        assert importlib.util.find_spec(f"{args[1]}.__main__")


@pytest.mark.parametrize("name", SERVICES)
def test_nobody_has_more_rights_than_needed(name: str) -> None:
    """No capability, no writable image; each volume is declared."""
    found = SERVICES[name]

    assert (found["cap_drop"], found["read_only"]) == (["ALL"], True)
    assert found["security_opt"] == ["no-new-privileges:true"]
    named = {source for source in mounts(name).values() if not source.startswith(".")}
    assert named <= COMPOSE["volumes"].keys()
    assert ("ports" in found) == (name == "web")


def test_web_finds_the_agent_of_the_driver() -> None:
    """Its socket, and what people send, are in volumes that both have; they read the same settings."""
    driver, web = mounts("driver"), mounts("web")

    assert {driver[path] for path in (STATE, "/shared")} == {web[path] for path in (STATE, "/shared")}
    assert web.items() <= driver.items()
    assert not any(volume.endswith(":ro") for volume in SERVICES["web"]["volumes"] if ".cfg" not in volume)
    assert "web" in service_files.ALL_SERVICES
    assert SERVICES["web"]["healthcheck"]["test"] == ["CMD", "python", "-m", "quakegrid.health", "web"]
    assert SERVICES["web"]["depends_on"] == {"driver": {"condition": "service_healthy"}}


def test_web_lets_in_by_passwords_and_over_tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Docker hides who asks; the port is for this machine unless somebody says otherwise."""
    (file,) = (source for path, source in mounts("web").items() if path == f"{STATE}/openquake.cfg")
    home = tmp_path / "home"
    home.mkdir()
    (home / "openquake.cfg").write_text((ROOT / file).read_text(encoding="utf-8"))
    monkeypatch.setenv("HOME", str(home))
    secret = tmp_path / "authkey"
    secret.write_text(f"[dbserver]\nauthkey = {authkeys.new_authkey()}\n")
    secret.chmod(0o600)

    settings = config.load_settings(tmp_path / "state", {"OQ_CONFIG_FILE": str(secret)})

    assert (settings.web_mode, settings.web_has_tls) == (WebMode.RESTRICTED, True)
    check_settings(settings)
    assert SERVICES["web"]["ports"] == [
        f"${{QUAKEGRID_WEB_ADDRESS:-127.0.0.1}}:{settings.web_port}:{settings.web_port}"
    ]
