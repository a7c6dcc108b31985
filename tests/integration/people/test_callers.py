"""Who may call what, over real connections: the table cell by cell, and jobs of several strangers."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import itertools
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import grpc
import pytest

from quakegrid import errors, testing
from quakegrid.access import permissions, principals
from quakegrid.access.permissions import Permission, Subject, Verdict
from quakegrid.access.principals import PEOPLE, Principal, PrincipalRole
from quakegrid.access.proofs import Proof
from quakegrid.api.v1 import fleet_pb2, fleet_pb2_grpc, jobs_pb2, jobs_pb2_grpc
from quakegrid.clients.connection import Connection
from quakegrid.clients.dbserver.client import DbClient
from quakegrid.clients.dbserver.people import PeopleClient
from quakegrid.internal.v1 import membership_pb2, membership_pb2_grpc
from quakegrid.jobs.values import Job
from quakegrid.services.agent.node.doors import port as agent_port
from quakegrid.services.broker import server as broker_server
from quakegrid.services.dbserver.rpc import servicers
from quakegrid.settings import config
from quakegrid.settings.config import Settings
from quakegrid.transport import callers, credentials, error_details, grpc_channels
from quakegrid.transport.callers import CallerCheck
from tests.support import strangers
from tests.support.calls import loops
from tests.support.dbservers import LocalDbServer
from tests.support.processes import Service

AUTHKEY = "a-key-of-a-cluster-that-nobody-guesses"
TIMEOUT_S = 30.0
JOB_OF_ANNA, NO_JOB = 7, 8
REVOKED = "rudi"


class Probe:
    """A server that answers every call of the table with the caller, behind the check."""

    def __init__(self, clock: Any) -> None:
        self._clock = clock
        self.asked: list[int] = []

    async def start(self) -> tuple[grpc.aio.Server, str]:
        """The running server, and its address."""
        server = grpc.aio.server(
            interceptors=[CallerCheck(self._owner_of_job, self, self._clock)],
            options=grpc_channels.SERVER_OPTIONS,
        )
        for method in permissions.TABLE:
            service, name = method.strip("/").split("/")
            handler = grpc.unary_unary_rpc_method_handler(self._answer, request_deserializer=_About)
            server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {name: handler}),))
        port = server.add_secure_port("127.0.0.1:0", credentials.server_credentials(AUTHKEY))
        await server.start()
        return server, f"127.0.0.1:{port}"

    async def _owner_of_job(self, job_id: int) -> str | None:
        self.asked.append(job_id)
        return "anna" if job_id == JOB_OF_ANNA else None

    async def doubt(self, principal: Principal) -> errors.QuakeGridError | None:
        """Whether a credential was revoked."""
        return callers.revoked(principal) if principal.name == REVOKED else None

    async def _answer(self, _request: Any, _context: Any) -> bytes:
        return str(callers.current()).encode()


class _About:
    """A request about a job and a node."""

    def __init__(self, data: bytes) -> None:
        number, self.host = data.decode().split()
        self.job_id = int(number)


def ask(address: str, proof: Proof, method: str, about: str = "7 n1") -> str | grpc.RpcError:
    """The answer to one call, or its failure."""
    with closing(grpc_channels.open_channel(address, proof)) as channel:
        try:
            answer: bytes = channel.unary_unary(method)(about.encode(), timeout=TIMEOUT_S)
        except grpc.RpcError as exc:
            return exc
    return answer.decode()


def probe(*calls: tuple[Proof, str, str], clock_s: float | None = None) -> list[str | grpc.RpcError]:
    """The answers of the probe to these calls, each with a proof, a method and what it is about."""

    async def run() -> list[str | grpc.RpcError]:
        now_s = datetime.datetime.now(datetime.UTC).timestamp() if clock_s is None else clock_s
        server, address = await Probe(lambda: now_s).start()
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(1) as thread:
            try:
                return [
                    await loop.run_in_executor(thread, ask, address, proof, method, about)
                    for proof, method, about in calls
                ]
            finally:
                await server.stop(0)

    return loops.run(run())


def expected(role: PrincipalRole, row: Permission) -> bool:
    """Whether anna, or the node n1, may do this to her job or to itself."""
    name = "n1" if role is PrincipalRole.NODE else "anna"
    verdict = permissions.judge(Principal(role, name), row)
    is_own = role is PrincipalRole.NODE if row.subject is Subject.NODE else role is not PrincipalRole.NODE
    return verdict is Verdict.YES or (verdict is Verdict.IF_OWN and is_own)


@pytest.mark.parametrize("role", list(PrincipalRole))
def test_table_holds_cell_by_cell(role: PrincipalRole) -> None:
    """Each call, made by each kind of principal over mutual TLS."""
    name = "n1" if role is PrincipalRole.NODE else "anna"
    proof = AUTHKEY if role is PrincipalRole.SERVICE else strangers.certify(AUTHKEY, role, name)

    answers = probe(*((proof, method, "7 n1") for method in permissions.TABLE))

    who = str(Principal(role, "" if role is PrincipalRole.SERVICE else name))
    for (method, row), answer in zip(permissions.TABLE.items(), answers, strict=True):
        if expected(role, row):
            assert answer == who, method
        else:
            assert isinstance(answer, grpc.RpcError), method
            assert answer.code() is grpc.StatusCode.PERMISSION_DENIED, method
            assert error_details.reason_of(answer) == "NOT_ALLOWED"
            assert f"you are {who} and may not {row.does}" in (answer.details() or "")


def test_job_of_another_is_refused_with_its_owner() -> None:
    """By id; a negative one would be the server's business, and a missing one is."""
    ben, method = strangers.certify(AUTHKEY, PrincipalRole.USER, "ben"), "/quakegrid.api.v1.Fleet/AbortJob"

    others, last, none = probe((ben, method, "7 n1"), (ben, method, "-1 n1"), (ben, method, f"{NO_JOB} n1"))

    assert isinstance(others, grpc.RpcError)
    assert "job 7 belongs to anna; you are ben (user)" in (others.details() or "")
    assert isinstance(last, grpc.RpcError)
    assert last.code() is grpc.StatusCode.NOT_FOUND
    assert none == "ben (user)"


