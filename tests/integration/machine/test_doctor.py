"""The doctor with real services and agents, and mistakes that were planted."""

from __future__ import annotations

import asyncio
import configparser
import contextlib
import datetime
import json
import os
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from time import monotonic
from typing import Any

import grpc
import pytest

from quakegrid import testing
from quakegrid.access.principals import PrincipalRole
from quakegrid.clients import agent as local_agents
from quakegrid.clients.dbserver.client import DbClient
from quakegrid.clients.dbserver.people import PeopleClient
from quakegrid.doctor import accounts as doctor_accounts
from quakegrid.doctor import probes, visits
from quakegrid.doctor.facts import AccountFacts, NameFacts, NodeFacts, PortFacts, PortState, Versions
from quakegrid.doctor.gathering import Errand, Gatherer
from quakegrid.internal.v1 import examination_pb2_grpc
from quakegrid.machine import local_services
from quakegrid.services.agent.node.doors.examination import ExaminationServicer
from quakegrid.settings import authkeys, config
from quakegrid.settings.config import Settings
from quakegrid.transport import certificates, credentials, grpc_channels

# Other machines, as far as one machine can have them.
SECOND, THIRD, FOURTH, FIFTH = "127.0.0.2", "127.0.0.3", "127.0.0.4", "127.0.0.5"
AGENTCTL = Path(sys.executable).with_name("agentctl")
QUAKEGRID = Path(sys.executable).with_name("quakegrid")
NO_ENGINE = {"preload": "none"}


