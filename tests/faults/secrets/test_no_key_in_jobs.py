"""Code in a job looks for secrets of the cluster wherever its process can read, and acts as somebody else."""

from __future__ import annotations

import dataclasses
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from quakegrid import testing
from quakegrid.clients.agent import AgentClient
from quakegrid.clients.broker import BrokerClient
from quakegrid.clients.dbserver.client import DbClient
from quakegrid.sdk.executor import ClusterExecutor
from quakegrid.session.options import SessionOptions
from quakegrid.session.session import Session
from quakegrid.settings import config, lane_secrets
from quakegrid.settings.config import CONFIG_NAME, Settings
from quakegrid.transport.certificates import P256_ORDER
from quakegrid.transport.keys import derived_keys, lane_keys
from tests.faults.secrets import hunter, intruder
from tests.support.clusters import Cluster

ROOT = Path(__file__).parents[3]
PRIVATE_KEY = re.compile(
    rb"-----BEGIN[A-Z ]* PRIVATE KEY-----\n[A-Za-z0-9+/=\n]+-----END[A-Z ]* PRIVATE KEY-----\n"
)
# A module that `oq shell` runs in a driver; `main` gets one argument.
OF_DRIVER = """
import json
from quakegrid.engine import this_process
from tests.faults.secrets import hunter, intruder

def main(about):
    path, job_id, session_id = about.split(",")
    settings = this_process.settings()
    bytes = hunter.hunt(path)
    acts = intruder.as_driver(settings, int(job_id), int(session_id))
    own = settings.given.certified.key_pem.decode()
    print("FOUND", json.dumps({"bytes": bytes, "acts": acts, "own": own}))
"""


@pytest.fixture
def settings(cluster: Cluster) -> Settings:
    """Of the cluster, with its authkey."""
    return config.load_settings(cluster.state_dir, cluster.environ)


def secrets_of(settings: Settings) -> dict[str, bytes]:
    """All that a service of the cluster has and a job must not have, in the forms that a memory has."""
    lane_secret = lane_secrets.of_broker(settings.state_dir)
    keys = lane_keys.curve_keys(lane_secret)
    ca = int.from_bytes(derived_keys.derive(settings.authkey, "tls-ca", 48))
    scalar = ca % (P256_ORDER - 1) + 1
    return {
        "authkey": settings.authkey.encode(),
        "authkey in UTF-16": settings.authkey.encode("utf-16-le"),
        "what the CA key is made of": ca.to_bytes(48),
        "CA key": scalar.to_bytes(32),
        "CA key as a number of OpenSSL": scalar.to_bytes(32, "little"),
        "lanes' key": keys.server_secret,
        "lanes' key, decoded": derived_keys.derive(lane_secret, "curve-server"),
        "secret of lanes": lane_secret.encode(),
        "key of tokens": lane_keys.token_key(lane_secret),
    }


def found_in(path: Path, settings: Settings) -> list[str]:
    """Which secrets a file has."""
    content = path.read_bytes()
    return [name for name, secret in secrets_of(settings).items() if secret in content]


def private_keys(content: bytes) -> set[bytes]:
    """Public keys of the private ones in a memory."""
    found = set()
    for match in PRIVATE_KEY.finditer(content):
        key = serialization.load_pem_private_key(match.group(), None)
        pem = serialization.Encoding.PEM
        found.add(key.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo))
    return found


@pytest.fixture
def others(settings: Settings) -> Iterator[tuple[int, int]]:
    """A job and a session of somebody else."""
    with DbClient(settings) as database:
        job = database.jobs.create_job(
            calculation_mode="classical", description="of ben", user_name="ben", data_dir="/nowhere"
        )
    with closing(Session(settings, SessionOptions("ben", b"", is_local=True))) as session:
        session.wait_for_turn(lambda _ahead: None)
        yield job.id, session.session_id


