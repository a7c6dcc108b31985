"""The audit log, with real services: who did what, who was refused, and what outlives a restart."""

from __future__ import annotations

import datetime
import itertools
import json
import os
import pwd
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from quakegrid import errors, testing
from quakegrid.access import audits
from quakegrid.access.audits import About, AuditRecord
from quakegrid.access.principals import PrincipalRole
from quakegrid.api.v1 import (
    audit_pb2,
    audit_pb2_grpc,
    fleet_pb2,
    fleet_pb2_grpc,
    jobs_pb2,
    jobs_pb2_grpc,
    nodes_pb2,
    nodes_pb2_grpc,
)
from quakegrid.clients.audit import messages
from quakegrid.clients.audit.client import AuditClient, AuditQuery
from quakegrid.clients.connection import Connection
from quakegrid.clients.dbserver.client import DbClient
from quakegrid.clients.dbserver.people import PeopleClient
from quakegrid.internal.v1 import audit_records_pb2, audit_records_pb2_grpc
from quakegrid.jobs.values import Job
from quakegrid.services.dbserver.audit import rows
from quakegrid.services.dbserver.housekeeping import Retention, clean_up
from quakegrid.settings import config
from quakegrid.settings.config import Settings
from tests.support import strangers
from tests.support.dbservers import LocalDbServer
from tests.support.processes import REPOSITORY, Service, environment

TIMEOUT_S = 30.0
_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Settings, LocalDbServer]]:
    """A running dbserver, which may be stopped and started, a broker and an agent."""
    directory = tmp_path_factory.mktemp("audit")
    (directory / "home").mkdir()
    path: Path = testing.write_cluster_config(directory / "state", {"agent": {"preload": "none"}})
    found = config.load_settings(path.parent, {"OQ_CONFIG_FILE": str(path)})
    dbserver, broker, agent = LocalDbServer(found), Service(found, "broker"), Service(found, "agent")
    try:
        dbserver.start()
        broker.start()
        agent.start()
        yield found, dbserver
    finally:
        agent.close()
        broker.close()
        dbserver.close()


@pytest.fixture
def settings(services: tuple[Settings, LocalDbServer]) -> Settings:
    """Of the running services."""
    return services[0]


@contextmanager
def connected(settings: Settings, service: str, role: PrincipalRole, name: str) -> Iterator[Connection]:
    """A connection of a person whom the dbserver knows."""
    address = {"dbserver": settings.dbserver_address, "broker": settings.broker_address}
    address["agent"] = f"127.0.0.1:{settings.agent_port}"
    with DbClient(settings) as database:
        _, proof = PeopleClient(database).issue(name, role, strangers.DAY, is_only=True)
    with Connection(service, address[service], proof, timeout_s=TIMEOUT_S) as connection:
        yield connection


def new_job(settings: Settings, owner: str) -> Job:
    """A job of somebody's, which a service created."""
    with DbClient(settings) as database:
        return database.jobs.create_job(
            calculation_mode="classical", description="a job", user_name=owner, data_dir="/nowhere"
        )


def delete(connection: Connection, job_id: int) -> None:
    """Delete a job, with a forged name in the request."""
    request = jobs_pb2.DeleteJobRequest(
        job_id=job_id, user_name="anna", request_id=f"delete {job_id} {next(_numbers)}"
    )
    connection.call(jobs_pb2_grpc.JobsStub(connection.channel).DeleteJob, request)


def wait_for(
    settings: Settings, query: AuditQuery, is_enough: Callable[[list[AuditRecord]], object] = bool
) -> list[AuditRecord]:
    """The records that match, when there are enough of them."""
    deadline_s = time.monotonic() + TIMEOUT_S
    with DbClient(settings) as database:
        client = AuditClient(database.connection)
        while not is_enough(found := client.newest(query, 10_000)):
            assert time.monotonic() < deadline_s, found
            time.sleep(0.01)
    return found


def test_refused_and_allowed_calls_are_records(settings: Settings) -> None:
    """Of the person that the certificate names, with the owner of a job that is gone by then."""
    job = new_job(settings, "anna")
    with (
        connected(settings, "dbserver", PrincipalRole.USER, "ben") as connection,
        pytest.raises(errors.NotAllowedError),
    ):
        delete(connection, job.id)
    with connected(settings, "dbserver", PrincipalRole.OPERATOR, "otto") as connection:
        delete(connection, job.id)

    found = wait_for(settings, AuditQuery(job_id=job.id), lambda found: len(found) >= 2)

    facts = [(each.role, each.name, each.about, each.outcome, each.owner) for each in found]
    about = About("Jobs.DeleteJob", job_id=job.id)
    assert facts == [
        ("user", "ben", about, "PERMISSION_DENIED", "anna"),
        ("operator", "otto", about, "OK", "anna"),
    ]
    assert {(each.peer, each.service, each.count) for each in found} == {("127.0.0.1", "dbserver", 1)}
    assert all(abs(time.time() - each.time_s) < 600 for each in found)


