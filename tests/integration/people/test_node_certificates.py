"""Tokens for nodes and the certificates that machines get with them: used, refused, renewed, revoked."""

from __future__ import annotations

import asyncio
import datetime
import sqlite3
import ssl
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from quakegrid import errors
from quakegrid.access import node_tokens, principals
from quakegrid.access.principals import PrincipalRole
from quakegrid.access.proofs import Certified, Proof, Renewed
from quakegrid.api.v1 import people_pb2, people_pb2_grpc
from quakegrid.clients import node_access
from quakegrid.clients.connection import Connection
from quakegrid.clients.dbserver.client import DbClient
from quakegrid.clients.dbserver.credential_watch import CredentialWatch
from quakegrid.clients.dbserver.people import PeopleClient
from quakegrid.clients.node_access import NodeAccessClient
from quakegrid.services.dbserver.people import node_ends
from quakegrid.services.dbserver.rpc.node_access import NODE_LIFE_S
from quakegrid.settings.config import Settings
from quakegrid.settings.credential_files import CredentialFile
from quakegrid.settings.node_files import NodeFile
from quakegrid.transport import callers, certificates, credentials, grpc_channels
from tests.support import strangers
from tests.support.calls import loops
from tests.support.dbservers import LocalDbServer, serving
from tests.support.processes import make_state

HOUR = datetime.timedelta(hours=1)
TIMEOUT_S = 30.0


@pytest.fixture
def access(client: DbClient) -> NodeAccessClient:
    """The node access of a running dbserver, asked by a service."""
    return NodeAccessClient(client)


@pytest.fixture
def addresses(dbserver: LocalDbServer) -> tuple[str, str]:
    """Of dbserver and broker."""
    return dbserver.settings.dbserver_address, dbserver.settings.broker_address


def who_am_i(settings: Settings, proof: Proof) -> tuple[str, str]:
    """The role and name that the dbserver sees."""
    with Connection("dbserver", settings.dbserver_address, proof, timeout_s=TIMEOUT_S) as connection:
        stub = people_pb2_grpc.PeopleStub(connection.channel)
        found = connection.call(stub.WhoAmI, people_pb2.WhoAmIRequest())
    return found.role, found.name


