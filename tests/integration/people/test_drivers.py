"""Calculations with certificates of their own: what they may do for their person, and what is refused."""

from __future__ import annotations

import contextlib
import datetime
import os
import socket
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest

from quakegrid import errors, testing
from quakegrid.access.principals import PrincipalRole
from quakegrid.access.proofs import Renewed
from quakegrid.clients.broker import BrokerClient, StageStatus
from quakegrid.clients.dbserver.client import DbClient
from quakegrid.clients.dbserver.database_admin import DatabaseCare
from quakegrid.clients.dbserver.log_sender import LogStream
from quakegrid.clients.dbserver.people import PeopleClient
from quakegrid.internal.v1 import sessions_pb2
from quakegrid.jobs.row_ids import LARGEST_ID
from quakegrid.jobs.states import JobState
from quakegrid.jobs.values import Job, LogLine
from quakegrid.services.dbserver.engine.new_jobs import LARGEST_IMPORTED_ID
from quakegrid.session.broker_link import BrokerLink
from quakegrid.session.options import SessionOptions
from quakegrid.session.session import Session
from quakegrid.settings import config
from quakegrid.settings.config import Settings
from quakegrid.transport import certificates, lane_names, lane_sockets
from quakegrid.transport.fast_zmq import zmq
from quakegrid.transport.keys import lane_keys
from quakegrid.wire.v1 import lane_pb2
from tests.support import strangers
from tests.support.dbservers import LocalDbServer
from tests.support.nodes import wait_until
from tests.support.processes import Service

TIMEOUT_S = 30.0
MOVE = "UPDATE job SET ds_calc_dir = ?x WHERE id=?x"


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """A running dbserver and broker; their settings have the authkey."""
    directory = tmp_path_factory.mktemp("drivers")
    (directory / "home").mkdir()
    path: Path = testing.write_cluster_config(directory / "state", {"agent": {"preload": "none"}})
    found = config.load_settings(path.parent, {"OQ_CONFIG_FILE": str(path)})
    dbserver, broker = LocalDbServer(found), Service(found, "broker")
    try:
        dbserver.start()
        broker.start()
        yield found
    finally:
        broker.close()
        dbserver.close()


def driver_of(services: Settings, person: str) -> Settings:
    """The settings of a driver of a person, without the authkey."""
    given = Renewed(strangers.certify(services.authkey, PrincipalRole.DRIVER, person))
    return replace(services, authkey="", given=given)


@pytest.fixture
def anna(services: Settings) -> Settings:
    """A driver of anna's."""
    return driver_of(services, "anna")


def job_of(services: Settings, person: str) -> Job:
    """A new job."""
    with DbClient(services) as database:
        return database.jobs.create_job(
            calculation_mode="classical", description="a job", user_name=person, data_dir="/nowhere"
        )


def job_state(services: Settings, job_id: int) -> JobState:
    """The state of a job."""
    with DbClient(services) as database:
        return database.jobs.get_job(job_id).state


def owner_of(services: Settings, job_id: int) -> str:
    """Whose a job is."""
    with DbClient(services) as database:
        return database.jobs.get_job(job_id).user_name


def test_job_that_a_calculation_makes_is_its_persons(services: Settings, anna: Settings) -> None:
    """Whatever name it says, by either of the engine's ways."""
    with DbClient(anna) as database:
        made = database.call("create_job", "/nowhere", "classical", "d", "ben", None, "host", user_name="ben")
        database.call("import_job", 4711, "classical", "d", "ben", "complete", None, "/nowhere")

    assert (owner_of(services, made), owner_of(services, 4711)) == ("anna", "anna")


@pytest.mark.parametrize("table", ["quakegrid_audit", "quakegrid_credential", "QUAKEGRID_node_token"])
def test_sql_of_a_calculation_reads_no_private_table(services: Settings, anna: Settings, table: str) -> None:
    """In none of the ways in which it can be named; services read it."""
    first, last = table.split("_", 1)
    with DbClient(anna) as database:
        for call in (
            (f"SELECT count(*) FROM {table}",),
            (f'SELECT count(*) FROM (SELECT * FROM "{table}")',),
            ("SELECT count(*) FROM ?s", table),
            (f"SELECT count(*) FROM {first}_?s", last),
            ("fetch", "SELECT count(*) FROM ?s", table),
        ):
            with pytest.raises(errors.QuakeGridError, match=f"may not read {table.lower()[:14]}"):
                database.call(*call)
        with pytest.raises(errors.NotAllowedError, match="may not read"):
            DatabaseCare(database).query(f"SELECT * FROM {table}")

    with DbClient(services) as database:
        assert DatabaseCare(database).query(f"SELECT count(*) FROM {table}")[0].rows


def test_import_leaves_ids_for_the_jobs_of_others(services: Settings, anna: Settings) -> None:
    """New jobs get the ids behind the largest one: there would be none that anybody can name."""
    imported = ("classical", "d", "anna", "complete", None, "/nowhere")
    with DbClient(anna) as database:
        for job_id in (LARGEST_ID, LARGEST_IMPORTED_ID + 1):
            with pytest.raises(errors.UsageError, match="imported jobs have ids of 1 to"):
                database.call("import_job", job_id, *imported)

    other = job_of(services, "ben")
    assert owner_of(services, other.id) == "ben"