def test_node_speaks_as_itself_only() -> None:
    """Not as another one."""
    node, method = (
        strangers.certify(AUTHKEY, PrincipalRole.NODE, "n2"),
        "/quakegrid.internal.v1.Membership/JoinNode",
    )

    other, own = probe((node, method, "7 n1"), (node, method, "7 n2"))

    assert own == "the node n2"
    assert isinstance(other, grpc.RpcError)
    assert "the node n1 is not yours" in (other.details() or "")


def test_credential_ends_on_a_connection_that_goes_on() -> None:
    """TLS looks at the time once; the check does at each call."""
    anna = strangers.certify(AUTHKEY, PrincipalRole.USER, "anna")
    later_s = (datetime.datetime.now(datetime.UTC) + strangers.DAY).timestamp() + 1

    (answer,) = probe((anna, "/quakegrid.api.v1.Jobs/ListJobs", "7 n1"), clock_s=later_s)

    assert isinstance(answer, grpc.RpcError)
    assert answer.code() is grpc.StatusCode.UNAUTHENTICATED
    assert "the credential of anna (user) ended on" in (answer.details() or "")
    assert isinstance(grpc_channels.translate(answer, "broker", "there"), errors.CredentialError)


def test_revoked_credential_is_refused() -> None:
    """With the command that helps, for whoever may give it."""
    rudi = strangers.certify(AUTHKEY, PrincipalRole.USER, REVOKED)

    (answer,) = probe((rudi, "/quakegrid.api.v1.Jobs/ListJobs", "7 n1"))

    assert isinstance(answer, grpc.RpcError)
    assert answer.code() is grpc.StatusCode.UNAUTHENTICATED
    assert "`quakegrid user renew rudi`" in (answer.details() or "")


@pytest.mark.parametrize("life", [datetime.timedelta(days=-1, minutes=1), datetime.timedelta(minutes=-1)])
def test_ended_or_foreign_certificate_is_refused_by_tls(life: datetime.timedelta) -> None:
    """Before any call is heard."""
    ended = strangers.certify(AUTHKEY, PrincipalRole.ADMIN, "ada", life)
    foreign = strangers.certify(f"{AUTHKEY}-of-another", PrincipalRole.ADMIN, "ada")

    answers = probe(
        (ended, "/quakegrid.api.v1.Jobs/ListJobs", "7 n1"), (foreign, "/grpc.health.v1.Health/Check", "7 n")
    )

    assert [answer.code() for answer in answers if isinstance(answer, grpc.RpcError)] == [
        grpc.StatusCode.UNAVAILABLE
    ] * 2


@pytest.mark.parametrize("name", ["ada", "peer.quakegrid.internal"])
def test_person_cannot_pose_as_a_service(name: str) -> None:
    """Clients do not take a server that shows the certificate of an admin, whatever the admin is called."""
    shown = strangers.certify(AUTHKEY, PrincipalRole.ADMIN, name)
    server = grpc.server(ThreadPoolExecutor(1))
    server_side = grpc.ssl_server_credentials(
        [(shown.key_pem, shown.certificate_pem)], shown.ca_pem, require_client_auth=True
    )
    port = server.add_secure_port("127.0.0.1:0", server_side)
    server.start()
    try:
        answer = ask(f"127.0.0.1:{port}", AUTHKEY, "/grpc.health.v1.Health/Check")
    finally:
        server.stop(None)

    assert isinstance(answer, grpc.RpcError)
    assert answer.code() is grpc.StatusCode.UNAVAILABLE