def test_token_makes_a_machine_a_node(
    dbserver: LocalDbServer, access: NodeAccessClient, addresses: tuple[str, str]
) -> None:
    """For 30 days, under its name only, with a key that was made there."""
    made, text = access.create_token(addresses, HOUR)

    file = node_access.join(text, "n7")

    assert who_am_i(dbserver.settings, file.proof) == ("node", "n7")
    assert (file.host, file.dbserver, file.broker) == ("n7", *addresses)
    assert file.end_time - file.start_time == datetime.timedelta(seconds=NODE_LIFE_S)
    certificate = x509.load_pem_x509_certificate(file.proof.certificate_pem)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["n7.node.quakegrid.internal"]
    usages = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usages) == [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    (listed,) = access.list_tokens()
    assert (listed.id, listed.hosts, listed.state(made.issue_time)) == (made.id, ("n7",), "used")
    (node,) = access.list_nodes()
    assert (node.host, node.token_id, node.state(node.issue_time)) == ("n7", made.id, "valid")
    assert node.state(node.end_time) == "ended"


def test_token_counts_once_for_a_host(access: NodeAccessClient, addresses: tuple[str, str]) -> None:
    """And for as many hosts as it says: a token that somebody has seen is of no use to them."""
    _, one = access.create_token(addresses, HOUR)
    _, two = access.create_token(addresses, HOUR, max_hosts=2)
    node_access.join(one, "n1")
    node_access.join(two, "n2")

    with pytest.raises(errors.CredentialError, match="the token was used by n1 already"):
        node_access.join(one, "n1")
    with pytest.raises(errors.CredentialError, match="the token was used by n1 and is used up"):
        node_access.join(one, "n9")
    with pytest.raises(errors.CredentialError, match="the token was used by n2 already"):
        node_access.join(two, "N2")
    node_access.join(two, "n3")
    with pytest.raises(errors.CredentialError, match="the token was used by n2, n3 and is used up"):
        node_access.join(two, "n4")

    assert [node.host for node in access.list_nodes()] == ["n1", "n2", "n3"]


def test_token_is_used_once_by_many_at_once(access: NodeAccessClient, addresses: tuple[str, str]) -> None:
    """Whoever comes first has it."""
    _, text = access.create_token(addresses, HOUR)

    def attempt(number: int) -> bool:
        try:
            node_access.join(text, f"n{number}")
        except errors.CredentialError:
            return False
        return True

    with ThreadPoolExecutor(8) as threads:
        results = list(threads.map(attempt, range(16)))

    assert results.count(True) == len(access.list_nodes()) == 1


def test_token_for_a_host_is_for_this_one(access: NodeAccessClient, addresses: tuple[str, str]) -> None:
    """Which it also names."""
    _, text = access.create_token(addresses, HOUR, host="n5")

    with pytest.raises(
        errors.CredentialError, match="the token is for the node n5, and this one is called n6"
    ):
        node_access.join(text, "n6")

    assert node_access.join(text, "").host == "n5"


def change(settings: Settings, sql: str) -> None:
    """Change a row of which no service hears."""
    with closing(sqlite3.connect(settings.database, timeout=TIMEOUT_S)) as connection, connection:
        assert connection.execute(sql).rowcount == 1


def test_revoked_or_ended_token_is_refused(
    dbserver: LocalDbServer, access: NodeAccessClient, addresses: tuple[str, str]
) -> None:
    """By the dbserver, whatever its certificate says; a certificate that has ended is not even shown."""
    first, revoked = access.create_token(addresses, HOUR)
    second, ended = access.create_token(addresses, HOUR)
    key, gone = dbserver.settings.authkey, datetime.timedelta(seconds=-1)
    old = strangers.certify(key, PrincipalRole.TOKEN, "_any", gone)
    assert access.revoke_token(first.id[:8]).id == first.id
    change(dbserver.settings, f"UPDATE quakegrid_node_token SET end_s=1 WHERE id='{second.id}'")

    for text in (revoked, ended):
        with pytest.raises(errors.CredentialError, match="has ended, was revoked, or is not known here"):
            node_access.join(text, "n1")
    with pytest.raises(errors.CredentialError, match=r"the token ended on .*`quakegrid token create --node`"):
        node_access.join(token_of(old, addresses), "n1")

    assert access.list_nodes() == []
    with pytest.raises(errors.NotFoundError, match="there is no token zz"):
        access.revoke_token("zz")


@pytest.mark.parametrize("only", [True, False], ids=["one credential", "all"])
def test_token_ends_with_the_credential_of_its_maker(
    dbserver: LocalDbServer,
    access: NodeAccessClient,
    client: DbClient,
    addresses: tuple[str, str],
    *,
    only: bool,
) -> None:
    """Tokens that others have made go on, and so do nodes that have joined."""
    people = PeopleClient(client)
    issued, proof = people.issue("ada", PrincipalRole.ADMIN, 24 * HOUR)
    people.issue("ada", PrincipalRole.ADMIN, 48 * HOUR)
    _, ours = access.create_token(addresses, HOUR)
    credential = CredentialFile("lab", "ada", "admin", issued.id, issued.end_time, *addresses, proof)
    with DbClient(replace(dbserver.settings, credential=credential)) as hers:
        made, text = NodeAccessClient(hers).create_token(addresses, HOUR, max_hosts=2)
    file = node_access.join(text, "n1")

    revoked = people.revoke("ada", issued.id if only else "")

    assert (len(revoked.credentials), revoked.node_token_count) == (1 if only else 2, 1)
    assert people.revoke("ada", issued.id if only else "").node_token_count == 0
    with pytest.raises(errors.CredentialError, match=r"was revoked, .*`quakegrid token create --node`"):
        node_access.join(text, "n2")
    assert {each.id: each.state(made.issue_time) for each in access.list_tokens()}[made.id] == "revoked"
    assert who_am_i(dbserver.settings, file.proof) == ("node", "n1")
    assert node_access.join(ours, "n3").host == "n3"


def token_of(proof: Certified, addresses: tuple[str, str]) -> str:
    """A token with a certificate that was made elsewhere."""
    return node_tokens.to_text(
        node_tokens.NodeToken(
            *addresses,
            certificates.public_key_of(proof.ca_pem),
            certificates.key_bytes(proof.key_pem),
            certificates.certificate_bytes(proof.certificate_pem),
        )
    )


def test_forged_token_is_refused(dbserver: LocalDbServer, addresses: tuple[str, str]) -> None:
    """One of another cluster, one that the database does not know, one that a person made of a credential."""
    settings = dbserver.settings
    unknown = strangers.certify(settings.authkey, PrincipalRole.TOKEN, "_any")
    foreign = strangers.certify(f"{settings.authkey}-of-another", PrincipalRole.TOKEN, "_any")
    person = strangers.certify(settings.authkey, PrincipalRole.USER, "anna")
    ours = certificates.public_key_of(unknown.ca_pem)
    mixed = replace(node_tokens.from_text(token_of(foreign, addresses)), ca_public_key=ours)

    with pytest.raises(errors.CredentialError, match="is not known here"):
        node_access.join(token_of(unknown, addresses), "n1")
    with pytest.raises(errors.CredentialError, match="is not of the cluster that made the token"):
        node_access.join(token_of(foreign, addresses), "n1")
    with pytest.raises(errors.PeerUnreachableError):
        node_access.join(node_tokens.to_text(mixed), "n1")
    with pytest.raises(errors.CredentialError):
        node_access.join(token_of(person, addresses), "n1")


def test_token_of_another_cluster_does_not_open_this_one(
    access: NodeAccessClient, addresses: tuple[str, str], tmp_path: Path
) -> None:
    """Both run, and the token names the wrong one."""
    other = make_state(tmp_path / "other")
    with serving(other), DbClient(other) as client:
        _, text = NodeAccessClient(client).create_token(addresses, HOUR)

        with pytest.raises(errors.CredentialError, match="is not of the cluster that made the token"):
            node_access.join(text, "n1")

        assert NodeAccessClient(client).list_tokens()[0].hosts == ()
    assert access.list_nodes() == []


class FakeMaster:
    """Answers TLS with a certificate of a CA of its own, and keeps what it is told."""

    def __init__(self) -> None:
        identity = credentials.new_identity("a key of somebody between")
        self._server = grpc.server(ThreadPoolExecutor(1))
        pair = [(identity.key_pem, identity.certificate_pem)]
        shown = grpc.ssl_server_credentials(pair, identity.ca_pem, require_client_auth=False)
        self.port = self._server.add_secure_port("127.0.0.1:0", shown)
        self.calls: list[str] = []
        self._server.add_generic_rpc_handlers((self,))  # type: ignore[arg-type]
        self._server.start()

    def service(self, details: Any) -> None:
        """Note a call."""
        self.calls.append(details.method)

    def close(self) -> None:
        """Listen no more."""
        self._server.stop(None).wait()


def test_fake_master_learns_nothing(access: NodeAccessClient, addresses: tuple[str, str]) -> None:
    """A CA that is not the pinned one: the machine tells it neither its name nor its token."""
    _, text = access.create_token(addresses, HOUR)
    token = node_tokens.from_text(text)
    with closing(FakeMaster()) as fake:
        redirected = node_tokens.to_text(replace(token, dbserver=f"127.0.0.1:{fake.port}"))

        with pytest.raises(
            errors.CredentialError, match="so it was told nothing: another cluster, another key"
        ):
            node_access.join(redirected, "n1")

        assert fake.calls == []
    assert node_access.join(text, "n1").host == "n1"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("-rf", "cannot be a node's name"),
        ("a/b", "cannot be a node's name"),
        ("x" * 65, "cannot be a node's name"),
    ],
)
def test_name_that_is_none_is_refused(
    access: NodeAccessClient, addresses: tuple[str, str], name: str, words: str
) -> None:
    """And the token still counts."""
    _, text = access.create_token(addresses, HOUR)

    with pytest.raises(errors.UsageError, match=words):
        node_access.join(text, name)

    assert node_access.join(text, "n1").host == "n1"


