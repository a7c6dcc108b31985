"""The cluster of docker-compose.yml: what its containers may do, and a calculation that loses one of them."""

from __future__ import annotations

import re
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.engine.cases import PARAMS, Case, prepare
from tests.engine.conftest import PlainEngine, plain_engine
from tests.engine.exports import find_differences
from tests.system.compose import ROOT, SERVICES, Project, wait_until

__all__ = ["plain_engine"]
pytestmark = [pytest.mark.compose, pytest.mark.timeout(3600)]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A cluster with two agents, removed at the end."""
    project = Project(tmp_path_factory.mktemp("compose"))
    try:
        project.start(agents=2)
        yield project
    finally:
        project.remove()


def test_without_an_authkey_compose_prints_how_to_make_it(project: Project, tmp_path: Path) -> None:
    """One command, before anything is started."""
    environ = {key: value for key, value in project.environ.items() if key != "QUAKEGRID_AUTHKEY_FILE"}
    empty = tmp_path / "env"
    empty.touch()
    command = [*project.command, "--env-file", str(empty), "config"]

    done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, check=False)

    assert done.returncode != 0
    assert "sh deploy/new_authkey.sh" in done.stderr


def test_agents_have_names_of_their_own_and_say_them(project: Project) -> None:
    """Nobody edited host_cores."""
    names = {each["Config"]["Hostname"] for each in project.containers("agent")}

    nodes = project.quakegrid("status")["nodes"]

    assert len(names) == 2
    assert {node["node"] for node in nodes} == names
    assert all(node["core_count"] == 1 for node in nodes)


@pytest.mark.parametrize("service", SERVICES)
def test_container_is_another_user_on_a_root_that_is_read_only(project: Project, service: str) -> None:
    """Nor has it any capability, or a way to get one."""
    script = "id -u; touch /etc/x 2>/dev/null || echo denied; grep CapBnd /proc/self/status"

    said = project.must("exec", "-T", service, "sh", "-c", script).split()

    assert said[0] != "0"
    assert said[1:] == ["denied", "CapBnd:", "0000000000000000"]


def test_shared_directory_is_read_only_for_agents(project: Project) -> None:
    """They see what the driver writes, and change nothing."""
    project.must("exec", "-T", "driver", "sh", "-c", "echo seen > /shared/seen")

    read = project.must("exec", "-T", "agent", "cat", "/shared/seen")
    written = project.call("exec", "-T", "agent", "touch", "/shared/touched")

    assert read == "seen\n"
    assert written.returncode != 0
    assert "Read-only" in written.stdout + written.stderr


def test_limits_come_from_the_environment(project: Project) -> None:
    """Of an agent: processor time and memory."""
    for container in project.containers("agent"):
        assert container["HostConfig"]["Memory"] == 4 << 30
        assert container["HostConfig"]["NanoCpus"] == 1_500_000_000


def test_images_of_dbserver_and_broker_have_no_engine(project: Project) -> None:
    """They are small, and nothing in them can run a pickle of the engine's."""
    for service in ("dbserver", "broker"):
        found = project.call("exec", "-T", service, "python", "-c", "import openquake.baselib")
        assert "ModuleNotFoundError" in found.stdout + found.stderr


def test_person_logs_in_and_asks_the_engine(project: Project) -> None:
    """Over TLS at the port of the host, by a password; the pages reach the agent in the other container."""
    script = "echo correct horse battery | quakegrid user add quakegrid --role admin --password"
    project.must("exec", "-T", "driver", "sh", "-c", script)
    trust = ssl.create_default_context(cadata=project.must("exec", "-T", "driver", "quakegrid", "web", "ca"))

    with httpx.Client(base_url="https://localhost:8800", verify=trust, timeout=120) as web:
        assert web.get("/v1/calc/list").status_code == 403
        answer = web.post(
            "/accounts/ajax_login/", data={"username": "quakegrid", "password": "correct horse battery"}
        )
        assert answer.status_code == 200, answer.text
        assert web.get("/v1/ini_defaults").json()["aggregate_by"] == []
        page = web.get("/calculations")
        assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
        assert "<title>Calculations - QuakeGrid</title>" in page.text


def test_doctor_finds_nothing(project: Project) -> None:
    """A cluster as we describe it is one that we would praise."""
    done = project.call("exec", "-T", "driver", "quakegrid", "doctor")

    assert done.returncode == 0, done.stdout + done.stderr


def test_quakegrid_runs_inside(project: Project) -> None:
    """The first calculation of the documentation."""
    said = project.must("exec", "-T", "driver", "quakegrid", "demo", "--dir", "demo")

    assert "complete in" in said


@pytest.mark.parametrize("case", [Case("event_based/case_6")], ids=lambda case: case.folder)
def test_calculation_that_loses_an_agent_gives_the_same_numbers(
    case: Case, plain_engine: PlainEngine, project: Project, tmp_path: Path
) -> None:
    """An agent is killed while it runs a task; another runs it again; `deploy/run.sh` brings the numbers."""
    (job,) = prepare(case, tmp_path / "case")
    (expected_dir,) = plain_engine.exports(case)
    params = [arg for key, value in PARAMS.items() for arg in ("-p", f"{key}={value}")]
    out = tmp_path / "out"

    running = subprocess.Popen(
        [ROOT / "deploy" / "run.sh", job.job_ini, out, *params],
        env=project.environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        wait_until(lambda: len(busy_nodes(project)) == 2, "tasks on both agents")
        victim = busy_nodes(project)[0]["node"]
        project.run(["docker", "kill", victim])
        said, _ = running.communicate(timeout=600)
    finally:
        running.kill()
        running.wait()

    assert running.returncode == 0, said
    assert find_differences(expected_dir, out) == []
    found = re.search(r"job (\d+) complete", said)
    assert found, said
    report = project.quakegrid("report", found[1])
    assert report["retry_count"] >= 1
    assert report["lost_s"] > 0
    assert project.warm_count() == 1


def busy_nodes(project: Project) -> list[dict[str, Any]]:
    """The nodes whose workers run the tasks that take seconds."""
    status = project.quakegrid("status")
    if not any(session["done_count"] >= 5 for session in status["sessions"]):
        return []
    return [node for node in status["nodes"] if node["running_count"]]


def test_agents_are_scaled_while_the_cluster_is_up(project: Project) -> None:
    """The one that was killed comes back, and others with it."""
    project.must("up", "-d", "--scale", "agent=3")

    wait_until(lambda: project.warm_count() == 3, "three warm agents")


def test_nothing_is_left_when_it_is_removed(project: Project) -> None:
    """`down --volumes` leaves no container, volume or network; this is the last test."""
    assert project.left()

    project.remove()

    assert project.left() == []