def test_calculation_does_for_its_job_what_the_engine_does(services: Settings, anna: Settings) -> None:
    """And reads jobs of others."""
    mine, other = job_of(services, "anna"), job_of(services, "ben")
    with DbClient(anna) as database:
        database.call("update_job", mine.id, {"status": "executing", "pid": 7})
        database.call(MOVE, f"/nowhere/calc_{mine.id}", mine.id)
        database.call("create_outputs", mine.id, [["hcurves", "Hazard curves", 1.0]], 2.0)
        assert database.jobs.renew_hold(mine.id, "holder", 30.0)
        database.call("finish", mine.id, "complete")

        assert database.call("get_job", other.id)["user_name"] == "ben"
        assert database.call("SELECT user_name FROM job WHERE id=?x", mine.id)

    with DbClient(services) as database:
        assert str(database.jobs.get_job(mine.id).state) == "complete"


@pytest.mark.parametrize(
    ("action", "args"),
    [
        ("finish", ["complete"]),
        ("update_job", [{"description": "of anna"}]),
        ("set_status", ["failed"]),
        ("del_calc", ["ben", True, True]),
        ("add_tag_to_job", ["t"]),
    ],
)
def test_calculation_changes_no_job_of_another(
    services: Settings, anna: Settings, action: str, args: list[Any]
) -> None:
    """On the stream of its calls, as a single call; and the job stays as it was."""
    other = job_of(services, "ben")
    with (
        DbClient(anna) as database,
        pytest.raises(errors.QuakeGridError, match=f"job {other.id} belongs to ben"),
    ):
        database.call(action, other.id, *args)

    with DbClient(services) as database:
        assert database.jobs.get_job(other.id) == other


def test_calculation_holds_and_logs_its_own_jobs_only(services: Settings, anna: Settings) -> None:
    """Lines of one stream go to their jobs, but not to those of others."""
    mine, other = job_of(services, "anna"), job_of(services, "ben")
    line = LogLine(datetime.datetime.now(datetime.UTC), "INFO", "p", "a line")
    with DbClient(anna) as database:
        with pytest.raises(errors.NotAllowedError, match="belongs to ben"):
            database.jobs.renew_hold(other.id, "holder", 30.0)
        with contextlib.closing(LogStream(database)) as lines:
            lines.append(mine.id, line)
            lines.flush(TIMEOUT_S)
        with contextlib.closing(LogStream(database)) as lines:
            lines.append(other.id, line)
            with pytest.raises(errors.QuakeGridError, match="belongs to ben"):
                lines.flush(TIMEOUT_S)

    with DbClient(services) as database:
        assert [each.message for each in database.logs.list_log(mine.id)] == ["a line"]
        assert not list(database.logs.list_log(other.id))


def test_certificate_is_renewed_with_what_it_says(anna: Settings) -> None:
    """For another day, for a key that only the driver has."""
    assert anna.given is not None
    with DbClient(anna) as database:
        first = anna.given.certified

        anna.given.certified = PeopleClient(database).renew_driver()

        assert PeopleClient(database).who_am_i() == ("driver", "anna")
    life_s = certificates.DRIVER_LIFE.total_seconds()
    assert life_s - 600 < certificates.until_s(anna.given.certified.certificate_pem) - time.time() <= life_s
    assert anna.given.certified.key_pem != first.key_pem


def test_nobody_else_gets_a_drivers_certificate(services: Settings) -> None:
    """Not even who holds the key in this way, as a service has no name."""
    worker = replace(services, given=Renewed(strangers.certify(services.authkey, PrincipalRole.WORKER, "7")))
    with DbClient(worker) as database, pytest.raises(errors.NotAllowedError, match="get a new certificate"):
        PeopleClient(database).renew_driver()
    with DbClient(services) as database, pytest.raises(errors.UsageError, match="no certificate can be made"):
        PeopleClient(database).renew_driver()


# ---- sessions


def open_session(settings: Settings, *job_ids: int) -> Session:
    """A session without workers that has its turn; its driver says that it is ben's."""
    session = Session(settings, SessionOptions("ben", b"", job_ids, is_local=True))
    try:
        session.wait_for_turn(lambda _ahead: None)
    except BaseException:
        session.close()
        raise
    return session


def test_session_is_for_jobs_of_ones_person_only(services: Settings, anna: Settings) -> None:
    """Jobs that there are not are nobody's."""
    mine, other = job_of(services, "anna"), job_of(services, "ben")
    for job_ids in ([other.id], [mine.id, other.id], [mine.id, 10**9]):
        with pytest.raises(errors.NotAllowedError, match=rf"job {job_ids[-1]} is not a job of anna"):
            open_session(anna, *job_ids)

    session = open_session(anna, mine.id)
    with contextlib.closing(session), BrokerClient(services) as broker:
        (found,) = broker.status().sessions
        assert (found.session_id, found.user_name) == (session.session_id, "anna")


