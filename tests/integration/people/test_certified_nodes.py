"""Nodes without the authkey: `agentctl join --token`, an agent with a certificate, and what shuts it out."""

from __future__ import annotations

import datetime
import json
import shutil
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from quakegrid import errors
from quakegrid.access.proofs import Certified
from quakegrid.api.v1 import nodes_pb2, nodes_pb2_grpc
from quakegrid.clients import node_access
from quakegrid.clients.broker import NodeStatus
from quakegrid.clients.connection import Connection
from quakegrid.clients.dbserver.client import DbClient
from quakegrid.clients.node_access import NodeAccessClient
from quakegrid.internal.v1 import membership_pb2, membership_pb2_grpc, orders_pb2, orders_pb2_grpc
from quakegrid.machine import node_state
from quakegrid.settings import config, node_files
from quakegrid.settings.config import Settings
from tests.support.calls import sdk_calls
from tests.support.dbservers import LocalDbServer
from tests.support.nodes import Nodes, environment, run, wait_until
from tests.support.processes import Service

TIMEOUT_S = 30.0
COUNT = 200


class CertifiedNodes:
    """A master whose `host_cores` names no node, and machines that have neither authkey nor address of it."""

    def __init__(self, directory: Path, *, engine: bool = False) -> None:
        self.nodes = Nodes(directory, "none", engine)
        self.master = self.nodes.master
        self._dbserver = LocalDbServer(self.master)
        self._dbserver.start()

    def machine(self, number: int) -> Settings:
        """A new machine, at 127.0.0.number."""
        settings = self.nodes.settings_of(number)
        path = settings.state_dir / "openquake.cfg"
        kept = [
            line
            for line in path.read_text().splitlines()
            if not line.startswith(("authkey", "host ", "port"))
        ]
        path.write_text("\n".join(kept) + "\n")
        return config.load_settings(settings.state_dir, {"OQ_CONFIG_FILE": str(path)})

    def token(self) -> str:
        """A token, as `quakegrid token create --node` makes it."""
        addresses = (self.master.dbserver_address, self.master.broker_address)
        with DbClient(self.master) as database:
            return NodeAccessClient(database).create_token(addresses, datetime.timedelta(hours=1))[1]

    def join(self, settings: Settings, name: str) -> None:
        """Make a machine the node of this name, as `agentctl join --token` does."""
        file = node_access.join(self.token(), name)
        node_files.write(settings.state_dir, file)
        node_state.change(settings.state_dir, master=file.broker)

    def agents(self, **numbers: int) -> list[Settings]:
        """Nodes of these names whose agents run and are in the fleet."""
        made = []
        for name, number in numbers.items():
            made.append(self.machine(number))
            self.join(made[-1], name)
            self.nodes.service(made[-1], "agent")
        wait_until(lambda: set(self.nodes.up()) >= set(numbers))
        return made

    def node(self, host: str) -> NodeStatus:
        """A node of the fleet."""
        return next(each for each in self.nodes.status().nodes if each.host == host)

    def close(self) -> None:
        """End everything."""
        self.nodes.close()
        self._dbserver.close()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CertifiedNodes]:
    """A dbserver and a broker without a node; each test has nodes of its own."""
    made = CertifiedNodes(tmp_path_factory.mktemp("cluster"))
    try:
        yield made
    finally:
        made.close()


def proof_of(settings: Settings) -> Certified:
    """What a node has."""
    file = node_files.read(settings.state_dir)
    assert file is not None
    return file.proof


def test_machine_becomes_a_node_with_a_token(cluster: CertifiedNodes) -> None:
    """By two commands; it has no authkey, and its certificate is for its agent's user only."""
    settings = cluster.machine(2)
    created = cluster.nodes.quakegrid("token", "create", "--node", "--host", "n2", "--hours", "2")
    assert created.returncode == 0, created.stderr
    assert "for n2, until " in created.stderr

    joined = run("agentctl", settings, "join", "127.0.0.1", "--token", created.stdout)

    assert (joined.returncode, joined.stdout) == (0, ""), joined.stderr
    assert f"this machine is the node n2 of {cluster.master.broker_address} until " in joined.stderr
    assert "start the agent now: `agentctl serve`" in joined.stderr
    path = node_files.path_of(settings.state_dir)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert not any(cluster.master.authkey in each.read_text() for each in settings.state_dir.glob("*.*"))
    assert [each.name for each in settings.state_dir.iterdir() if "credential" in each.name] == [path.name]
    cluster.nodes.service(settings, "agent")
    wait_until(lambda: "n2" in cluster.nodes.up())
    found = cluster.node("n2")
    assert (found.proof, found.address) == ("certificate", f"127.0.0.2:{settings.agent_port}")
    status = json.loads(run("agentctl", settings, "status", "--output", "json").stdout)
    assert (status["proof"], status["is_watched"], status["master"]) == (
        "certificate",
        True,
        cluster.master.broker_address,
    )
    left = run("agentctl", settings, "leave")
    assert left.returncode == 0, left.stderr
    wait_until(lambda: all(each.host != "n2" for each in cluster.nodes.status().nodes))


