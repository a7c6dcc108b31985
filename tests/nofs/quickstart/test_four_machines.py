"""The tutorial for four machines that share nothing: its commands word by word, and right numbers.

Then a person's own machine, in the same network: no engine, a credential, TLS, and the numbers again.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.engine.cases import Case, prepare
from tests.engine.exports import find_differences
from tests.engine.plain_runs import PlainEngine, running_plain_engine
from tests.nofs.quickstart import page
from tests.nofs.quickstart.machine import HOME, PERSON, PERSON_UID, Machine, OfThePage, copy_of_checkout
from tests.support.namespaces import NamespaceError
from tests.system.machines import wait_until

pytestmark = [pytest.mark.engine, pytest.mark.full, pytest.mark.alone, pytest.mark.timeout(3000)]
MOST_COMMANDS = 2
NODE_COUNT = 3
# Long enough for all machines to have a part in it.
CASE, PARAMS = Case("event_based/case_6"), {"concurrent_tasks": "24"}
WARM_S = 1500.0
COMMANDS = page.commands()


@dataclass(frozen=True)
class Installed:
    """Four machines as the page leaves them, before the calculation."""

    master: Machine
    nodes: list[Machine]
    desk: Machine

    def json(self, command: str) -> Any:
        """What a command of the services' user prints on the master."""
        return json.loads(self.master.type(f"sudo -u quakegrid quakegrid {command} --output json").stdout)

    def is_warm(self) -> bool:
        """Whether all machines can work."""
        found = self.json("status")["nodes"]
        return len([node for node in found if str(node["state"]).startswith("warm")]) == NODE_COUNT + 1


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PlainEngine]:
    """The plain engine at work on the same calculation."""
    with running_plain_engine(tmp_path_factory.mktemp("plain"), [CASE], PARAMS) as plain:
        yield plain


@pytest.fixture(scope="module")
def installed(plain: PlainEngine) -> Iterator[Installed]:
    """What is typed on each machine, in the order of the page."""
    with contextlib.ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="qgq"))
        stack.callback(shutil.rmtree, folder)
        try:
            network = stack.enter_context(OfThePage(NODE_COUNT + 2))
        except NamespaceError as exc:
            pytest.skip(f"machines need root and iproute2: {exc}")
        (folder / "repository").mkdir()
        repository = copy_of_checkout(folder / "repository")
        master, *nodes, desk = [
            stack.enter_context(_machine(network, number, folder, repository).running())
            for number in network.nodes
        ]
        token = ""
        for command in COMMANDS[page.ON_MASTER]:
            token = master.type(command).stdout.strip()
            master.give_kernels()
        for node in nodes:
            for command in COMMANDS[page.ON_NODE]:
                node.type(command, {"TOKEN": token})
                node.give_kernels()
        found = Installed(master, nodes, desk)
        wait_until(found.is_warm, lambda: found.json("status")["nodes"], WARM_S)
        yield found


def _machine(network: OfThePage, number: int, folder: Path, repository: Path) -> Machine:
    own = folder / network.node_name(number)
    own.mkdir()
    return Machine(network, number, own, repository)


def put_model(machine: Machine, folder: Path) -> Path:
    """A model in the person's home on a machine; its folder there."""
    (job,) = prepare(CASE, folder / "case")
    text = job.job_ini.read_text(encoding="utf-8")
    more = f"\n[more]\nconcurrent_tasks = {PARAMS['concurrent_tasks']}\n"
    job.job_ini.write_text(text + more, encoding="utf-8")
    model = HOME / "model"
    shutil.copytree(job.job_ini.parent, machine.path(model))
    subprocess.run(["chown", "-R", f"{PERSON_UID}:{PERSON_UID}", machine.path(model)], check=True)
    return model


def test_node_takes_two_commands() -> None:
    """A line that is typed counts as one command; each node of the page is one machine."""
    assert 0 < len(COMMANDS[page.ON_NODE]) <= MOST_COMMANDS
    assert len(COMMANDS[page.ON_MASTER]) == 4
    assert len(COMMANDS[page.RUN]) == 1


