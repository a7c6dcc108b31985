"""Peers with the old authkey, the new one and both: who understands whom, and when the old key is over."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator

import grpc
import pytest

from quakegrid import errors
from quakegrid.access.principals import PrincipalRole
from quakegrid.access.proofs import Certified, ClusterKeys, Keyring, Proof, Renewed
from quakegrid.api.v1 import people_pb2, people_pb2_grpc
from quakegrid.clients import connection
from quakegrid.clients.connection import Connection
from quakegrid.clients.dbserver.client import DbClient
from quakegrid.clients.dbserver.people import PeopleClient
from quakegrid.settings.config import Settings
from quakegrid.transport import certificates, credentials, grpc_channels
from tests.support import strangers
from tests.support.calls import loops
from tests.support.dbservers import LocalDbServer

NEW = "another-key-that-nobody-guesses"
HOUR_S = 3600.0
TIMEOUT_S = 30.0


@pytest.fixture
def settings(dbserver: LocalDbServer) -> Iterator[Settings]:
    """Of a running dbserver whose keys a test may replace."""
    found = dbserver.settings
    assert found.keyring is not None
    before = found.keyring.keys
    connection._tell_old_key.cache_clear()
    yield found
    found.keyring.keys = before


def rotate(settings: Settings, until_s: float) -> None:
    """Have the dbserver take a new key, beside the one that it has had."""
    assert settings.keyring is not None
    settings.keyring.keys = ClusterKeys(NEW, settings.authkey, until_s)


def who_am_i(settings: Settings, proof: Proof) -> str:
    """As what the dbserver sees a peer."""
    with Connection("dbserver", settings.dbserver_address, proof, timeout_s=TIMEOUT_S) as asked:
        stub = people_pb2_grpc.PeopleStub(asked.channel)
        return asked.call(stub.WhoAmI, people_pb2.WhoAmIRequest()).role


def is_refused(settings: Settings, proof: Proof) -> bool:
    """Whether the dbserver and the peer make no connection."""
    try:
        who_am_i(settings, proof)
    except errors.PeerUnreachableError:
        return True
    return False


def person(settings: Settings) -> Certified:
    """The credential of a person, as her file has it."""
    with DbClient(settings) as database:
        return PeopleClient(database).issue("anna", PrincipalRole.USER, strangers.DAY)[1]


def test_old_new_and_rotated_peers_understand_each_other_for_a_time(settings: Settings) -> None:
    """Whoever has one of the two keys, and whose credential is of either; the new key is not known before."""
    old_file = person(settings)
    assert is_refused(settings, NEW)
    rotate(settings, time.time() + HOUR_S)
    assert settings.keyring is not None
    new_file = person(settings)

    proofs: list[Proof] = [settings.authkey, NEW, settings.keyring, old_file, new_file]
    assert [who_am_i(settings, proof) for proof in proofs] == ["service"] * 3 + ["user"] * 2
    assert is_refused(settings, "a-key-of-some-other-cluster")

    rotate(settings, time.time() - 1)
    assert [is_refused(settings, proof) for proof in proofs] == [True, False, False, True, False]


def test_peer_that_has_rotated_is_understood_by_a_server_with_the_old_key(settings: Settings) -> None:
    """As the master is by a node whose file was not copied yet."""
    rotated = Keyring(ClusterKeys(NEW, settings.authkey, time.time() + HOUR_S))

    assert who_am_i(settings, rotated) == "service"
    assert is_refused(settings, Keyring(ClusterKeys(NEW, settings.authkey, time.time() - 1)))
    assert is_refused(settings, Keyring(ClusterKeys(NEW)))


def test_key_that_was_replaced_at_once_is_refused_at_once(settings: Settings) -> None:
    """A file that names no old key ends the one before, on open connections, too."""
    with Connection("dbserver", settings.dbserver_address, settings.authkey, timeout_s=TIMEOUT_S) as asked:
        stub = people_pb2_grpc.PeopleStub(asked.channel)
        asked.call(stub.WhoAmI, people_pb2.WhoAmIRequest())
        assert settings.keyring is not None
        settings.keyring.keys = ClusterKeys(NEW)

        with pytest.raises(errors.CredentialError, match="the authkey of the cluster was changed"):
            asked.call(stub.WhoAmI, people_pb2.WhoAmIRequest())
    assert is_refused(settings, settings.authkey)
    assert who_am_i(settings, NEW) == "service"


def test_stream_of_an_old_key_ends_with_it(settings: Settings) -> None:
    """One of the new key goes on; both wait for news that do not come."""

    async def run() -> None:
        async with contextlib.AsyncExitStack() as stack:
            streams = []
            for proof in (settings.authkey, NEW):
                channel = grpc_channels.open_aio_channel(settings.dbserver_address, proof)
                await stack.enter_async_context(channel)
                stub = people_pb2_grpc.PeopleStub(channel)
                streams.append(stub.WatchCredentials(people_pb2.WatchCredentialsRequest()))
                assert await anext(aiter(streams[-1])) is not None
            rotate(settings, time.time() - 1)
            with pytest.raises(grpc.aio.AioRpcError) as cut:
                async with asyncio.timeout(TIMEOUT_S):
                    await anext(aiter(streams[0]))
            assert cut.value.code() is grpc.StatusCode.UNAVAILABLE
            assert not streams[1].done()

    rotate(settings, time.time() + HOUR_S)
    loops.run(run())


def test_person_with_an_old_credential_is_told_once(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whoever has a new one, or the key itself, hears nothing."""
    old_file = person(settings)
    rotate(settings, time.time() + HOUR_S)
    for proof in (person(settings), settings.authkey, NEW):
        who_am_i(settings, proof)
    assert capsys.readouterr().err == ""

    who_am_i(settings, old_file)
    who_am_i(settings, old_file)

    said = capsys.readouterr().err
    assert said.count("your credential counts only until") == 1
    assert "`quakegrid user renew NAME`" in said


def test_identity_is_replaced_with_the_keys() -> None:
    """Channels that live for long take the new key at their next call."""
    keyring = Keyring(ClusterKeys("a-key-of-some-cluster"))
    identity = credentials.new_identity(keyring)
    assert not identity.is_replaced(keyring, identity.made_time)

    keyring.keys = ClusterKeys(NEW, "a-key-of-some-cluster", time.time() + HOUR_S)

    assert identity.is_replaced(keyring, identity.made_time)
    renewed = credentials.new_identity(keyring)
    assert not renewed.is_replaced(keyring, renewed.made_time)


def test_driver_renews_its_certificate_and_outlives_the_old_key(settings: Settings) -> None:
    """As a running calculation does each half day: from then on it needs nothing of the old key."""
    given = Renewed(strangers.certify(settings.authkey, PrincipalRole.DRIVER, "anna"))
    rotate(settings, time.time() + HOUR_S)
    with Connection("dbserver", settings.dbserver_address, given, timeout_s=TIMEOUT_S) as asked:
        stub = people_pb2_grpc.PeopleStub(asked.channel)
        key_pem, public_pem = certificates.new_key()
        answer = asked.call(stub.RenewDriver, people_pb2.RenewDriverRequest(public_key_pem=public_pem))
        given.certified = Certified(answer.ca_pem, key_pem, answer.certificate_pem)
        assert who_am_i(settings, given) == "driver"
        rotate(settings, time.time() - 1)

        assert asked.call(stub.WhoAmI, people_pb2.WhoAmIRequest()).role == "driver"
    assert who_am_i(settings, given) == "driver"