def test_token_of_an_earlier_session_is_for_jobs_of_ones_person_only(
    services: Settings, anna: Settings
) -> None:
    """A broker that was started again knows the token, and has to ask for the jobs."""
    mine, other = job_of(services, "anna"), job_of(services, "ben")
    earlier = 4711
    token = lane_keys.session_token(lane_keys.token_key(services.authkey), earlier)
    with contextlib.closing(BrokerLink(anna)) as link:
        for job_ids in ([other.id], [mine.id, other.id]):
            request = sessions_pb2.OpenSessionRequest(
                host="h",
                pid=1,
                is_local=True,
                job_ids=job_ids,
                resumed_session_id=earlier,
                resumed_token=token,
                lane_port=1,
            )
            with pytest.raises(grpc.RpcError, match=f"job {other.id} is not a job of anna"):
                next(iter(link.open(request)))

    with BrokerClient(services) as broker:
        assert not broker.status().sessions
    assert str(job_state(services, other.id)) == "created"


def test_status_has_the_stages_that_a_driver_tells(services: Settings, anna: Settings) -> None:
    """The first ones at once, the last ones after a pause."""
    with contextlib.closing(open_session(anna)) as session, BrokerClient(services) as broker:
        for done_count in (0, 1, 2):
            session.tell_stage(0, "classical", (done_count, 2, 0))
        whole = (StageStatus(0, "classical", 2, 2),)

        wait_until(lambda: [each.stages for each in broker.status().sessions] == [whole], TIMEOUT_S)


def test_driver_speaks_for_its_own_session_only(services: Settings, anna: Settings) -> None:
    """Neither as another person's, nor as that of the same person, without the session's token."""
    with contextlib.closing(open_session(anna)) as session:
        for driver in (driver_of(services, "ben"), anna):
            link = BrokerLink(driver)
            for call in (link.close_session, link.flush_output):
                for token in ("", "0" * 64):
                    with pytest.raises(grpc.RpcError) as refused:
                        call(session.session_id, token, TIMEOUT_S)
                    assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED
            stages = sessions_pb2.TellStagesRequest(session_id=session.session_id, session_token="0" * 64)
            with pytest.raises(grpc.RpcError) as refused:
                link.tell_stages(stages, TIMEOUT_S)
            assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED
            resumed = sessions_pb2.OpenSessionRequest(
                host=socket.gethostname(),
                pid=os.getpid(),
                resumed_session_id=session.session_id,
                resumed_token="0" * 64,
                lane_port=1,
            )
            with pytest.raises(grpc.RpcError, match="is not this driver's"):
                next(iter(link.open(resumed)))
            link.close()

        with BrokerClient(services) as broker:
            assert [each.session_id for each in broker.status().sessions] == [session.session_id]


def test_keys_of_a_lane_open_the_door_and_no_session(services: Settings, anna: Settings) -> None:
    """Who has been a driver connects to the lane of another, and is refused there under each name."""
    channel = BrokerLink(driver_of(services, "ben"))
    request = sessions_pb2.OpenSessionRequest(host="h", pid=1, is_local=True)
    stream = channel.open(request)
    admitted = next(each.admitted for each in stream if each.HasField("admitted"))
    keys = admitted.lane_keys
    door = lane_keys.DoorKeys(
        keys.server_public.encode(), keys.client_public.encode(), keys.client_secret.encode()
    )
    assert services.authkey not in str(admitted)
    with contextlib.closing(open_session(anna)) as session:
        with BrokerClient(services) as broker:
            ports = {each.session_id: each.lane_port for each in broker.status().sessions}
        theirs = session.session_id
        names = (
            lane_names.driver_name(theirs, admitted.session_token),
            lane_names.worker_name(theirs, "w-1", admitted.session_token),
            lane_names.driver_name(theirs, ""),
        )
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        try:
            for name in names:
                endpoint = f"tcp://127.0.0.1:{ports[theirs]}"
                with contextlib.closing(lane_sockets.connect_dealer(context, endpoint, door, name)) as dealer:
                    assert told_by_lane(dealer, theirs) == "refused"
        finally:
            context.destroy(linger=0)
    stream.cancel()
    channel.close()


def told_by_lane(dealer: zmq.Socket[bytes], session_id: int) -> str | None:
    """What a lane answers to who wants to cancel a task of a session."""
    dealer.setsockopt(zmq.RCVTIMEO, int(TIMEOUT_S * 1000))
    assert dealer.recv() == lane_sockets.PROBE
    dealer.send(lane_sockets.PROBE)
    cancel = lane_pb2.CancelTasks(session_id=session_id, task_ids=[1])
    dealer.send(lane_pb2.LaneMessage(cancel_tasks=cancel).SerializeToString())
    while True:
        body = lane_pb2.LaneMessage.FromString(dealer.recv()).WhichOneof("body")
        if body != "hello":
            return body