def test_driver_finds_no_secret_and_is_nobody_else(
    cluster: Cluster, settings: Settings, others: tuple[int, int], tmp_path: Path
) -> None:
    """Its own key is the only private one in its process; whatever it acts as, it is told who it is."""
    (tmp_path / "prey.py").write_text(OF_DRIVER)
    prey = dataclasses.replace(cluster, environ=cluster.environ | {"PYTHONPATH": f"{tmp_path}:{ROOT}"})
    dump = tmp_path / "driver"

    done = prey.call("oq", "shell", "prey", f"{dump},{others[0]},{others[1]}")

    assert "FOUND " in done.stdout, done.stderr + done.stdout
    said = json.loads(done.stdout.partition("FOUND ")[2])
    assert said["bytes"] > 10_000_000
    assert found_in(dump, settings) == []
    own = private_keys(said["own"].encode())
    assert private_keys(dump.read_bytes()) == own
    assert len(own) == 1
    assert {name: end for name, end in said["acts"].items() if "you are a calculation of" not in end} == {
        "be another session": said["acts"]["be another session"]
    }
    assert f"session {others[1]} is not this driver's" in said["acts"]["be another session"]
    with DbClient(settings) as database:
        assert str(database.jobs.get_job(others[0]).state) == "created"
    with BrokerClient(settings) as broker:
        assert others[1] in [session.session_id for session in broker.status().sessions]
        assert all(node.is_up for node in broker.status().nodes)


def test_worker_finds_no_secret_and_is_nobody_else(settings: Settings, tmp_path: Path) -> None:
    """It has its own token and the key of the lanes' door, no private key, and no other worker's token."""
    dump = tmp_path / "worker"
    with ClusterExecutor(settings, max_workers=2) as executor:
        hunted = executor.submit(hunter.hunt, str(dump)).result()
        acts = executor.submit(intruder.as_worker).result()
        with BrokerClient(settings) as broker:
            (session,) = broker.status().sessions
        with closing(AgentClient(settings)) as agent:
            names = [worker.worker_id for worker in agent.status().workers]

    lane_secret = lane_secrets.of_broker(settings.state_dir)
    content, key = dump.read_bytes(), lane_keys.token_key(lane_secret)
    tokens = [lane_keys.worker_token(key, session.session_id, name).encode() for name in names]
    assert hunted > 10_000_000
    assert found_in(dump, settings) == []
    assert private_keys(content) == set()
    door = lane_keys.curve_keys(lane_secret).door
    assert door.client_secret in content  # so the search does find
    assert len([token for token in tokens if token in content]) <= 1
    assert lane_keys.session_token(key, session.session_id).encode() not in content
    assert acts["has no authkey"] == "it has none"
    assert "neither an authkey nor a certificate" in acts["ask the database"]
    assert "neither an authkey nor a certificate" in acts["stop the nodes"]


def test_files_of_the_cluster_have_no_secret(settings: Settings) -> None:
    """But for the one with the authkey, and the broker's own, which stay readable for their user."""
    keepers = (CONFIG_NAME, lane_secrets.FILE_NAME)
    files = [path for path in settings.state_dir.rglob("*") if path.is_file() and path.name not in keepers]

    assert {str(path): found for path in files if (found := found_in(path, settings))} == {}
    assert found_in(settings.state_dir / CONFIG_NAME, settings) == ["authkey"]
    assert found_in(settings.state_dir / lane_secrets.FILE_NAME, settings) == ["secret of lanes"]
    assert (settings.run_dir / "template.cfg") in files


def test_search_finds_a_key_that_was_freed(tmp_path: Path) -> None:
    """Memory keeps what was in it until somebody else needs it."""
    dump = tmp_path / "dump"
    code = (
        "import sys; from tests.faults.secrets import hunter\n"
        "kept = [(sys.argv[2][::-1] * 9).encode() for _ in range(500)]; del kept\n"
        "hunter.hunt(sys.argv[1])\n"
    )
    key = testing.free_ports(1)[0]
    secret = f"a-key-that-was-freed-{key}"

    subprocess.run([sys.executable, "-c", code, str(dump), secret[::-1]], cwd=ROOT, check=True, timeout=60)

    assert (secret * 9).encode() in dump.read_bytes()
