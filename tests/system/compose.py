"""The cluster of docker-compose.yml as a project of its own, driven as its users drive it."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from quakegrid.settings import authkeys

ROOT = Path(__file__).parents[2]
PROJECT = f"quakegrid-test-{os.getpid()}"
SERVICES = ("dbserver", "broker", "driver", "web", "agent")
# Images are built by it, and the engine's kernels compiled.
TIMEOUT_S = 1800
POLL_S = 0.2


def wait_until(is_so: Callable[[], Any], what: str, timeout_s: float = 300) -> None:
    """Ask until it is so."""
    end_s = time.monotonic() + timeout_s
    while not is_so():
        assert time.monotonic() < end_s, f"never came: {what}"
        time.sleep(POLL_S)


def find_command() -> list[str]:
    """Compose v2 if there, else docker-compose; QUAKEGRID_COMPOSE chooses."""
    chosen = os.environ.get("QUAKEGRID_COMPOSE")
    if chosen:
        return chosen.split()
    is_v2 = subprocess.run(["docker", "compose", "version"], capture_output=True, check=False).returncode == 0
    return ["docker", "compose"] if is_v2 else ["docker-compose"]


class Project:
    """One cluster in containers, with a secret, a network and volumes of its own.

    Args:
        directory: where its secret goes.
    """

    def __init__(self, directory: Path) -> None:
        self.command = find_command()
        secret = directory / "authkey"
        secret.write_text(f"[dbserver]\nauthkey = {authkeys.new_authkey()}\n", encoding="utf-8")
        secret.chmod(0o644)
        self.environ = dict(os.environ) | {
            "COMPOSE_PROJECT_NAME": PROJECT,
            "QUAKEGRID_AUTHKEY_FILE": str(secret),
            "QUAKEGRID_TAG": "test",
            "QUAKEGRID_AGENT_CPUS": "1.5",
            "QUAKEGRID_AGENT_MEMORY": "4g",
        }
        if not _has_buildx():  # Debian's docker.io is without; newer clients insist on it
            self.environ["DOCKER_BUILDKIT"] = "0"

    def call(self, *args: object, timeout_s: float = TIMEOUT_S) -> subprocess.CompletedProcess[str]:
        """Run Compose with these arguments to its end, whatever its exit code."""
        return self.run([*self.command, *map(str, args)], timeout_s)

    def run(self, command: list[str], timeout_s: float = TIMEOUT_S) -> subprocess.CompletedProcess[str]:
        """Run a command in the project's environment, whatever its exit code."""
        return subprocess.run(
            command,
            cwd=ROOT,
            env=self.environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    def must(self, *args: object) -> str:
        """Run Compose; what it printed."""
        done = self.call(*args)
        assert done.returncode == 0, f"{args}: {done.stderr}{done.stdout}"
        return done.stdout

    def quakegrid(self, *args: object) -> Any:
        """Run `quakegrid` inside; what it printed as JSON."""
        return json.loads(self.must("exec", "-T", "driver", "quakegrid", *args, "--output", "json"))

    def containers(self, service: str) -> list[dict[str, Any]]:
        """What Docker knows of the containers of a service, running or not."""
        listed = self.run(
            [
                *("docker", "ps", "--all", "--quiet"),
                *("--filter", f"label=com.docker.compose.project={PROJECT}"),
                *("--filter", f"label=com.docker.compose.service={service}"),
            ]
        ).stdout.split()
        return list(json.loads(self.run(["docker", "inspect", *listed]).stdout)) if listed else []

    def start(self, agents: int) -> None:
        """Build what is not built, start, and wait until every container is healthy and every agent warm."""
        self.must("build")
        self.must("up", "-d", "--scale", f"agent={agents}")
        wait_until(self._is_healthy, "healthy containers")
        wait_until(lambda: self.warm_count() == agents, "warm agents")

    def warm_count(self) -> int:
        """Nodes that are ready to run tasks."""
        nodes = self.quakegrid("status")["nodes"]
        return sum(node["is_up"] and node["state"] == "warm" for node in nodes)

    def _is_healthy(self) -> bool:
        found = [self.containers(service) for service in SERVICES]
        states = [
            each["State"].get("Health", {}).get("Status") for containers in found for each in containers
        ]
        return all(found) and set(states) == {"healthy"}

    def left(self) -> list[str]:
        """What Docker still has of it: containers, volumes and networks."""
        kinds = (("container", "--all"), ("volume",), ("network",))
        only = ("--quiet", "--filter", f"label=com.docker.compose.project={PROJECT}")
        listed = [self.run(["docker", kind, "ls", *options, *only]) for kind, *options in kinds]
        assert all(done.returncode == 0 for done in listed), [done.stderr for done in listed]
        return [name for done in listed for name in done.stdout.split()]

    def remove(self) -> None:
        """Remove its containers, volumes and network."""
        self.call("down", "--volumes", "--remove-orphans", "--timeout", "5", timeout_s=120)


def _has_buildx() -> bool:
    done = subprocess.run(["docker", "buildx", "version"], capture_output=True, check=False)
    return done.returncode == 0
