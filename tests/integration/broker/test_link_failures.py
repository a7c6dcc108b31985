"""Why an agent is not reached: the words for what gRPC says of real connections that fail."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import grpc
import pytest

from quakegrid.access.principals import Principal, PrincipalRole
from quakegrid.services.broker.nodes.link import NodeLink
from quakegrid.settings.config import LOOPBACK, Settings
from quakegrid.transport import certificates, credentials
from quakegrid.transport.credentials import Identity
from tests.integration.broker.test_node_link import Ear, deaf
from tests.support.calls import loops
from tests.support.processes import free_port
from tests.unit.broker.nodes.test_link_failures import ANY_PROOF, told

DAY = datetime.timedelta(days=1)
NOW = datetime.datetime.now(datetime.UTC)
OTHER_KEY = "an authkey of another cluster 0000"


def own(authkey: str) -> Identity:
    """Of an agent of our cluster."""
    return credentials.new_identity(authkey)


def of_other_cluster(_authkey: str) -> Identity:
    """Of an agent with another authkey."""
    return credentials.new_identity(OTHER_KEY)


def with_other_trust(authkey: str) -> Identity:
    """Its certificate is right, and it trusts in none of ours."""
    return dataclasses.replace(own(authkey), ca_pem=of_other_cluster(authkey).ca_pem)


def of_node(authkey: str, name: str, end_time: datetime.datetime) -> Identity:
    """A certificate of a node."""
    key_pem, public_pem = certificates.new_key()
    node = Principal(PrincipalRole.NODE, name, "0" * 32)
    ca_pem, certificate_pem = credentials.authority(authkey).certify(
        node, public_pem, NOW - 9 * DAY, end_time
    )
    return Identity(ca_pem, key_pem, certificate_pem, NOW)


def ended(authkey: str) -> Identity:
    """That of a node that was off for long."""
    return of_node(authkey, LOOPBACK, NOW - DAY)


def of_another_node(authkey: str) -> Identity:
    """The address leads to another machine."""
    return of_node(authkey, "another", NOW + DAY)


def early(authkey: str) -> Identity:
    """The clocks are weeks apart."""
    return credentials.new_identity(authkey, NOW + 20 * DAY)


def cause_at(settings: Settings, port: int) -> str:
    """Why the broker does not reach an agent at a port."""

    async def look() -> str:
        lost = asyncio.get_running_loop().create_future()
        ear = Ear(deaf, lambda _host, reason: lost.done() or lost.set_result(reason))
        hasty = dataclasses.replace(settings, node_timeout_s=0.01)
        running = asyncio.ensure_future(NodeLink(hasty, LOOPBACK, f"{LOOPBACK}:{port}", ear).run())
        try:
            return str(await lost)
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    return loops.run(look()).partition(f"at {LOOPBACK}:{port} ")[2]


@contextmanager
def grpc_server(identity: Identity) -> Iterator[int]:
    """A service with a certificate, at a port."""
    server = grpc.server(None)  # no call comes as far as to be run
    pair = [(identity.key_pem, identity.certificate_pem)]
    port = server.add_secure_port(f"{LOOPBACK}:0", grpc.ssl_server_credentials(pair, identity.ca_pem, True))
    server.start()
    try:
        yield port
    finally:
        server.stop(None).wait()


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (
            of_other_cluster,
            told("its certificate is not of this cluster", ANY_PROOF, "its address"),
        ),
        (
            with_other_trust,
            told(
                "it ends each connection at once",
                ANY_PROOF,
                "their clocks",
                "whether its agent is about to stop",
            ),
        ),
        (
            ended,
            told(
                "its certificate has ended",
                "why its agent did not renew it (the agent's log)",
                "the clocks of both machines",
            ),
        ),
        (early, told("its certificate does not count yet", "the clocks of both machines")),
        (
            of_another_node,
            told("another node's agent answers there", "its address", "whether two machines have one name"),
        ),
    ],
)
def test_certificate_that_is_refused_says_why(
    settings: Settings, made: Callable[[str], Identity], words: str
) -> None:
    """Only what fits is to be checked: another authkey is no cause of a certificate that has ended."""
    with grpc_server(made(settings.authkey)) as port:
        assert cause_at(settings, port) == f"({words})"


@contextmanager
def listener(answer: bytes | None) -> Iterator[int]:
    """A program that sends bytes to whoever connects, and then closes; None: it never does anything."""
    with socket.create_server((LOOPBACK, 0)) as server:
        taken: list[socket.socket] = []

        def serve() -> None:
            while True:
                try:
                    connection, _address = server.accept()
                except OSError:  # closed
                    return
                taken.append(connection)
                if answer is not None:
                    with connection:
                        connection.sendall(answer)
                        connection.shutdown(socket.SHUT_WR)
                        while answer and connection.recv(4096):
                            pass

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            server.shutdown(socket.SHUT_RDWR)
            for connection in taken:
                connection.close()
            thread.join()


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"SSH-2.0-OpenSSH_9.2\r\n", told("another program answers there", "its port", "its address")),
        (
            b"",
            told(
                "it ends each connection at once",
                "whether its agent is about to stop",
                "a proxy or firewall between",
                "its port",
            ),
        ),
    ],
)
def test_other_program_is_told_from_another_authkey(settings: Settings, answer: bytes, words: str) -> None:
    """It has no certificate at all."""
    with listener(answer) as port:
        assert cause_at(settings, port) == f"({words})"


def test_port_that_nobody_listens_at_is_told(settings: Settings) -> None:
    """The agent was stopped, most often."""
    words = told("nothing listens there", "whether its agent runs", "its address and port")

    assert cause_at(settings, free_port()) == f"({words})"