class Doctored:
    """A cluster of real services, with further agents on other loopback addresses."""

    def __init__(self, folder: Path, hosts: tuple[str, ...]) -> None:
        (folder / "home").mkdir()
        self.environ = testing.isolated_environ(folder / "home")
        self.folder, self.state_dir = folder, folder / "master"
        host_cores = ", ".join(f"{host} 1" for host in (config.LOOPBACK, *hosts))
        extra = {"agent": NO_ENGINE, "zworkers": {"host_cores": host_cores}}
        testing.write_cluster_config(self.state_dir, extra)
        self.started: list[Settings] = []

    @property
    def settings(self) -> Settings:
        """As its files tell now."""
        return config.load_settings(self.state_dir, {})

    def start(self, *services: str) -> None:
        """Start services of the master."""
        self.started.append(self.settings)
        local_services.start(self.settings, services)

    def start_agent(self, host: str, authkey: str) -> None:
        """Start a further agent on another address, with an authkey of its own."""
        state_dir = self.folder / host
        state_dir.mkdir()
        parser = configparser.ConfigParser(interpolation=None)
        parser.read(self.state_dir / config.CONFIG_NAME)
        parser.read_dict({"agent": {"listen": host}, "dbserver": {"authkey": authkey}})
        with (state_dir / config.CONFIG_NAME).open("w") as stream:
            parser.write(stream)
        settings = config.load_settings(state_dir, {})
        self.started.append(settings)
        local_services.start(settings, ("agent",))

    @contextlib.contextmanager
    def changed(self, section: str, key: str, value: object) -> Iterator[None]:
        """Another setting on the disk for a while."""
        path = self.state_dir / config.CONFIG_NAME
        before = path.read_text()
        parser = configparser.ConfigParser(interpolation=None)
        parser.read_string(before)
        parser.set(section, key, str(value))
        with path.open("w") as stream:
            parser.write(stream)
        yield
        path.write_text(before)

    def call(self, program: Path, *args: str) -> subprocess.CompletedProcess[str]:
        """Run a command line to its end."""
        return subprocess.run(
            [str(program), "--state-dir", str(self.state_dir), *args],
            env=self.environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def doctor(self, program: Path = QUAKEGRID) -> tuple[int, list[dict[str, Any]]]:
        """Exit code of `doctor`, and its findings that are not fine."""
        done = self.call(program, "doctor", "--output", "json")
        assert done.stdout, done.stderr
        found = json.loads(done.stdout)
        assert found["would_break"] == (done.returncode == 1)
        return done.returncode, [finding for finding in found["findings"] if finding["severity"] != "ok"]

    def stop(self) -> None:
        """Leave nothing behind."""
        for settings in self.started:
            for record in reversed(local_services.running(settings).values()):
                local_services.stop(record)


@contextlib.contextmanager
def doctored(folder: Path, *hosts: str) -> Iterator[Doctored]:
    """A cluster whose services end with the block."""
    cluster = Doctored(folder, hosts)
    try:
        yield cluster
    finally:
        cluster.stop()


def relevant(findings: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Without what this machine itself may lack."""
    own = {
        *("swap", "memory_limit", "cpu_limit", "cpu_governor", "disk_space", "shared_memory", "overcommit"),
        *("root", "sqlite"),
    }
    return [finding for finding in findings if finding["check"] not in own]


@contextlib.contextmanager
def planted_agent(settings: Settings, host: str, facts: NodeFacts) -> Iterator[None]:
    """A real agent's face that tells facts which this machine cannot be made to have."""
    ready = threading.Event()
    loop = asyncio.new_event_loop()
    stopped = asyncio.Event()

    def gather(core_count: int, _errand: Errand) -> NodeFacts:
        return replace(facts, core_count=core_count)

    async def serve() -> None:
        server = grpc.aio.server(options=grpc_channels.SERVER_OPTIONS)
        servicer = ExaminationServicer(gather, lambda: 1, "planted")
        examination_pb2_grpc.add_ExaminationServicer_to_server(servicer, server)
        server.add_secure_port(
            f"{host}:{settings.agent_port}", credentials.server_credentials(settings.authkey)
        )
        await server.start()
        ready.set()
        await stopped.wait()
        await server.stop(0)

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    assert ready.wait(60)
    try:
        yield
    finally:
        loop.call_soon_threadsafe(stopped.set)
        thread.join()
        loop.close()


@contextlib.contextmanager
def tls_server(authkey: str, now_time: datetime.datetime | None = None) -> Iterator[PortFacts]:
    """A service with the certificate of an authkey, made at another time."""
    identity = credentials.new_identity(authkey, now_time)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    with contextlib.ExitStack() as stack:
        pair = os.memfd_create("identity")
        os.write(pair, identity.key_pem + identity.certificate_pem)
        context.load_cert_chain(f"/proc/self/fd/{pair}")
        os.close(pair)
        listener = stack.enter_context(socket.create_server((config.LOOPBACK, 0)))

        port = PortFacts("agent", config.LOOPBACK, listener.getsockname()[1])
        is_over = threading.Event()

        def serve() -> None:
            while not is_over.is_set():
                with (
                    contextlib.suppress(OSError),
                    context.wrap_socket(listener.accept()[0], server_side=True),
                ):
                    pass

        thread = threading.Thread(target=serve)
        thread.start()
        yield port
        is_over.set()
        socket.create_connection((port.host, port.number)).close()
        thread.join()


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Doctored]:
    """A cluster of one machine that is up."""
    with doctored(tmp_path_factory.mktemp("sound")) as cluster:
        cluster.start("dbserver", "broker", "agent")
        yield cluster


def test_agent_says_which_it_is_by_each_of_its_names(sound: Doctored) -> None:
    """So the doctor counts it once, and knows it as that of the machine where it runs."""
    settings = local_agents.local_settings(sound.settings)

    def told_by(host: str) -> str:
        end_s = monotonic() + 60  # a busy machine may leave a question without its answer
        while (found := visits.visit(settings, host, Errand())).facts is None:
            assert monotonic() < end_s, found
        return found.facts.instance_id

    told = [told_by(host) for host in ("localhost", config.LOOPBACK)]

    with contextlib.closing(local_agents.local_client(sound.settings)) as agent:
        own = agent.status().instance_id
    assert own
    assert told == [own, own]


def test_sound_cluster_is_sound(sound: Doctored) -> None:
    """Nothing is found, and nothing is left in the shared directory."""
    code, findings = sound.doctor()
    here_code, here = sound.doctor(AGENTCTL)
    table = sound.call(QUAKEGRID, "doctor").stdout

    assert relevant(findings) == []
    assert relevant(here) == []
    assert (code, here_code) == (0, 0)
    assert "checks were fine" in table
    assert not list(sound.state_dir.glob("shared/.quakegrid*"))


def test_planted_mistakes_are_found_each_by_name(tmp_path: Path) -> None:
    """No dbserver; agents with another key, absent, hanging, and with odd facts."""
    hosts = (SECOND, THIRD, FOURTH, FIFTH)
    with doctored(tmp_path, *hosts) as cluster, contextlib.ExitStack() as stack:
        cluster.start("broker", "agent")
        cluster.start_agent(SECOND, authkeys.new_authkey())
        settings = cluster.settings
        stack.enter_context(socket.create_server((FOURTH, settings.agent_port)))  # accepts, never answers
        own = Gatherer(settings).gather(1, Errand())
        odd = replace(
            own,
            node="n5",
            machine="another",
            versions=Versions("3.11.7", "0.0.9", "", "2.0.0"),
            is_embedded=False,
            names=(NameFacts("master", "[dbserver] host", ("127.0.1.1",)),),
            ports=(PortFacts("broker", "master", 1911, PortState.SILENT),),
            swap_bytes=1 << 30,
        )
        stack.enter_context(planted_agent(settings, FIFTH, odd))

        code, findings = cluster.doctor()
        here_code, here = cluster.doctor(AGENTCTL)

    found = {(finding["node"], finding["check"]) for finding in findings}
    assert (code, here_code) == (1, 1)
    assert [finding["what"].split()[0] for finding in relevant(here)] == ["dbserver"]
    assert (socket.gethostname(), "port") in found
    assert {(SECOND, "authkey"), (THIRD, "port"), (FOURTH, "port")} <= found
    odd_checks = ("versions", "host_name", "port", "swap", "shared_dir")
    assert {(FIFTH, check) for check in odd_checks} <= found
    texts = {finding["node"]: finding["what"] for finding in findings if finding["check"] == "port"}
    assert "nothing listens" in texts[THIRD]
    assert "does not answer" in texts[FOURTH]
    assert all(finding["breaks"] and finding["remedy"] for finding in findings)


def test_nodes_tell_of_accounts(sound: Doctored) -> None:
    """The numbers of the names that are asked for, and how the agent proves itself; too many are refused."""
    settings = sound.settings
    errand = Errand(account_names=("root", "nobody-has-this"))

    facts = visits.visit(settings, config.LOOPBACK, errand).facts
    refused = visits.visit(settings, config.LOOPBACK, Errand(account_names=("root",) * 501))

    assert facts is not None
    assert facts.accounts == (AccountFacts("root", 0), AccountFacts("nobody-has-this"))
    assert (facts.people.is_known, facts.people.identity) == (True, "authkey")
    assert "more than 500 names" in refused.error


def test_credential_that_ends_soon_is_told(sound: Doctored) -> None:
    """As the dbserver knows it; jobs of late have owners whose accounts are compared."""
    with DbClient(sound.settings) as database:
        PeopleClient(database).issue("edda", PrincipalRole.USER, datetime.timedelta(days=3))
        database.jobs.create_job(
            calculation_mode="classical", description="", user_name="edda", data_dir="/x"
        )

    try:
        _, findings = sound.doctor()
    finally:
        with DbClient(sound.settings) as database:
            PeopleClient(database).revoke("edda")

    (found,) = (finding for finding in findings if finding["check"] == "credentials")
    assert "edda on" in found["what"]
    assert doctor_accounts.find_owners(sound.settings) == ("edda",)


def test_missing_shared_dir_is_found_once(sound: Doctored, tmp_path: Path) -> None:
    """The master cannot write there; its nodes are not blamed for that."""
    with sound.changed("directory", "shared_dir", tmp_path / "nowhere"):
        code, findings = sound.doctor()

    assert code == 1
    assert {finding["check"] for finding in relevant(findings)} == {"shared_dir"}
    assert all("nowhere" in finding["what"] for finding in relevant(findings))


def test_authkey_that_changed_under_the_agent_is_found(sound: Doctored) -> None:
    """The agent has the old one, and the commands the new one."""
    with sound.changed("dbserver", "authkey", "quakegrid-password"):
        code, findings = sound.doctor(AGENTCTL)

    whats = [finding["what"] for finding in relevant(findings) if finding["check"] == "authkey"]
    assert code == 1
    assert any("another authkey" in what and what.startswith("agent") for what in whats)
    assert any("can be guessed" in what for what in whats)


def test_cluster_that_is_down_is_no_error_but_a_finding(tmp_path: Path) -> None:
    """The machine is looked at all the same."""
    with doctored(tmp_path) as cluster:
        code, findings = cluster.doctor()
        quiet = cluster.call(AGENTCTL, "doctor", "--output", "quiet")

    services = {finding["what"].split()[0] for finding in findings if finding["check"] == "port"}
    assert code == 1
    assert services == {"dbserver", "broker", "agent"}
    assert "port" in quiet.stdout.split()
    assert quiet.returncode == 1


def test_debug_runs_a_task_on_every_core(sound: Doctored, tmp_path: Path) -> None:
    """And tells what it found; a shared directory that cannot be used is an error."""
    done = sound.call(QUAKEGRID, "workers", "debug", "--output", "json")
    table = sound.call(QUAKEGRID, "workers", "debug")
    with sound.changed("directory", "shared_dir", tmp_path / "nowhere"):
        broken = sound.call(QUAKEGRID, "workers", "debug")

    assert done.returncode == 0, done.stderr
    (node,) = json.loads(done.stdout)["nodes"]
    assert (node["core_count"], node["reached_count"]) == (1, 1)
    assert node["sees_shared_dir"] is True
    assert node["round_trip_s"] > 0
    assert node["trouble"] == []
    assert "1 of 1" in table.stdout
    assert broken.returncode == 1
    assert "cannot be written to" in broken.stderr


KEY = authkeys.new_authkey()


def test_port_of_our_cluster_is_open() -> None:
    """Its certificate is of our authkey."""
    with tls_server(KEY) as port:
        assert probes.look_at_port(port, KEY) is PortState.OPEN


def test_port_with_another_authkey_is_told_apart_from_a_wrong_clock() -> None:
    """Both certificates are refused, for different reasons."""
    later = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=3)
    earlier = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=60)

    with tls_server(authkeys.new_authkey()) as port:
        assert probes.look_at_port(port, KEY) is PortState.OTHER_KEY
    for time in (later, earlier):
        with tls_server(KEY, time) as port:
            assert probes.look_at_port(port, KEY) is PortState.OTHER_CLOCK