def test_token_takes_no_name_that_another_node_has(
    dbserver: LocalDbServer, access: NodeAccessClient, addresses: tuple[str, str]
) -> None:
    """Unless it is for this node alone: then the earlier certificate counts no more."""
    _, text = access.create_token(addresses, HOUR)
    old = node_access.join(text, "n1")
    _, any_host = access.create_token(addresses, HOUR)

    with pytest.raises(errors.StateError, match="the cluster has a node called n1 with a valid certificate"):
        node_access.join(any_host, "n1")
    new = strangers.join(dbserver.settings, "n1")

    assert who_am_i(dbserver.settings, new.proof) == ("node", "n1")
    with pytest.raises(errors.CredentialError, match="`quakegrid token create --node --host n1`"):
        who_am_i(dbserver.settings, old.proof)
    assert node_access.join(any_host, "n2").host == "n2"  # its use was not counted


def test_certificate_is_renewed(dbserver: LocalDbServer, access: NodeAccessClient) -> None:
    """With a new key, the same id and 30 more days; the earlier one counts until its end."""
    old = strangers.join(dbserver.settings, "n1")
    before = access.list_nodes()[0]

    new = node_access.renew(old, Renewed(old.proof))

    after = access.list_nodes()[0]
    assert (after.id, after.issue_time) == (before.id, before.issue_time)
    assert after.end_time > before.end_time
    assert after.end_time == new.end_time
    assert new.start_time == after.renewal_time
    assert new.proof.key_pem != old.proof.key_pem
    for proof in (old.proof, new.proof):
        assert who_am_i(dbserver.settings, proof) == ("node", "n1")


