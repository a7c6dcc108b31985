"""The authkey changes while tasks run: nothing is lost, and after a time only the new one counts."""

from __future__ import annotations

import datetime
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import grpc
import pytest

from quakegrid import errors
from quakegrid.api.v1 import people_pb2, people_pb2_grpc
from quakegrid.clients.broker import BrokerClient
from quakegrid.doctor import probes
from quakegrid.doctor.facts import PortFacts, PortState
from quakegrid.install import config_text
from quakegrid.settings import config
from quakegrid.settings.config import Settings
from quakegrid.transport import grpc_channels
from tests.support.nodes import Nodes, wait_until
from tests.support.processes import Service

HOSTS = "127.0.0.1 1, 127.0.0.2 1"
CALL_TIMEOUT_S = 30.0


class Stream:
    """Tasks without end, some of them always under way."""

    def __init__(self, nodes: Nodes) -> None:
        self.sent = self.done = 0
        self.faults: list[BaseException] = []
        self._nodes, self._is_over = nodes, threading.Event()
        self._thread = threading.Thread(target=self._run, name="stream of tasks")
        self._thread.start()

    def goes_on(self) -> None:
        """Wait until tasks end that were sent from now on."""
        mark = self.sent + 1
        wait_until(lambda: self.faults or self.done > mark)
        assert self.faults == []

    def end(self) -> None:
        """Wait for what is under way."""
        self._is_over.set()
        self._thread.join(60)
        assert not self._thread.is_alive()
        assert self.faults == []
        assert self.done == self.sent

    def _run(self) -> None:
        try:
            with self._nodes.cluster() as cluster, cluster.executor(2) as executor:
                under_way = []
                while not self._is_over.is_set() or under_way:
                    if len(under_way) < 4 and not self._is_over.is_set():
                        self.sent += 1
                        under_way.append((self.sent, executor.submit(pow, self.sent, 2)))
                        continue
                    number, future = under_way.pop(0)
                    assert future.result(60) == number**2
                    self.done += 1
                    time.sleep(0.005)  # a stream, not a flood
        except BaseException as exc:  # noqa: BLE001  the test tells it
            self.faults.append(exc)


def settings_now(settings: Settings) -> Settings:
    """What the file of a machine says now."""
    path = settings.state_dir / "openquake.cfg"
    return config.load_settings(settings.state_dir, {"OQ_CONFIG_FILE": str(path)})


def takes(settings: Settings, authkey: str, host: str, port: int, service: str) -> bool:
    """Whether a service answers to a peer that has this key and no other one."""
    assert settings.keyring is not None
    facts = PortFacts(service, host, port, node=host)
    proof = replace(settings, authkey=authkey, old_authkey="").proof
    return probes.look_at_port(facts, proof) is PortState.OPEN


def all_take(master: Settings, authkey: str, *hosts: str) -> bool:
    """Whether all services take this key."""
    ports = [
        ("127.0.0.1", master.dbserver_port, "dbserver"),
        ("127.0.0.1", master.broker_port, "broker"),
        *((host, master.agent_port, "agent") for host in hosts),
    ]
    return all(takes(master, authkey, *port) for port in ports)


def is_refused(settings: Settings) -> bool:
    """Whether the broker refuses a peer."""
    try:
        with closing(BrokerClient(settings)) as broker:
            broker.status()
    except errors.PeerUnreachableError:
        return True
    return False


def end_window(*machines: Settings) -> None:
    """Have the time of the old key be over in the files of these machines."""
    past = (datetime.datetime.now(datetime.UTC) - datetime.timedelta(seconds=1)).isoformat()
    for settings in machines:
        path = settings.state_dir / "openquake.cfg"
        path.write_text(config_text.put(path.read_text(), "dbserver", "old_authkey_until", past))


@contextmanager
def people_stub(settings: Settings) -> Iterator[people_pb2_grpc.PeopleStub]:
    """A connection to the dbserver that stays open."""
    with grpc_channels.open_channel(settings.dbserver_address, settings.proof) as channel:
        yield people_pb2_grpc.PeopleStub(channel)


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[Nodes]:
    """A dbserver, a broker and two nodes that share the authkey by file."""
    made = Nodes(tmp_path, HOSTS)
    try:
        made.service(made.master, "dbserver")
        made.agent(1)
        yield made
    finally:
        made.close()


@pytest.fixture
def agent(nodes: Nodes) -> Service:
    """Of the second node."""
    made = nodes.agent(2)
    wait_until(lambda: len(nodes.up()) == 2)
    return made


@pytest.mark.full
def test_key_changes_under_a_stream_of_tasks(nodes: Nodes, agent: Service) -> None:
    """No task is lost; what has the old key works until its time is over, and is refused then."""
    old, second = nodes.master, agent.settings
    stream = Stream(nodes)
    with people_stub(old) as people:
        watch = people.WatchCredentials(people_pb2.WatchCredentialsRequest())
        next(watch)
        stream.goes_on()

        done = nodes.quakegrid("key", "rotate", "--hours", "24")
        assert done.returncode == 0, done.stderr
        assert "127.0.0.2" in done.stderr
        new = settings_now(old)
        assert (new.old_authkey, new.authkey != old.authkey) == (old.authkey, True)
        wait_until(lambda: all_take(old, new.authkey, "127.0.0.1"))
        stream.goes_on()

        # Both keys count. The second node has the old one only, and starts anew with it.
        assert all_take(old, old.authkey, "127.0.0.1", "127.0.0.2")
        assert not takes(old, new.authkey, "127.0.0.2", old.agent_port, "agent")
        assert not is_refused(old)
        agent.stop()
        agent.start()
        wait_until(lambda: len(up_for(new)) == 2)
        stream.goes_on()
        stream.end()

        # Its file is copied, and its agent notices.
        text = (old.state_dir / "openquake.cfg").read_text()
        copied = text.replace("[agent]\n", "[agent]\nlisten = 127.0.0.2\n")
        (second.state_dir / "openquake.cfg").write_text(copied)
        wait_until(lambda: all_take(old, new.authkey, "127.0.0.1", "127.0.0.2"))
        assert people.WhoAmI(people_pb2.WhoAmIRequest(), timeout=CALL_TIMEOUT_S).role == "service"

        end_window(old, second)
        wait_until(lambda: is_refused(old))
        with pytest.raises(grpc.RpcError) as cut:
            for _news in watch:
                pass
        assert cut.value.code() is grpc.StatusCode.UNAVAILABLE
        with pytest.raises(grpc.RpcError) as refused:
            people.WhoAmI(people_pb2.WhoAmIRequest(), timeout=CALL_TIMEOUT_S)
        assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED
        assert "authkey of the cluster was changed" in str(refused.value.details())

    wait_until(
        lambda: (
            not any(
                takes(old, old.authkey, host, old.agent_port, "agent") for host in ("127.0.0.1", "127.0.0.2")
            )
        )
    )
    assert not is_refused(settings_now(old))
    wait_until(lambda: len(up_for(settings_now(old))) == 2)
    with nodes.cluster() as cluster, cluster.executor(2) as executor:
        assert list(executor.map(abs, range(-20, 0))) == list(range(20, 0, -1))


def up_for(settings: Settings) -> list[str]:
    """The nodes that are up, as a peer with these settings hears."""
    with closing(BrokerClient(settings)) as broker:
        return [node.host for node in broker.status().nodes if node.is_up]