def test_revoked_node_is_shut_out_at_once_and_comes_back_with_a_token(cluster: CertifiedNodes) -> None:
    """Its link is closed, it cannot join again, its log says what helps; another node goes on."""
    settings, _ = cluster.agents(out=4, stays=5)

    revoked = cluster.nodes.quakegrid("node", "revoke", "out")

    assert "revoked: out" in revoked.stderr
    wait_until(lambda: all(each.host != "out" for each in cluster.nodes.status().nodes))
    wait_until(lambda: "`agentctl join --token TOKEN`" in log_of(settings))
    assert "out" not in cluster.nodes.up()
    assert "stays" in cluster.nodes.up()

    again = run("agentctl", settings, "join", "--token", cluster.token(), "--name", "out")  # it takes it

    assert again.returncode == 0, again.stderr
    wait_until(lambda: {"out", "stays"} <= set(cluster.nodes.up()))


def log_of(settings: Settings) -> str:
    """What an agent has logged."""
    return (settings.state_dir / "agent.log").read_text()


def test_node_does_not_do_what_only_a_broker_may(cluster: CertifiedNodes) -> None:
    """Not on another node, nor on itself; and it neither speaks for another node nor stops it."""
    one, other = cluster.agents(n6=6, n7=7)
    asked = orders_pb2.StartWorkersRequest()
    for node, host, port in (("n7", "127.0.0.7", other.agent_port), ("n6", "127.0.0.6", one.agent_port)):
        address = f"{host}:{port}"
        with Connection("agent", address, proof_of(one), node=node, timeout_s=TIMEOUT_S) as connection:
            stub = orders_pb2_grpc.OrdersStub(connection.channel)
            with pytest.raises(errors.NotAllowedError, match="you are the node n6 and may not start workers"):
                connection.call(stub.StartWorkers, asked)
    broker = cluster.master.broker_address
    with Connection("broker", broker, proof_of(one), timeout_s=TIMEOUT_S) as connection:
        stub = membership_pb2_grpc.MembershipStub(connection.channel)
        with pytest.raises(errors.NotAllowedError, match="the node n7 is not yours; you are the node n6"):
            connection.call(stub.LeaveNode, membership_pb2.LeaveNodeRequest(host="n7"))

    address = f"127.0.0.7:{other.agent_port}"
    with Connection("agent", address, proof_of(one), node="n7", timeout_s=TIMEOUT_S) as connection:
        nodes = nodes_pb2_grpc.NodesStub(connection.channel)
        with pytest.raises(errors.NotAllowedError, match="the node n7 is not yours"):
            connection.call(nodes.StopServing, nodes_pb2.StopServingRequest(force=True))
    stopped = run("agentctl", one, "stop", "--output", "json")
    assert json.loads(stopped.stdout)["service"] == "stopped", stopped.stderr
    wait_until(lambda: not cluster.node("n6").is_up)
    assert cluster.node("n7").is_up


def test_copied_certificate_is_of_no_use(cluster: CertifiedNodes) -> None:
    """On a machine of another name the agent refuses it; under the same name, the node that is up stays."""
    (original,) = cluster.agents(n8=8)
    copy = cluster.machine(9)
    path = Path(shutil.copy2(node_files.path_of(original.state_dir), copy.state_dir))
    document = json.loads(path.read_text())
    path.write_text(json.dumps(document | {"machine": "elsewhere"}))

    code, words = Service(copy, "agent").fail_to_start()

    assert code == 2
    assert "the certificate of the node n8 is of the machine elsewhere" in words
    assert "`agentctl join --token TOKEN`" in words

    path.write_text(json.dumps(document))
    (copy.state_dir / "node.json").write_text((original.state_dir / "node.json").read_text())
    cluster.nodes.service(copy, "agent")
    wait_until(lambda: "so that the machine at 127.0.0.9:" in log_of(copy))
    assert cluster.node("n8").is_up
    assert cluster.node("n8").address == f"127.0.0.8:{original.agent_port}"