class Endless:
    """A stream that counts until its client leaves; it tells when it has ended."""

    def __init__(self) -> None:
        self.has_ended = asyncio.Event()
        self.is_revoked = False

    async def count(self, _request: bytes, _context: Any) -> AsyncIterator[bytes]:
        """The numbers from 0 on."""
        try:
            for number in itertools.count():
                yield str(number).encode()
                await asyncio.sleep(0)
        finally:
            self.has_ended.set()

    async def doubt(self, principal: Principal) -> errors.QuakeGridError | None:
        """Whether the credential was revoked."""
        return callers.revoked(principal) if self.is_revoked else None


async def no_owner(_job_id: int) -> None:
    """There are no jobs."""


@pytest.mark.parametrize("role", [PrincipalRole.USER, PrincipalRole.DRIVER])
@pytest.mark.parametrize("leaves", [True, False])
def test_stream_ends_with_its_client_or_credential(
    leaves: bool, role: PrincipalRole, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However busy it is; the servicer is closed, too."""
    monkeypatch.setattr(callers, "STREAM_CHECK_S", 0.02)

    async def run() -> grpc.StatusCode:
        endless = Endless()
        server = grpc.aio.server(interceptors=[CallerCheck(no_owner, endless)])
        handlers = {"WatchJobs": grpc.unary_stream_rpc_method_handler(endless.count)}
        service = grpc.method_handlers_generic_handler("quakegrid.api.v1.Jobs", handlers)
        server.add_generic_rpc_handlers((service,))
        port = server.add_secure_port("127.0.0.1:0", credentials.server_credentials(AUTHKEY))
        await server.start()
        proof = strangers.certify(AUTHKEY, role, "anna")
        shown = grpc.ssl_channel_credentials(proof.ca_pem, proof.key_pem, proof.certificate_pem)
        options = (("grpc.ssl_target_name_override", principals.PEER_NAME),)
        async with (
            asyncio.timeout(TIMEOUT_S),
            grpc.aio.secure_channel(f"127.0.0.1:{port}", shown, options=options) as channel,
        ):
            call = channel.unary_stream("/quakegrid.api.v1.Jobs/WatchJobs")(b"")
            assert [await call.read() for _ in range(3)] == [b"0", b"1", b"2"]
            if leaves:
                call.cancel()
            else:
                endless.is_revoked = True
                with contextlib.suppress(grpc.aio.AioRpcError):
                    while await call.read() is not grpc.aio.EOF:  # type: ignore[attr-defined]
                        pass
            code = await call.code()
            await endless.has_ended.wait()
        await server.stop(None)
        return code

    expected_code = grpc.StatusCode.CANCELLED if leaves else grpc.StatusCode.UNAUTHENTICATED
    assert loops.run(run()) is expected_code


# ---- the services themselves


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """A running dbserver, broker and agent."""
    directory = tmp_path_factory.mktemp("people")
    (directory / "home").mkdir()
    path: Path = testing.write_cluster_config(directory / "state", {"agent": {"preload": "none"}})
    found = config.load_settings(path.parent, {"OQ_CONFIG_FILE": str(path)})
    dbserver, broker, agent = LocalDbServer(found), Service(found, "broker"), Service(found, "agent")
    try:
        dbserver.start()
        broker.start()
        agent.start()
        yield found
    finally:
        agent.close()
        broker.close()
        dbserver.close()


def connect(settings: Settings, service: str, role: PrincipalRole, name: str) -> Connection:
    """A connection of a principal; a person or a node is one that the dbserver knows."""
    address = {
        "dbserver": settings.dbserver_address,
        "broker": settings.broker_address,
        "agent": f"127.0.0.1:{settings.agent_port}",
    }[service]
    proof = strangers.certify(settings.authkey, role, name)
    if role in PEOPLE:
        with DbClient(settings) as database:
            _, proof = PeopleClient(database).issue(name, role, strangers.DAY, is_only=True)
    if role is PrincipalRole.NODE:
        proof = strangers.join(settings, name).proof
    return Connection(service, address, proof, timeout_s=TIMEOUT_S)


@pytest.fixture
def job(settings: Settings) -> Job:
    """A job of anna's, which a service created for her."""
    with DbClient(settings) as database:
        return database.jobs.create_job(
            calculation_mode="classical", description="a job", user_name="anna", data_dir="/nowhere"
        )


def test_job_belongs_to_the_principal_that_made_it(settings: Settings) -> None:
    """Whatever name the request has."""
    with connect(settings, "dbserver", PrincipalRole.DRIVER, "ben") as connection:
        stub = jobs_pb2_grpc.JobsStub(connection.channel)
        request = jobs_pb2.CreateJobRequest(request_id="of ben", user_name="anna", data_dir="/nowhere")

        made = connection.call(stub.CreateJob, request).job

    assert made.user_name == "ben"


def test_only_the_owner_and_the_staff_delete_a_job(settings: Settings, job: Job) -> None:
    """A forged name in the request changes nothing."""
    request = jobs_pb2.DeleteJobRequest(job_id=job.id, user_name="anna", request_id=f"delete {job.id}")
    with connect(settings, "dbserver", PrincipalRole.USER, "ben") as connection:
        stub = jobs_pb2_grpc.JobsStub(connection.channel)
        with pytest.raises(
            errors.NotAllowedError, match=rf"job {job.id} belongs to anna; you are ben \(user\)"
        ):
            connection.call(stub.DeleteJob, request)

    with connect(settings, "dbserver", PrincipalRole.OPERATOR, "otto") as connection:
        stub = jobs_pb2_grpc.JobsStub(connection.channel)
        assert connection.call(stub.DeleteJob, request).paths
        assert connection.call(stub.DeleteJob, request).paths  # the answer to the same request


def test_owner_changes_a_job(settings: Settings, job: Job) -> None:
    """Without saying who asks."""
    with connect(settings, "dbserver", PrincipalRole.USER, "anna") as connection:
        stub = jobs_pb2_grpc.JobsStub(connection.channel)

        request = jobs_pb2.UpdateJobRequest(job_id=job.id, description="of anna")

        assert connection.call(stub.UpdateJob, request).job.description == "of anna"


def test_abort_of_the_job_of_another_is_refused(settings: Settings, job: Job) -> None:
    """The broker asks the dbserver whose it is; the log says who aborted it."""
    request = fleet_pb2.AbortJobRequest(job_id=job.id, user_name="anna")
    with connect(settings, "broker", PrincipalRole.USER, "ben") as connection:
        with pytest.raises(errors.NotAllowedError, match=r"job \d+ belongs to anna"):
            connection.call(fleet_pb2_grpc.FleetStub(connection.channel).AbortJob, request)
        missing = fleet_pb2.AbortJobRequest(job_id=10**6)
        with pytest.raises(errors.NotFoundError, match="there is no job 1000000"):
            connection.call(fleet_pb2_grpc.FleetStub(connection.channel).AbortJob, missing)

    with connect(settings, "broker", PrincipalRole.OPERATOR, "otto") as connection:
        connection.call(fleet_pb2_grpc.FleetStub(connection.channel).AbortJob, request)
    with DbClient(settings) as database:
        found = database.jobs.get_job(job.id)

    assert (str(found.state), found.state_reason) == ("aborted", "aborted by otto")


def test_node_joins_under_its_own_name_only(settings: Settings) -> None:
    """Who speaks for another node is told so."""
    with connect(settings, "broker", PrincipalRole.NODE, "127.0.0.9") as connection:
        stub = membership_pb2_grpc.MembershipStub(connection.channel)
        with pytest.raises(errors.NotAllowedError, match=r"the node 127\.0\.0\.8 is not yours"):
            connection.call(stub.LeaveNode, membership_pb2.LeaveNodeRequest(host="127.0.0.8"))


@pytest.mark.parametrize("role", [role for role in PrincipalRole if role is not PrincipalRole.SERVICE])
@pytest.mark.parametrize("service", ["dbserver", "broker", "agent"])
def test_each_service_refuses_what_is_not_for_a_role(
    settings: Settings, service: str, role: PrincipalRole
) -> None:
    """All calls of the service that the table does not have for it, streams among them."""
    served = {"dbserver": servicers.SERVICES, "broker": broker_server.SERVICES, "agent": agent_port.SERVICES}
    not_for_it = [
        method
        for method, row in permissions.TABLE.items()
        if method.strip("/").partition("/")[0] in served[service]
        and permissions.judge(Principal(role, "anna"), row) is Verdict.NO
    ]
    with connect(settings, service, role, "anna") as connection:
        for method in not_for_it:
            # On the wire all kinds of calls are streams.
            call = connection.channel.stream_stream(method)(iter([b""]), timeout=TIMEOUT_S)
            with pytest.raises(grpc.RpcError) as failure:
                list(call)
            assert failure.value.code() is grpc.StatusCode.PERMISSION_DENIED, method

    assert not_for_it