def test_numbers_are_the_plain_engines(installed: Installed, plain: PlainEngine, tmp_path: Path) -> None:
    """All four machines compute, and no node has the key, or sees anything of the master's."""
    (job,) = prepare(CASE, tmp_path / "case")
    text = job.job_ini.read_text(encoding="utf-8")
    job.job_ini.write_text(
        f"{text}\n[more]\nconcurrent_tasks = {PARAMS['concurrent_tasks']}\n", encoding="utf-8"
    )
    model = HOME / "model"
    shutil.copytree(job.job_ini.parent, installed.master.path(model))
    subprocess.run(["chown", "-R", f"{PERSON_UID}:{PERSON_UID}", installed.master.path(model)], check=True)

    (command,) = COMMANDS[page.RUN]
    done = installed.master.type(command, who=PERSON, folder=model)

    assert find_differences(plain.exports(CASE)[0], installed.master.path(model / "out")) == []
    log = installed.master.type("sudo -u quakegrid quakegrid jobs logs -1").stdout
    for node in installed.nodes:
        assert f"node {node.name} does not share" in log, done.stderr
        assert not node.path(model).exists()
        assert not node.path("/opt/quakegrid/venv/openquake.cfg").exists()
        assert "authkey" not in node.type("cat /var/lib/quakegrid/node_credential.json").stdout


def test_calculation_starts_on_a_node(installed: Installed, plain: PlainEngine, tmp_path: Path) -> None:
    """Its driver is there, so it is the master that is served."""
    node = installed.nodes[0]
    model = put_model(node, tmp_path)

    (command,) = COMMANDS[page.RUN]
    node.type(command, who=PERSON, folder=model)

    assert find_differences(plain.exports(CASE)[0], node.path(model / "out")) == []
    log = installed.master.type("sudo -u quakegrid quakegrid jobs logs -1").stdout
    assert f"node {installed.master.name} does not share" in log
    assert f"node {node.name} does not share" not in log


def test_person_at_a_desk_runs_over_tls(installed: Installed, plain: PlainEngine, tmp_path: Path) -> None:
    """As the manual says: the service listens, an account gets a credential, and the desk has no engine."""
    master, desk = installed.master, installed.desk
    config, file = "/opt/quakegrid/venv/openquake.cfg", f"{PERSON}.credential"
    master.type(f"printf '\\n[web]\\nlisten = 0.0.0.0\\n' | sudo tee -a {config}")
    master.type("sudo systemctl restart quakegrid-web")
    master.type(f"sudo -u quakegrid quakegrid user add {PERSON} --file /tmp/{file} --cluster-name lab")
    shutil.copy(master.path(f"/tmp/{file}"), desk.path(HOME / file))
    subprocess.run(["chown", f"{PERSON_UID}:{PERSON_UID}", desk.path(HOME / file)], check=True)
    desk.type('git clone "$REPOSITORY" quakegrid && sudo make -C quakegrid install-system EXTRAS=')
    model, quakegrid = put_model(desk, tmp_path), "/opt/quakegrid/venv/bin/quakegrid"
    assert desk.attempt("/opt/quakegrid/venv/bin/python -c 'import openquake.engine'").returncode != 0

    desk.type(f"{quakegrid} login {file}", who=PERSON)
    done = desk.type(f"{quakegrid} run job.ini --exports csv --export-dir out", who=PERSON, folder=model)

    assert "https://10.0.0.1:8800 has the rest" in done.stderr
    assert find_differences(plain.exports(CASE)[0], desk.path(model / "out")) == []
    job = installed.json("jobs show -1")
    assert (job["user_name"], job["state"]) == (PERSON, "complete")
    assert json.loads(desk.path(HOME / file).read_text(encoding="utf-8"))["web"] == "https://10.0.0.1:8800"
    # Nobody speaks plain HTTP there.
    code = (
        "import urllib.request; urllib.request.urlopen('http://10.0.0.1:8800/v1/engine_version', timeout=9)"
    )
    assert desk.attempt(f'/opt/quakegrid/venv/bin/python -c "{code}"').returncode != 0