def test_node_renews_no_other(dbserver: LocalDbServer) -> None:
    """Nor does a person."""
    one = strangers.join(dbserver.settings, "n1")

    with pytest.raises(errors.NotAllowedError, match="the node n2 is not yours; you are the node n1"):
        node_access.renew(replace(one, host="n2"), one.proof)


def test_revoked_node_is_refused_at_once(
    dbserver: LocalDbServer, access: NodeAccessClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On an open connection, in a stream that runs, and when it wants to renew; in words that help."""
    monkeypatch.setattr(callers, "STREAM_CHECK_S", 0.02)
    file = strangers.join(dbserver.settings, "n1")
    with Connection("dbserver", file.dbserver, file.proof, timeout_s=TIMEOUT_S) as connection:
        stub = people_pb2_grpc.PeopleStub(connection.channel)
        stream = connection.stream(stub.WatchCredentials, people_pb2.WatchCredentialsRequest(), TIMEOUT_S)
        assert list(next(stream).shut_out_nodes) == []

        revoked = access.revoke_node("n1")

        assert revoked is not None
        assert revoked.state(revoked.issue_time) == "revoked"
        with pytest.raises(errors.CredentialError, match=r"`agentctl join --token TOKEN`"):
            connection.call(stub.WhoAmI, people_pb2.WhoAmIRequest())
        with pytest.raises(errors.CredentialError, match="was revoked"):
            list(stream)
    with pytest.raises(errors.CredentialError):
        node_access.renew(file, file.proof)
    assert access.revoke_node("n1") is None
    with pytest.raises(errors.NotFoundError, match="no node called n2 has had a certificate"):
        access.revoke_node("n2")


def test_services_are_told_who_is_shut_out(client: DbClient, dbserver: LocalDbServer) -> None:
    """Until the node has a certificate again."""
    access = NodeAccessClient(client)
    strangers.join(dbserver.settings, "n1")
    stub = people_pb2_grpc.PeopleStub(client.connection.channel)
    stream = client.connection.stream(stub.WatchCredentials, people_pb2.WatchCredentialsRequest(), TIMEOUT_S)
    told = (list(each.shut_out_nodes) for each in stream)
    assert next(told) == []

    access.revoke_node("n1")
    assert next(told) == ["n1"]
    strangers.join(dbserver.settings, "n1")

    assert next(each for each in told if each != ["n1"]) == []


def test_services_are_told_when_a_certificate_ends(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though nothing is written then."""
    monkeypatch.setattr(node_ends, "LONGEST_WAIT_S", 0.02)
    monkeypatch.setattr(node_ends, "SHORTEST_WAIT_S", 0.02)
    with serving(settings), DbClient(settings) as client:
        file = strangers.join(settings, "n1")
        stub = people_pb2_grpc.PeopleStub(client.connection.channel)
        watch = people_pb2.WatchCredentialsRequest()
        stream = client.connection.stream(stub.WatchCredentials, watch, TIMEOUT_S)
        told = (list(each.shut_out_nodes) for each in stream)
        assert next(told) == []

        soon_s = datetime.datetime.now(datetime.UTC).timestamp() + 0.5
        change(settings, f"UPDATE quakegrid_node SET end_s={soon_s!r}")
        # The dbserver reads it with the next change of credentials.
        NodeAccessClient(client).create_token((file.dbserver, file.broker), HOUR)

        assert next(each for each in told if each) == ["n1"]


# ---- what a node's server is taken for


@contextmanager
def server_of(proof: Proof) -> Iterator[str]:
    """A server that shows this proof; its address."""
    server = grpc.server(ThreadPoolExecutor(1))
    servicer = health.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    port = server.add_secure_port("127.0.0.1:0", credentials.server_credentials(proof))
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(None).wait()


def answers(address: str, proof: Proof, node: str = "") -> bool:
    """Whether a client takes a server for a service, or for the agent of a node."""
    with closing(grpc_channels.open_channel(address, proof, node)) as channel:
        try:
            health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=TIMEOUT_S)
        except grpc.RpcError as exc:
            if exc.code() is not grpc.StatusCode.UNAVAILABLE:
                raise
            return False
    return True


