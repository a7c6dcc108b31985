"""The certificate of a node while its agent runs: renewed by itself, replaced by another, or ended."""

from __future__ import annotations

import datetime
import logging
import stat
import time
from dataclasses import replace
from pathlib import Path

import pytest

from quakegrid.access.proofs import ClusterKeys, Renewed
from quakegrid.clients.dbserver.client import DbClient
from quakegrid.clients.dbserver.people import PeopleClient
from quakegrid.clients.node_access import NodeAccessClient
from quakegrid.services.agent.node.certificates.node_certificate import KEY_LOOK, RETRY_S, NodeCertificate
from quakegrid.settings import config, node_files
from quakegrid.settings.config import Settings
from quakegrid.settings.node_files import NodeFile
from quakegrid.transport import certificates
from tests.support import strangers
from tests.support.calls import loops
from tests.support.dbservers import LocalDbServer

MINUTE = datetime.timedelta(minutes=1)


class Node:
    """A node with a certificate, whose clock stands where a test puts it."""

    def __init__(self, directory: Path, cluster: Settings) -> None:
        self.cluster = cluster
        self.first = strangers.join(cluster, "n1")
        node_files.write(directory, self.first)
        config_path = directory / "openquake.cfg"
        config_path.write_text("[agent]\npreload = none\n")
        environ = {"OQ_CONFIG_FILE": str(config_path), config.ONLY_CONFIG: "1"}
        self.settings = config.load_node_settings(directory, environ)
        assert self.settings.given is not None
        self.proof: Renewed = self.settings.given
        self.now_time = self.first.start_time
        self._certificate = NodeCertificate(self.settings, self.proof, lambda: self.now_time)

    def look_at(self, now_time: datetime.datetime) -> NodeFile:
        """Let the agent look at its certificate then; gives what the file has after that."""
        self.now_time = now_time
        loops.run(self._certificate.look())
        found = node_files.read(self.settings.state_dir)
        assert found is not None
        return found


@pytest.fixture
def node(tmp_path: Path, dbserver: LocalDbServer) -> Node:
    """A node of a running dbserver."""
    (tmp_path / "node").mkdir(mode=0o700)
    return Node(tmp_path / "node", dbserver.settings)


def test_certificate_says_where_the_cluster_is(node: Node) -> None:
    """The node needs no setting for it, and shows its certificate."""
    assert node.settings.authkey == ""
    assert node.settings.proof is node.proof
    assert node.settings.dbserver_address == node.cluster.dbserver_address
    assert node.settings.broker_address == node.cluster.broker_address


def test_certificate_is_renewed_when_half_its_life_is_over(node: Node) -> None:
    """Not before; the file is replaced as a whole, and the agent shows the new one."""
    assert node.look_at(node.first.renewal_time - MINUTE) == node.first
    assert node.proof.certified == node.first.proof

    renewed = node.look_at(node.first.renewal_time)

    assert renewed.end_time > node.first.end_time
    assert node.proof.certified == renewed.proof != node.first.proof
    path = node_files.path_of(node.settings.state_dir)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert sorted(each.name for each in path.parent.iterdir()) == ["node_credential.json", "openquake.cfg"]


def test_certificate_is_renewed_when_the_authkey_has_changed(node: Node, dbserver: LocalDbServer) -> None:
    """Within minutes, while the old key counts; the new one counts for longer than the old key."""
    keyring, now_time = dbserver.settings.keyring, node.first.start_time
    assert keyring is not None
    old, until_s = keyring.keys, time.time() + 3600
    assert node.look_at(now_time) == node.first
    keyring.keys = ClusterKeys("another-key-that-nobody-guesses", old.active, until_s)
    try:
        assert node.look_at(now_time + MINUTE) == node.first
        renewed = node.look_at(now_time + KEY_LOOK)

        assert renewed.proof == node.proof.certified != node.first.proof
        assert certificates.until_s(renewed.proof.certificate_pem) > until_s
        keyring.keys = ClusterKeys(keyring.keys.active)
        with DbClient(node.settings) as database:
            assert PeopleClient(database).who_am_i() == ("node", "n1")
        assert node.look_at(now_time + 2 * KEY_LOOK) == renewed
    finally:
        keyring.keys = old


def test_renewal_is_tried_again_until_the_dbserver_is_back(
    node: Node, dbserver: LocalDbServer, caplog: pytest.LogCaptureFixture
) -> None:
    """Not at every look, and it is told once."""
    caplog.set_level(logging.INFO)
    due_time = node.first.renewal_time
    dbserver.stop()
    assert node.look_at(due_time) == node.first
    assert node.look_at(due_time + datetime.timedelta(seconds=RETRY_S)) == node.first
    assert caplog.text.count("node_certificate_not_renewed") == 1
    dbserver.start()

    assert node.look_at(due_time + datetime.timedelta(seconds=RETRY_S + 1)) == node.first
    renewed = node.look_at(due_time + datetime.timedelta(seconds=2 * RETRY_S))

    assert renewed.proof == node.proof.certified != node.first.proof
    assert "node_certificate_renewed host=n1" in caplog.text


def test_ended_certificate_is_told_with_the_remedy(node: Node, caplog: pytest.LogCaptureFixture) -> None:
    """Once, and nothing is asked of the dbserver."""
    for _ in range(3):
        node.look_at(node.first.end_time)

    assert caplog.text.count("node_certificate_ended") == 1
    assert "`agentctl join --token TOKEN`" in caplog.text


def test_shut_out_node_is_not_renewed(node: Node, caplog: pytest.LogCaptureFixture) -> None:
    """And says what helps."""
    with DbClient(node.cluster) as database:
        NodeAccessClient(database).revoke_node("n1")

    assert node.look_at(node.first.renewal_time) == node.first

    assert "`quakegrid token create --node --host n1`" in caplog.text


def test_certificate_that_was_put_there_counts(node: Node) -> None:
    """Without a restart of the agent."""
    fresh = strangers.join(node.cluster, "n1")
    node_files.write(node.settings.state_dir, fresh)

    node.look_at(fresh.start_time)

    assert node.proof.certified == fresh.proof


def test_certificate_of_another_node_waits_for_a_restart(
    node: Node, caplog: pytest.LogCaptureFixture
) -> None:
    """The fleet knows the agent under its name. A file that cannot be read changes nothing either."""
    node_files.write(node.settings.state_dir, strangers.join(node.cluster, "n2"))
    node.look_at(node.first.start_time)
    node_files.path_of(node.settings.state_dir).chmod(0o644)
    with pytest.raises(Exception, match="chmod 600"):
        node.look_at(node.first.start_time)

    assert node.proof.certified == node.first.proof
    assert "the certificate is of n2; restart the agent" in caplog.text
    assert "node_certificate_unreadable" in caplog.text


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"machine": "another"}, "is of the machine another, and this one is called"),
        ({"end_time": datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)}, "ended on 2020-01-01"),
    ],
)
def test_certificate_that_does_not_count_here_is_refused(
    node: Node, change: dict[str, object], match: str
) -> None:
    """With the command that helps."""
    file = replace(node.first, **change)  # type: ignore[arg-type]

    with pytest.raises(Exception, match=rf"{match}.*`agentctl join --token TOKEN`"):
        file.check(node.first.start_time)
    node.first.check(node.first.start_time)