def test_certificate_of_another_authority_is_foreign(monkeypatch: pytest.MonkeyPatch) -> None:
    """A web server, or a proxy that answers for everybody, is not told to change its authkey."""
    with contextlib.ExitStack() as stack:
        with monkeypatch.context() as patch:
            patch.setattr(certificates, "CA_NAME", "Some institute")
            port = stack.enter_context(tls_server(authkeys.new_authkey()))

        found = probes.look_at_port(port, KEY)

    assert found is PortState.FOREIGN


def test_port_of_another_program_is_foreign() -> None:
    """It answers what is no TLS."""
    with socket.create_server((config.LOOPBACK, 0)) as listener:

        def answer() -> None:
            with listener.accept()[0] as connection:
                connection.recv(10)
                connection.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        found = probes.look_at_port(PortFacts("agent", config.LOOPBACK, listener.getsockname()[1]), KEY)
        thread.join()

    assert found is PortState.FOREIGN


def test_port_where_nothing_listens_refuses_and_unknown_host_is_unresolved() -> None:
    """Whether or not a key is asked for."""
    (number,) = testing.free_ports(1)

    for key in (None, KEY):
        assert probes.look_at_port(PortFacts("lane", config.LOOPBACK, number), key) is PortState.REFUSED
        assert probes.look_at_port(PortFacts("lane", "x" * 300, number), key) is PortState.UNRESOLVED