def test_certificate_that_others_can_read_is_refused(cluster: CertifiedNodes) -> None:
    """As is one that has ended, and a damaged one; each with the command that helps."""
    settings = cluster.machine(3)
    cluster.join(settings, "n3")
    path = node_files.path_of(settings.state_dir)
    whole = path.read_text()
    path.chmod(0o640)
    open_code, open_words = Service(settings, "agent").fail_to_start()
    path.chmod(0o600)
    path.write_text(json.dumps(json.loads(whole) | {"end_time": "2020-01-01T00:00:00+00:00"}))
    ended_code, ended_words = Service(settings, "agent").fail_to_start()
    asked = run("agentctl", settings, "status")
    path.write_text(whole[:300])
    damaged_code, damaged_words = Service(settings, "agent").fail_to_start()
    path.unlink()
    none_code, none_words = Service(settings, "agent").fail_to_start()

    assert (open_code, ended_code, damaged_code, none_code, asked.returncode) == (2, 2, 2, 2, 2)
    assert f"`chmod 600 {path}`" in open_words
    assert "ended on 2020-01-01; `agentctl join --token TOKEN`" in ended_words
    assert "ended on 2020-01-01" in asked.stderr
    assert f"{path} is damaged; `agentctl join --token TOKEN`" in damaged_words
    assert "no authkey" in none_words


def test_machine_with_the_authkey_needs_no_token(cluster: CertifiedNodes) -> None:
    """It would be known in two ways."""
    settings = cluster.nodes.settings_of(3)

    done = run("agentctl", settings, "join", "--token", cluster.token(), "--name", "n3")

    assert done.returncode == 1
    assert f"this machine has the authkey, in {settings.authkey_path}, and needs no token" in done.stderr


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("--token", "hello"), "that is no token of `quakegrid token create --node`"),
        (("--name", "n2"), "--name is for a node that joins with a token"),
        (("m:1", "--token", "hello"), "give the master's host only"),
    ],
)
def test_bad_command_is_refused_in_words(cluster: CertifiedNodes, args: tuple[str, ...], words: str) -> None:
    """With exit code 2."""
    done = run("agentctl", cluster.machine(2), "join", *args)

    assert (done.returncode, words in done.stderr) == (2, True), done.stderr


def test_node_without_the_authkey_runs_tasks(cluster: CertifiedNodes) -> None:
    """Its workers get from the broker what opens their lane."""
    cluster.agents(n10=10)
    with cluster.nodes.cluster() as sdk, sdk.executor() as executor:
        calls = [executor.submit(sdk_calls.take_a_moment, number) for number in range(COUNT)]
        results = [call.result(TIMEOUT_S) for call in calls]

    assert sum(results) == sum(range(COUNT))
    assert {node.proof for node in cluster.nodes.status().nodes} == {"certificate"}


@pytest.mark.full
def test_calculation_is_started_on_a_node_without_the_authkey(tmp_path: Path) -> None:
    """By `quakegrid run` there: the dbserver certifies the driver, whose workers are on the node as well."""
    import openquake.qa_tests_data.classical.case_01 as case

    made = CertifiedNodes(tmp_path, engine=True)
    try:
        (settings,) = made.agents(n2=2)
        folder = tmp_path / "model"
        shutil.copytree(Path(case.__file__).parent, folder)

        done = run("quakegrid", settings, "run", str(folder / "job.ini"), "--output", "json")

        assert done.returncode == 0, done.stderr + log_of(settings)
        (job,) = json.loads(done.stdout)["jobs"]
        with DbClient(made.master) as database:
            found = database.jobs.get_job(job["job_id"])
            assert str(found.state) == "complete"
            NodeAccessClient(database).revoke_node("n2")
        refused = run("quakegrid", settings, "run", str(folder / "job.ini"))
        assert refused.returncode != 0
        assert "the credential of the node n2 was revoked" in refused.stderr
    finally:
        made.close()


def test_agent_joins_with_a_token_when_it_starts(cluster: CertifiedNodes) -> None:
    """For nodes that a scheduler starts: one command, the token in its environment, and nothing is kept."""
    settings = cluster.machine(11)
    name = socket.gethostname().lower()
    (settings.state_dir / "tmp").mkdir()
    variables = {"QUAKEGRID_TOKEN": cluster.token(), "TMPDIR": str(settings.state_dir / "tmp")}
    command = [str(Path(sys.executable).with_name("agentctl")), "serve", "--temporary", "--port", "0"]
    log = settings.state_dir / "agent.log"
    with log.open("wb") as stream:
        agent = subprocess.Popen(command, env=environment(settings) | variables, stderr=stream)
    try:
        wait_until(lambda: name in cluster.nodes.up() or agent.poll() is not None)
        assert agent.poll() is None, log_of(settings)
        assert cluster.node(name).proof == "certificate"
    finally:
        agent.terminate()
        agent.wait(TIMEOUT_S)

    assert agent.returncode == 0, log_of(settings)
    assert list((settings.state_dir / "tmp").iterdir()) == []
