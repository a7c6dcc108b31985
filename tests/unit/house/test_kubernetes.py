"""The manifests of deploy/kubernetes: valid by Kubernetes' schemas, and in agreement with the code."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from quakegrid.machine import service_files
from quakegrid.services.agent.agentctl import __main__
from quakegrid.services.agent.node.agent import STOP_DEADLINE_S
from quakegrid.services.agent.node.membership import LAST_LEAVE_TIMEOUT_S
from quakegrid.settings import config

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / "deploy" / "kubernetes"
KUBERNETES = "1.31"
NAMESPACE = "quakegrid"
FILES = sorted(path for path in FOLDER.glob("*.yaml") if path.name != "kustomization.yaml")
OBJECTS: list[dict[str, Any]] = [
    each for path in FILES for each in yaml.safe_load_all(path.read_text(encoding="utf-8"))
]
WORKLOADS = [each for each in OBJECTS if each["kind"] in {"Deployment", "DaemonSet"}]
PODS = [each["spec"]["template"]["spec"] for each in WORKLOADS]
CORES = "$(QUAKEGRID_AGENT_CORES)"


def name_of(found: dict[str, Any]) -> str:
    """Kind and name."""
    return f"{found['kind']}-{found['metadata']['name']}"


def containers(kind: str = "containers") -> Iterator[dict[str, Any]]:
    """Those of all pods."""
    return (each for pod in PODS for each in pod.get(kind, ()))


def named(kind: str, name: str) -> dict[str, Any]:
    """One object."""
    return next(each for each in OBJECTS if (each["kind"], each["metadata"]["name"]) == (kind, name))


def ports_of(service: str) -> set[int]:
    """Ports of a Service."""
    return {port["port"] for port in named("Service", service)["spec"]["ports"]}


@pytest.mark.parametrize("found", OBJECTS, ids=name_of)
def test_manifest_is_valid(found: dict[str, Any]) -> None:
    """Strictly: a field that the schema does not have is an error, too."""
    kubernetes_validate.validate(found, KUBERNETES, strict=True)

    if found["kind"] != "Namespace":
        assert found["metadata"]["namespace"] == NAMESPACE


def test_kustomization_has_every_file_and_image() -> None:
    """Nothing is forgotten by `kubectl apply -k`."""
    found = yaml.safe_load((FOLDER / "kustomization.yaml").read_text(encoding="utf-8"))

    assert sorted(found["resources"]) == [path.name for path in FILES]
    assert {image["name"] for image in found["images"]} == {each["image"] for each in containers()}


def test_ports_are_those_of_the_code(tmp_path: Path) -> None:
    """Of the services, and those that the network policy lets in."""
    settings = config.load_settings(tmp_path, {"OQ_CONFIG_FILE": str(ROOT / "deploy" / "openquake.cfg")})
    (rule,) = named("NetworkPolicy", "quakegrid")["spec"]["ingress"]
    allowed = {
        number
        for port in rule["ports"]
        for number in range(port["port"], port.get("endPort", port["port"]) + 1)
    }

    assert ports_of(settings.dbserver_host) == {settings.dbserver_port}
    assert ports_of(settings.broker_host) == {settings.broker_port, *settings.lane_ports}
    assert allowed == {*ports_of("dbserver"), *ports_of("broker"), settings.agent_port}


@pytest.mark.parametrize("found", WORKLOADS, ids=name_of)
def test_services_lead_to_pods_and_images_to_targets_of_the_dockerfile(found: dict[str, Any]) -> None:
    """Selectors and labels agree, images are what `docker compose build` makes."""
    labels = found["spec"]["template"]["metadata"]["labels"]
    dockerfile = (ROOT / "deploy" / "Dockerfile").read_text(encoding="utf-8")
    targets = re.findall(r"^FROM \S+ AS (\w+)$", dockerfile, re.MULTILINE)

    assert found["spec"]["selector"]["matchLabels"] == labels
    for container in found["spec"]["template"]["spec"]["containers"]:
        assert container["image"].removeprefix("quakegrid-") in targets
    service = next((each for each in OBJECTS if name_of(each) == f"Service-{labels['app']}"), None)
    assert service is None or service["spec"]["selector"] == labels
    assert (service is None) == (labels["app"] in {"driver", "agents"})


@pytest.mark.parametrize("container", list(containers()), ids=lambda each: str(each["name"]))
def test_command_and_probes_are_ours(container: dict[str, Any]) -> None:
    """The real command line takes them."""
    program, *args = container["command"]

    if program == "agentctl":
        verb, *options = ["4" if each == CORES else each for each in args]
        __main__.cli.commands[verb].make_context(verb, options)
    else:
        assert (program, args[0]) == ("python", "-m")
        assert importlib.util.find_spec(f"{args[1]}.__main__")
    service = "agent" if program == "agentctl" else args[1].removeprefix("quakegrid.services.")
    assert service in service_files.ALL_SERVICES
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert container[probe]["exec"]["command"] == ["python", "-m", "quakegrid.health", service]


def test_agents_have_the_time_to_leave() -> None:
    """Kubernetes kills later than they need at most."""
    pod = named("DaemonSet", "agents")["spec"]["template"]["spec"]
    command = pod["containers"][0]["command"]
    params = __main__.serve.make_context("serve", [*command[2:5], "4", *command[6:]]).params

    assert command[5] == CORES
    assert pod["containers"][0]["resources"]["limits"]["cpu"], "the variable is this limit"
    assert params["join"] == "broker"
    needed_s = params["leave_s"] + STOP_DEADLINE_S + LAST_LEAVE_TIMEOUT_S
    assert 30 <= params["leave_s"] < needed_s < pod["terminationGracePeriodSeconds"] - 10


def test_nobody_has_more_rights_than_needed() -> None:
    """No root, no privileges, no writable image, no token."""
    for pod in PODS:
        assert pod["automountServiceAccountToken"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys()
    for container in (*containers(), *containers("initContainers")):
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }


@pytest.mark.parametrize("pod", PODS, ids=lambda pod: str(pod["containers"][0]["name"]))
def test_volumes_are_where_the_image_looks(pod: dict[str, Any]) -> None:
    """State and /tmp can be written, agents cannot write to the shared directory, claims exist."""
    names = {mount["name"] for container in pod["containers"] for mount in container["volumeMounts"]}
    assert names == {volume["name"] for volume in pod["volumes"]}
    for container in pod["containers"]:
        check_volumes(pod, container)


def check_volumes(pod: dict[str, Any], container: dict[str, Any]) -> None:
    """Those of one container."""
    mounts = {mount["mountPath"]: mount for mount in container["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    environ = {each["name"]: each.get("value") for each in container["env"]}
    claims = {each["metadata"]["name"] for each in OBJECTS if each["kind"] == "PersistentVolumeClaim"}

    assert {"/var/lib/quakegrid", "/tmp"} <= mounts.keys()
    secret = volumes[mounts[str(Path(environ["OQ_CONFIG_FILE"]).parent)]["name"]]["secret"]
    assert secret["secretName"] == "authkey"
    used = {
        each["persistentVolumeClaim"]["claimName"]
        for each in pod["volumes"]
        if len(each) > 1 and "persistentVolumeClaim" in each
    }
    assert used <= claims
    if container["image"] == "quakegrid-agent":
        assert mounts["/shared"].get("readOnly", False) == (container["name"] == "agents")
    if container["command"][0] == "agentctl":
        assert volumes[mounts["/dev/shm"]["name"]]["emptyDir"]["medium"] == "Memory"


def test_web_sees_what_its_agent_sees() -> None:
    """It asks the agent at a socket, and reads what drivers have exported."""
    agent, web = named("Deployment", "driver")["spec"]["template"]["spec"]["containers"]
    shared = {"/var/lib/quakegrid", "/tmp", "/shared"}

    for container in (agent, web):
        assert shared <= {mount["mountPath"] for mount in container["volumeMounts"]}
    of_agent, of_web = (
        {(mount["name"], mount["mountPath"]) for mount in each["volumeMounts"]} for each in (agent, web)
    )
    assert of_web < of_agent


def test_command_that_makes_the_secret_is_in_the_manual() -> None:
    """With the name and the key that pods mount."""
    page = (ROOT / "docs" / "how-to" / "kubernetes.md").read_text(encoding="utf-8")

    assert "create secret generic authkey --from-file=authkey=deploy/secrets/authkey" in page