@pytest.mark.parametrize("name", ["n1", "10.0.0.7", "n1.lab.example.org"])
def test_node_is_taken_for_itself_only(name: str) -> None:
    """Not for dbserver or broker, and not for another node, over real TLS."""
    key = "a key of sixteen characters or more"
    node = strangers.certify(key, PrincipalRole.NODE, name)
    with server_of(Renewed(node)) as address:
        assert answers(address, key, name)
        assert answers(address, key, name.upper())
        assert not answers(address, key)
        assert not answers(address, key, "n2")
        assert not answers(address, key, "10-0-0-7")
        assert not answers(address, f"{key} of another cluster", name)
        person = strangers.certify(key, PrincipalRole.USER, "anna")
        assert answers(address, person, name)


def test_holder_of_the_authkey_is_taken_for_every_node() -> None:
    """So that clusters whose nodes share it go on working; a driver or a person is taken for none."""
    key = "a key of sixteen characters or more"
    with server_of(key) as address:
        assert all(answers(address, key, name) for name in ("", "n1", "10.0.0.7", "127.0.0.1"))
    for role in (PrincipalRole.ADMIN, PrincipalRole.DRIVER, PrincipalRole.TOKEN):
        with server_of(strangers.certify(key, role, "n1")) as address:
            assert not answers(address, key, "n1")
            assert not answers(address, key)


def test_server_and_channel_show_the_renewed_certificate() -> None:
    """At the next handshake, without a restart."""
    key = "a key of sixteen characters or more"
    proof = Renewed(strangers.certify(key, PrincipalRole.NODE, "n1"))

    def shown(address: str) -> bytes:
        host, port = address.split(":")
        found = ssl.get_server_certificate((host, int(port)), timeout=TIMEOUT_S)
        return found.strip().encode()

    with server_of(proof) as address, closing(grpc_channels.open_channel(address, proof, "n1")) as channel:
        before = channel.current()
        assert shown(address) == proof.certified.certificate_pem.strip()

        proof.certified = strangers.certify(key, PrincipalRole.NODE, "n1")

        assert shown(address) == proof.certified.certificate_pem.strip()
        assert channel.current() is not before
        assert channel.current() is channel.current()


def test_renewed_certificate_counts_on_a_service_that_knew_the_old_one() -> None:
    """The names are the same, so the service looks at the certificate again when the old one has ended."""
    now_s = datetime.datetime.now(datetime.UTC).timestamp()
    check = callers.CallerCheck(_no_owner, _AllCount(), lambda: clock[0])
    clock = [now_s]
    key = "a key of sixteen characters or more"
    authority = credentials.authority(key)
    node = principals.Principal(PrincipalRole.NODE, "n1", "0" * 32)
    _, public_pem = certificates.new_key()

    def context(days: int) -> Any:
        now_time = datetime.datetime.fromtimestamp(now_s, datetime.UTC)
        end_time = now_time + days * strangers.DAY
        return _Context(authority.certify(node, public_pem, now_time, end_time)[1])

    assert _until(check, context(1)) == pytest.approx(now_s + 86_400, abs=1)
    clock[0] += 2 * 86_400
    assert _until(check, context(9)) == pytest.approx(now_s + 9 * 86_400, abs=1)


def _until(check: callers.CallerCheck, context: Any) -> float:
    found = check._principal_of(context)
    assert found is not None
    return found.until_s