def test_broker_and_agent_hand_their_records_to_the_dbserver(settings: Settings) -> None:
    """Through their queues; the agent names its node."""
    job = new_job(settings, "anna")
    with connected(settings, "broker", PrincipalRole.USER, "anna") as connection:
        request = fleet_pb2.AbortJobRequest(job_id=job.id)
        connection.call(fleet_pb2_grpc.FleetStub(connection.channel).AbortJob, request)
    with connected(settings, "agent", PrincipalRole.OPERATOR, "otto") as connection:
        connection.call(
            nodes_pb2_grpc.NodesStub(connection.channel).SetCores, nodes_pb2.SetCoresRequest(core_count=1)
        )

    (of_broker,) = wait_for(settings, AuditQuery(job_id=job.id))
    of_agent = wait_for(settings, AuditQuery(user="otto"), lambda found: "SetCores" in str(found))[-1]

    assert (of_broker.name, of_broker.about.action, of_broker.service) == ("anna", "Fleet.AbortJob", "broker")
    assert of_agent.about.action == "Nodes.SetCores"
    assert of_agent.about.detail == "core_count 1"
    assert of_agent.service == f"agent of {of_agent.about.node}"
    assert of_agent.about.node
    assert wait_for(settings, AuditQuery(node=of_agent.about.node))


