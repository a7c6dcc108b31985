"""Channels that outlive their certificates, over real TLS; only the clock is set."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from quakegrid.access import principals
from quakegrid.clients.dbserver import private_grpc_streams
from quakegrid.settings import authkeys
from quakegrid.transport import credentials, grpc_channels
from quakegrid.transport.renewed_channels import RenewedChannel, utc_now

AUTHKEY = authkeys.new_authkey()
LONG_AGO = datetime.timedelta(days=40)
OPTIONS = (("grpc.ssl_target_name_override", principals.PEER_NAME),)


class Clock:
    """Says what the test sets."""

    def __init__(self) -> None:
        self.lag = LONG_AGO

    def now(self) -> datetime.datetime:
        """The time of day."""
        return utc_now() - self.lag


@pytest.fixture
def address() -> Iterator[str]:
    """Of a server with the key, whose clock is right."""
    server = grpc.server(ThreadPoolExecutor(1), options=grpc_channels.SERVER_OPTIONS)
    health_pb2_grpc.add_HealthServicer_to_server(health.HealthServicer(), server)
    port = server.add_secure_port("127.0.0.1:0", credentials.server_credentials(AUTHKEY))
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None).wait()


def check(stub: health_pb2_grpc.HealthStub) -> int:
    """Make a call."""
    status: int = stub.Check(health_pb2.HealthCheckRequest(), timeout=30).status
    return status


def test_certificate_of_40_days_ago_is_refused(address: str) -> None:
    """What a channel that is never renewed meets after a break."""
    clock = Clock()
    with RenewedChannel(address, AUTHKEY, OPTIONS, clock.now) as channel:
        stub = health_pb2_grpc.HealthStub(channel)

        with pytest.raises(grpc.RpcError) as refused:
            check(stub)

    assert refused.value.code() is grpc.StatusCode.UNAVAILABLE


def test_old_channel_connects_again(address: str) -> None:
    """The same stub, 40 days later: the call is made with a new certificate."""
    clock = Clock()
    with RenewedChannel(address, AUTHKEY, OPTIONS, clock.now) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        clock.lag = datetime.timedelta(0)

        assert check(stub) == health_pb2.HealthCheckResponse.SERVING


def test_young_channel_is_kept(address: str) -> None:
    """A new connection for each call would cost a handshake."""
    with RenewedChannel(address, AUTHKEY, OPTIONS) as channel:
        before = channel.current()
        check(health_pb2_grpc.HealthStub(channel))

        assert channel.current() is before


def test_closed_channel_is_not_renewed(address: str) -> None:
    """Who closed it calls no more."""
    clock = Clock()
    channel = RenewedChannel(address, AUTHKEY, OPTIONS, clock.now)
    stub = health_pb2_grpc.HealthStub(channel)
    channel.close()
    clock.lag = datetime.timedelta(0)

    with pytest.raises(ValueError, match="closed"):
        check(stub)


def test_stream_of_ones_own_thread_is_opened_on_the_new_channel(address: str) -> None:
    """The engine's calls take gRPC's inner channel."""
    clock = Clock()
    with RenewedChannel(address, AUTHKEY, OPTIONS, clock.now) as channel:
        clock.lag = datetime.timedelta(0)
        stream = private_grpc_streams.open_stream(channel, "/grpc.health.v1.Health/Nothing")

        with pytest.raises(private_grpc_streams.BrokenStreamError) as broken:
            stream.exchange(b"")

    assert broken.value.code() is grpc.StatusCode.UNIMPLEMENTED  # so it was heard
