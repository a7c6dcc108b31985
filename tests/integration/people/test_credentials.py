"""Credentials of people: issued, listed, revoked, and known to every service."""

from __future__ import annotations

import asyncio
import datetime
import itertools
from collections.abc import Awaitable, Callable

import pytest
from cryptography import x509

from quakegrid import errors
from quakegrid.access.principals import Principal, PrincipalRole
from quakegrid.access.proofs import Certified
from quakegrid.api.v1 import jobs_pb2, jobs_pb2_grpc, people_pb2, people_pb2_grpc
from quakegrid.clients.connection import Connection
from quakegrid.clients.dbserver import credential_watch
from quakegrid.clients.dbserver.client import DbClient
from quakegrid.clients.dbserver.credential_watch import CredentialWatch
from quakegrid.clients.dbserver.people import PeopleClient
from quakegrid.settings.config import Settings
from quakegrid.transport import callers, certificates
from tests.support.calls import loops
from tests.support.dbservers import LocalDbServer, serving

DAY = datetime.timedelta(days=1)
USER, OPERATOR, ADMIN = PrincipalRole.USER, PrincipalRole.OPERATOR, PrincipalRole.ADMIN
TIMEOUT_S = 30.0


def connect(settings: Settings, proof: Certified) -> Connection:
    """A connection of a person to the dbserver."""
    return Connection("dbserver", settings.dbserver_address, proof, timeout_s=TIMEOUT_S)


def who_am_i(settings: Settings, proof: Certified) -> str:
    """The name that the dbserver sees."""
    with connect(settings, proof) as connection:
        stub = people_pb2_grpc.PeopleStub(connection.channel)
        return connection.call(stub.WhoAmI, people_pb2.WhoAmIRequest()).name


@pytest.fixture
def people(client: DbClient) -> PeopleClient:
    """The people of a running dbserver, asked by a service."""
    return PeopleClient(client)


def test_holder_of_the_authkey_is_a_service(people: PeopleClient) -> None:
    """And has no name."""
    assert people.who_am_i() == ("service", "")


def test_credential_says_who_one_is(dbserver: LocalDbServer, people: PeopleClient) -> None:
    """It is listed with who issued it, and ends when it should."""
    issued, proof = people.issue("anna", USER, 3 * DAY)

    assert who_am_i(dbserver.settings, proof) == "anna"
    assert people.list_all() == [issued] == [people.find_valid("anna")]
    assert (issued.role, issued.issuer) == ("user", "a service of the cluster")
    assert issued.end_time - issued.issue_time == 3 * DAY
    assert issued.state(issued.issue_time) == "valid"
    assert issued.state(issued.end_time) == "ended"
    certificate = x509.load_pem_x509_certificate(proof.certificate_pem)
    assert abs(certificate.not_valid_after_utc - issued.end_time) < datetime.timedelta(seconds=1)


def test_revoked_credential_is_refused_at_once(dbserver: LocalDbServer, people: PeopleClient) -> None:
    """On a connection that is open; another one of the same person goes on."""
    (one, proof), (two, other) = people.issue("anna", USER, DAY), people.issue("anna", USER, 2 * DAY)
    with connect(dbserver.settings, proof) as connection:
        stub = people_pb2_grpc.PeopleStub(connection.channel)
        connection.call(stub.WhoAmI, people_pb2.WhoAmIRequest())

        assert [each.id for each in people.revoke("anna", one.id[:8]).credentials] == [one.id]

        with pytest.raises(errors.CredentialError, match="`quakegrid user renew anna`"):
            connection.call(stub.WhoAmI, people_pb2.WhoAmIRequest())
    assert who_am_i(dbserver.settings, other) == "anna"
    assert people.find_valid("anna") == two
    assert people.revoke("anna", one.id).credentials == []