def test_who_asks_at_the_agents_socket_is_named_by_the_kernel(settings: Settings) -> None:
    """Whatever the request says; what was refused has its reason."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(TIMEOUT_S)
        client.connect(str(config.agent_socket(settings.state_dir)))
        client.sendall(b'{"argv": ["engine"], "environ": {"LOGNAME": "mallory"}}\n')
        said = client.recv(4096)
    account = pwd.getpwuid(os.getuid()).pw_name

    found = wait_for(settings, AuditQuery(user=account), lambda found: "agent.run" in str(found))
    record = next(each for each in found if each.about.action == "agent.run")

    assert b"refused" in said
    assert (record.role, record.name, record.peer) == ("account", account, f"uid {os.getuid()}")
    assert record.outcome == "INVALID_ARGUMENT"
    assert record.about.node
    assert record.service == f"agent of {record.about.node}"


def test_records_outlive_a_restart_of_the_dbserver(services: tuple[Settings, LocalDbServer]) -> None:
    """What the broker saw meanwhile comes afterwards, once, and in order."""
    settings, dbserver = services
    with connected(settings, "broker", PrincipalRole.OPERATOR, "olga") as connection:
        stub = fleet_pb2_grpc.FleetStub(connection.channel)
        connection.call(stub.StopNodes, fleet_pb2.StopNodesRequest())  # the broker knows her from now on
        assert dbserver.stop() == 0
        connection.call(stub.StopNodes, fleet_pb2.StopNodesRequest(force=True))
        connection.call(stub.StartNodes, fleet_pb2.StartNodesRequest())
        dbserver.start()

        found = wait_for(settings, AuditQuery(user="olga"), lambda found: "StartNodes" in str(found))

    of_olga = [(each.about.action, each.about.detail) for each in found if each.name == "olga"]
    assert of_olga == [("Fleet.StopNodes", ""), ("Fleet.StopNodes", "force True"), ("Fleet.StartNodes", "")]


def test_command_with_the_authkey_tells_its_account(settings: Settings) -> None:
    """Nothing proves it, and it is kept beside the role of a service."""
    job = new_job(settings, "anna")
    env = environment(settings) | {"LOGNAME": "anna"}
    command = [
        sys.executable,
        "-m",
        "quakegrid.cli",
        "--state-dir",
        str(settings.state_dir),
        "jobs",
        "tag",
        str(job.id),
        "audited",
    ]
    done = subprocess.run(command, cwd=REPOSITORY, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr

    found = wait_for(settings, AuditQuery(job_id=job.id))[-1]

    assert (found.role, found.name, found.about.told) == ("service", "", "anna")
    assert (found.about.action, found.about.detail) == ("Tags.AddTag", "audited")


def test_command_by_sudo_tells_who_called_it(settings: Settings) -> None:
    """Where the request itself names nobody."""
    env = environment(settings) | {"SUDO_USER": "sue"}
    command = [sys.executable, "-m", "quakegrid.cli", "--state-dir", str(settings.state_dir), "db", "vacuum"]
    done = subprocess.run(command, cwd=REPOSITORY, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr

    found = wait_for(settings, AuditQuery(), lambda found: found and found[-1].about.told == "sue")[-1]

    assert (found.role, found.about.action) == ("service", "Database.VacuumDatabase")


def test_actions_of_the_engine_are_records(settings: Settings) -> None:
    """Those that people ask for; with the new job's id, and refusals in upstream's words as such."""
    with DbClient(settings) as database:
        job_id = database.call("create_job", "/nowhere", "classical", "of anna", "anna", None, "host")
        database.call("log", job_id, datetime.datetime.now(datetime.UTC), "INFO", "main", "a line")
        database.call("del_calc", job_id, "ben")

    found = wait_for(settings, AuditQuery(job_id=job_id), lambda found: len(found) >= 2)

    assert [(each.about.action, each.outcome) for each in found] == [
        ("engine.create_job", "OK"),
        ("engine.del_calc", "FAILED_PRECONDITION"),
    ]


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[tuple[Settings, LocalDbServer]]:
    """A dbserver that nobody has asked anything."""
    path: Path = testing.write_cluster_config(tmp_path / "state", {})
    settings = config.load_settings(path.parent, {"OQ_CONFIG_FILE": str(path)})
    local = LocalDbServer(settings)
    local.start()
    try:
        yield settings, local
    finally:
        local.close()


def test_flood_of_refusals_makes_few_records(fresh: tuple[Settings, LocalDbServer]) -> None:
    """Each is refused and counted; the dbserver writes the count down before it ends."""
    settings, dbserver = fresh
    begin_s, flood = time.monotonic(), 500
    job = new_job(settings, "anna")
    with connected(settings, "dbserver", PrincipalRole.USER, "flo") as connection:
        stub = jobs_pb2_grpc.JobsStub(connection.channel)
        for _ in range(flood):
            with pytest.raises(errors.NotAllowedError):
                connection.call(stub.ShareJob, jobs_pb2.ShareJobRequest(job_id=job.id))
    windows = 1 + (time.monotonic() - begin_s) // audits.WINDOW_S
    assert dbserver.stop() == 0

    query = "SELECT count FROM quakegrid_audit WHERE name = 'flo' AND outcome = 'PERMISSION_DENIED'"
    with closing(sqlite3.connect(settings.database)) as database:
        counts = [count for (count,) in database.execute(query)]

    assert sum(counts) == flood
    assert len(counts) <= audits.ROWS_PER_WINDOW + windows


def test_user_sees_what_concerns_them(settings: Settings) -> None:
    """What they did, and what was done to their jobs and to them; operators see all."""
    job, other = new_job(settings, "uma"), new_job(settings, "victor")
    with connected(settings, "dbserver", PrincipalRole.OPERATOR, "otto") as connection:
        delete(connection, job.id)
        delete(connection, other.id)
    wait_for(settings, AuditQuery(job_id=other.id))

    with connected(settings, "dbserver", PrincipalRole.USER, "uma") as connection:
        wait_for(settings, AuditQuery(user="uma"), lambda found: "IssueCredential" in str(found))
        of_uma = AuditClient(connection).newest(AuditQuery(), 1000)
        of_other = AuditClient(connection).newest(AuditQuery(job_id=other.id), 1000)
    with connected(settings, "dbserver", PrincipalRole.OPERATOR, "otto") as connection:
        of_otto = AuditClient(connection).newest(AuditQuery(job_id=other.id), 1000)

    assert {(each.about.action, each.owner or each.about.person) for each in of_uma} >= {
        ("Jobs.DeleteJob", "uma"),
        ("People.IssueCredential", "uma"),
    }
    assert {"uma"} == {each.owner or each.about.person or each.name for each in of_uma}
    assert of_other == []
    assert len(of_otto) == 1


def test_pages_have_every_record_once(settings: Settings) -> None:
    """Also where a page ends between them."""
    with connected(settings, "dbserver", PrincipalRole.USER, "paula"):
        pass  # and so twice
    with connected(settings, "dbserver", PrincipalRole.USER, "paula") as connection:
        wait_for(settings, AuditQuery(user="paula"), lambda found: len(found) >= 2)
        stub = audit_pb2_grpc.AuditStub(connection.channel)
        ids, pages, token = [], 0, ""
        while pages == 0 or token:
            response = connection.call(
                stub.ListAudit, audit_pb2.ListAuditRequest(page_size=1, page_token=token)
            )
            ids += [message.id for message in response.records]
            pages, token = pages + 1, response.next_page_token
        with pytest.raises(errors.UsageError, match="no page token"):
            connection.call(stub.ListAudit, audit_pb2.ListAuditRequest(page_token="-1"))

    assert len(ids) == len(set(ids)) == pages == 2
    assert ids == sorted(ids, reverse=True)


def test_follower_gets_each_new_record(services: tuple[Settings, LocalDbServer]) -> None:
    """Also across a restart of the dbserver."""
    settings, dbserver = services
    with closing(DbClient(settings, retry_s=TIMEOUT_S)) as database:
        client = AuditClient(database.connection)
        follower = client.follow(AuditQuery(user="fay"), 0)
        with connected(settings, "dbserver", PrincipalRole.USER, "fay"):
            first = next(follower)
        assert dbserver.stop() == 0
        dbserver.start()
        with connected(settings, "dbserver", PrincipalRole.USER, "fay"):
            second = next(follower)

    for found in (first, second):
        about = (found.about.action, found.about.person, found.about.detail)
        assert about == ("People.IssueCredential", "fay", "user, is_only True")
    assert second.id > first.id


def test_sent_records_are_taken_once(settings: Settings) -> None:
    """A repeated request changes nothing; a node cannot speak for a service; a large request is refused."""
    record = AuditRecord(time.time(), "user", "rita", About("Fleet.AbortJob"), "OK", "10.0.0.7", "broker")
    request = audit_records_pb2.AppendAuditRequest(
        request_id=f"append {next(_numbers)}", records=[messages.encode(record)]
    )
    node = strangers.join(settings, "n9").proof
    with Connection("dbserver", settings.dbserver_address, node, timeout_s=TIMEOUT_S) as connection:
        stub = audit_records_pb2_grpc.AuditRecordsStub(connection.channel)
        connection.call(stub.AppendAudit, request)
        connection.call(stub.AppendAudit, request)
        request.records.extend([messages.encode(record)] * 500)
        with pytest.raises(errors.UsageError, match="at most 500 records"):
            connection.call(stub.AppendAudit, request)

    (found,) = wait_for(settings, AuditQuery(user="rita"))

    assert found.service == "agent of n9"


@pytest.mark.parametrize(
    "role", [PrincipalRole.USER, PrincipalRole.ADMIN, PrincipalRole.DRIVER, PrincipalRole.WORKER]
)
def test_nobody_but_services_and_nodes_writes(settings: Settings, role: PrincipalRole) -> None:
    """A record that a person could write would prove nothing."""
    proof = strangers.certify(settings.authkey, role, "mallory")
    with Connection("dbserver", settings.dbserver_address, proof, timeout_s=TIMEOUT_S) as connection:
        stub = audit_records_pb2_grpc.AuditRecordsStub(connection.channel)
        with pytest.raises((errors.NotAllowedError, errors.CredentialError)):
            connection.call(stub.AppendAudit, audit_records_pb2.AppendAuditRequest(request_id="x"))


def test_command_shows_records(settings: Settings) -> None:
    """As a table, and as JSON with each field."""
    job = new_job(settings, "anna")
    with connected(settings, "dbserver", PrincipalRole.OPERATOR, "otto") as connection:
        delete(connection, job.id)
    wait_for(settings, AuditQuery(job_id=job.id))

    def audit(*args: str) -> str:
        command = [sys.executable, "-m", "quakegrid.cli", "--state-dir", str(settings.state_dir)]
        command += ["audit", "--job", str(job.id), *args]
        return subprocess.run(
            command, cwd=REPOSITORY, env=environment(settings), capture_output=True, text=True, check=True
        ).stdout

    (found,) = json.loads(audit("--output", "json"))
    line = audit("--user", "otto").splitlines()[-1]
    later = audit("--since", "2999-01-01")

    assert (found["name"], found["role"], found["action"]) == ("otto", "operator", "Jobs.DeleteJob")
    assert (found["job_id"], found["owner"], found["outcome"]) == (job.id, "anna", "OK")
    assert "otto (operator)" in line
    assert f"job {job.id} of anna" in line
    assert "otto" not in later


def test_old_records_and_those_beyond_the_limit_go(
    fresh: tuple[Settings, LocalDbServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In batches, the oldest first; 0 days keeps them for ever."""
    settings, server = fresh[0], fresh[1].server
    assert server is not None
    now_s, day_s = time.time(), 86_400
    old = [AuditRecord(now_s - 400 * day_s, "user", "o", About("x"), "OK", "", "") for _ in range(1200)]
    new = [AuditRecord(now_s - 300 * day_s, "user", "n", About("x"), "OK", "", "") for _ in range(10)]
    server._writer.run(lambda session: rows.insert(session, [*old, *new]))

    def left(retention: Retention) -> int:
        clean_up(server._readers, server._writer, retention, lambda: False)
        with closing(sqlite3.connect(settings.database)) as database:
            return int(database.execute("SELECT count(*) FROM quakegrid_audit").fetchone()[0])

    assert left(Retention()) == 1210
    assert left(Retention(audit_days=365)) == 10
    monkeypatch.setattr(rows, "MOST_ROWS", 4)
    assert left(Retention()) == 4