class _Context:
    """A call over a connection with this certificate."""

    def __init__(self, certificate_pem: bytes) -> None:
        self._pem = certificate_pem

    def peer_identities(self) -> list[bytes]:
        """The names in it."""
        found = x509.load_pem_x509_certificate(self._pem)
        names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        return [str(name.value).encode() for name in names]

    def auth_context(self) -> dict[str, list[bytes]]:
        """The certificate."""
        return {"x509_pem_cert": [self._pem]}


class _AllCount:
    """Nobody was revoked."""

    async def doubt(self, _principal: principals.Principal) -> None:
        """None."""


async def _no_owner(_job_id: int) -> None:
    """There are no jobs."""


# ---- what is bounded


def test_holders_of_used_tokens_are_bounded(
    client: DbClient, access: NodeAccessClient, addresses: tuple[str, str]
) -> None:
    """Many attempts with a token that is used up are refused, leave nothing, and stop nobody else."""
    _, text = access.create_token(addresses, HOUR)
    node_access.join(text, "n1")

    def attempt(number: int) -> str:
        with pytest.raises(errors.CredentialError) as failure:
            node_access.join(text, f"x{number}")
        return str(failure.value)

    with ThreadPoolExecutor(8) as threads:
        results = [threads.submit(attempt, number) for number in range(64)]
        while not all(each.done() for each in results):
            assert [node.host for node in access.list_nodes()] == ["n1"]

    assert all("is used up" in each.result() for each in results)
    assert [token.hosts for token in access.list_tokens()] == [("n1",)]


# ---- calculations that start on a node


def certify(settings: Settings, file: NodeFile, person: str, account_id: int | None = None) -> Certified:
    """The certificate of a driver, as the agent of a node asks for it."""
    node = replace(settings, authkey="", given=Renewed(file.proof), node_name=file.host)
    return node_access.certify_driver(node, person, account_id)


def driver_of(proof: Certified) -> principals.Principal:
    """Whose driver a certificate says that it is."""
    certificate = x509.load_pem_x509_certificate(proof.certificate_pem)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    found = principals.from_names(str(name.value) for name in names)
    assert found is not None
    return found


def test_node_has_the_calculations_of_people_certified(
    dbserver: LocalDbServer, access: NodeAccessClient
) -> None:
    """For the person and the account that the node names; they end with the certificate of the node."""
    settings = dbserver.settings
    file = strangers.join(settings, "n1")
    other = strangers.join(settings, "n2")

    anna, ben = certify(settings, file, "anna", 1000), certify(settings, other, "ben")

    assert (driver_of(anna).name, driver_of(anna).account_id) == ("anna", 1000)
    assert (driver_of(ben).name, driver_of(ben).account_id) == ("ben", None)
    assert driver_of(certify(settings, file, "root", 0)).account_id is None
    assert driver_of(certify(settings, file, "anna")).credential_id != driver_of(anna).credential_id
    assert who_am_i(settings, anna) == ("driver", "anna")
    access.revoke_node("n1")
    with pytest.raises(errors.CredentialError, match="the node that started it was shut out"):
        who_am_i(settings, anna)
    assert who_am_i(settings, ben) == ("driver", "ben")
    strangers.join(settings, "n1")  # what was started before stays out
    with pytest.raises(errors.CredentialError):
        who_am_i(settings, anna)
    with pytest.raises(errors.UsageError, match="cannot be a person's name"):
        certify(settings, other, "a b")


def test_other_services_hear_which_calculations_do_not_count(
    dbserver: LocalDbServer, access: NodeAccessClient
) -> None:
    """The broker is told the beginnings of their ids, and asks nobody at a call of a driver."""
    settings = dbserver.settings
    anna = driver_of(certify(settings, strangers.join(settings, "n1"), "anna"))
    ben = driver_of(certify(settings, strangers.join(settings, "n2"), "ben"))

    async def run() -> None:
        heard: asyncio.Queue[frozenset[str]] = asyncio.Queue()
        watch = CredentialWatch(settings, lambda hosts, _beginnings: heard.put_nowait(hosts))
        watch.start()
        async with asyncio.timeout(TIMEOUT_S):
            assert await heard.get() == frozenset()
            assert [await watch.doubt(each) for each in (anna, ben)] == [None, None]
            await asyncio.to_thread(access.revoke_node, "n1")
            assert await heard.get() == {"n1"}
        assert isinstance(await watch.doubt(anna), errors.CredentialError)
        assert await watch.doubt(ben) is None
        watch.close()

    loops.run(run())