def test_stream_of_a_revoked_person_ends(
    dbserver: LocalDbServer, people: PeopleClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It goes on as long as the credential counts."""
    monkeypatch.setattr(callers, "STREAM_CHECK_S", 0.02)
    _, proof = people.issue("anna", USER, DAY)
    with connect(dbserver.settings, proof) as connection:
        stub = jobs_pb2_grpc.JobsStub(connection.channel)
        messages = connection.stream(stub.WatchJobs, jobs_pb2.WatchJobsRequest(), TIMEOUT_S)
        next(messages)
        people.revoke("anna")

        with pytest.raises(errors.CredentialError, match="was revoked"):
            list(messages)


def test_revocation_survives_a_restart(settings: Settings) -> None:
    """What counts is in the database."""
    with serving(settings), DbClient(settings) as client:
        _, good = PeopleClient(client).issue("anna", USER, DAY)
        _, bad = PeopleClient(client).issue("ben", USER, DAY)
        PeopleClient(client).revoke("ben")

    with serving(settings):
        assert who_am_i(settings, good) == "anna"
        with pytest.raises(errors.CredentialError):
            who_am_i(settings, bad)


def test_person_has_one_role(dbserver: LocalDbServer, people: PeopleClient) -> None:
    """It changes in one step, in which the earlier credentials end."""
    _, before = people.issue("anna", USER, DAY)

    with pytest.raises(errors.StateError, match="`quakegrid user role anna operator`"):
        people.issue("anna", OPERATOR, DAY)
    _, after = people.issue("anna", OPERATOR, DAY, is_only=True)

    assert who_am_i(dbserver.settings, after) == "anna"
    with pytest.raises(errors.CredentialError):
        who_am_i(dbserver.settings, before)


def test_admin_issues_and_an_operator_does_not(dbserver: LocalDbServer, people: PeopleClient) -> None:
    """From any machine, with a credential of one's own."""
    _, ada = people.issue("ada", ADMIN, DAY)
    _, otto = people.issue("otto", OPERATOR, DAY)
    request = people_pb2.IssueCredentialRequest(
        name="ben", role=people_pb2.PERSON_ROLE_USER, public_key_pem=certificates.new_key()[1]
    )
    request.life.FromTimedelta(DAY)
    with connect(dbserver.settings, ada) as connection:
        made = connection.call(people_pb2_grpc.PeopleStub(connection.channel).IssueCredential, request)
    with (
        connect(dbserver.settings, otto) as connection,
        pytest.raises(
            errors.NotAllowedError, match=r"you are otto \(operator\) and may not issue credentials"
        ),
    ):
        connection.call(people_pb2_grpc.PeopleStub(connection.channel).IssueCredential, request)

    assert made.credential.issuer == "ada (admin)"


GOOD = {"name": "anna", "role": 1, "public_key_pem": certificates.new_key()[1]}
ED25519 = b"""-----BEGIN PUBLIC KEY-----
MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=
-----END PUBLIC KEY-----
"""


@pytest.mark.parametrize(
    ("change", "life_s", "words"),
    [
        ({"name": "-rf"}, 86_400, "cannot be a person's name"),
        ({"name": "a\x1b[2J"}, 86_400, "cannot be a person's name"),
        ({"name": "x" * 100_000}, 86_400, "cannot be a person's name"),
        ({"cluster": "a/b"}, 86_400, "cannot be a cluster's name"),
        ({"role": 0}, 86_400, "user, operator, admin"),
        ({"role": 77}, 86_400, "user, operator, admin"),
        ({}, 60, "an hour to ten years"),
        ({}, -1, "an hour to ten years"),
        ({}, 10**11, "an hour to ten years"),
        ({"public_key_pem": b""}, 86_400, "no certificate can be made"),
        ({"public_key_pem": b"x" * 2000}, 86_400, "at most 1000 bytes"),
        ({"public_key_pem": ED25519}, 86_400, "not on the curve P-256"),
    ],
)
def test_bad_request_for_a_credential_is_refused(
    client: DbClient, change: dict[str, object], life_s: int, words: str
) -> None:
    """In words, and nothing is stored."""
    request = people_pb2.IssueCredentialRequest(**(GOOD | change))  # type: ignore[arg-type]
    request.life.seconds = life_s
    stub = people_pb2_grpc.PeopleStub(client.connection.channel)

    with pytest.raises(errors.UsageError, match=words):
        client.connection.call(stub.IssueCredential, request)

    assert PeopleClient(client).list_all() == []


def test_credentials_call_the_cluster_as_the_last_one_did(people: PeopleClient) -> None:
    """The first one as the machine, if nobody says how."""
    first, _ = people.issue("anna", USER, DAY)
    people.issue("anna", USER, DAY, cluster="lab")
    last, _ = people.issue("ben", USER, DAY)

    assert first.cluster
    assert last.cluster == "lab"


def test_unknown_person_or_credential_is_not_revoked(people: PeopleClient) -> None:
    """The words tell which of them is unknown."""
    people.issue("anna", USER, DAY)

    with pytest.raises(errors.NotFoundError, match="nobody here is called ben"):
        people.revoke("ben")
    with pytest.raises(errors.NotFoundError, match="anna has no credential xyz"):
        people.revoke("anna", "xyz")
    with pytest.raises(errors.NotFoundError, match="ben has no valid credential"):
        people.find_valid("ben")


def test_ambiguous_id_revokes_nothing(people: PeopleClient) -> None:
    """Seventeen ids have a first digit in common."""
    made = [people.issue("anna", USER, DAY)[0].id for _ in range(17)]
    shared = next(one[0] for one, two in itertools.combinations(made, 2) if one[0] == two[0])

    with pytest.raises(errors.UsageError, match=f"begin with {shared}; give more of the id"):
        people.revoke("anna", shared)

    assert {each.state(each.issue_time) for each in people.list_all()} == {"valid"}


# ---- what other services know


async def become(is_so: Callable[[], Awaitable[bool]]) -> None:
    """Ask until it is so."""
    async with asyncio.timeout(TIMEOUT_S):
        while not await is_so():  # noqa: ASYNC110  nobody tells us
            await asyncio.sleep(0.01)


async def admits(watch: CredentialWatch, principal: Principal) -> bool:
    """Whether a service lets a person in."""
    return await watch.doubt(principal) is None


async def refuses(watch: CredentialWatch, principal: Principal) -> bool:
    """Whether it does not."""
    return not await admits(watch, principal)


def test_watch_hears_of_new_and_revoked_credentials(settings: Settings) -> None:
    """Within moments; a person may be faster than the news of a new credential."""

    async def run(people: PeopleClient) -> None:
        watch = CredentialWatch(settings)
        issue: Callable[[], tuple[object, Certified]] = lambda: people.issue("anna", USER, DAY)  # noqa: E731
        await asyncio.to_thread(issue)
        first = people.find_valid("anna").id
        assert await watch.doubt(Principal(USER, "anna", first)) is None
        await asyncio.to_thread(people.revoke, "anna")
        await become(lambda: refuses(watch, Principal(USER, "anna", first)))
        await asyncio.to_thread(issue)
        assert await watch.doubt(Principal(USER, "anna", people.find_valid("anna").id)) is None
        watch.close()

    with serving(settings), DbClient(settings) as client:
        loops.run(run(PeopleClient(client)))


def test_watch_goes_on_without_the_dbserver_for_a_while_only(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then nobody knows who was revoked; when the dbserver is back, all is as before."""

    async def run(server: LocalDbServer) -> None:
        watch = CredentialWatch(settings)
        with DbClient(settings) as client:
            issued, _ = await asyncio.to_thread(PeopleClient(client).issue, "anna", USER, DAY)
        anna = Principal(USER, "anna", issued.id)
        assert await watch.doubt(anna) is None
        await asyncio.to_thread(server.stop)
        assert await watch.doubt(anna) is None
        monkeypatch.setattr(credential_watch, "COUNTS_ALONE_S", 0.0)
        monkeypatch.setattr(credential_watch, "FIRST_NEWS_TIMEOUT_S", 0.05)
        await become(lambda: refuses(watch, anna))
        assert isinstance(await watch.doubt(anna), errors.PeerUnreachableError)
        await asyncio.to_thread(server.start)
        await become(lambda: admits(watch, anna))
        watch.close()

    server = LocalDbServer(settings)
    try:
        server.start()
        loops.run(run(server))
    finally:
        server.close()


def test_watch_that_never_heard_lets_nobody_in(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """A broker whose dbserver is away."""
    monkeypatch.setattr(credential_watch, "FIRST_NEWS_TIMEOUT_S", 0.05)

    async def run() -> errors.QuakeGridError | None:
        watch = CredentialWatch(settings)
        try:
            return await watch.doubt(Principal(USER, "anna", "0" * 32))
        finally:
            watch.close()

    assert "does not answer, so nobody here knows" in str(loops.run(run()))
