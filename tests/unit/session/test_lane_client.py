"""A driver's end of its lane: what it tells the lane on a new connection, and when."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from quakegrid import testing
from quakegrid.session.driver_socket import DriverSocket
from quakegrid.session.lane_client import LaneClient
from quakegrid.session.lane_tasks import LaneTask
from quakegrid.session.options import Patience
from quakegrid.session.wakeup import Wakeup
from quakegrid.settings import config
from quakegrid.testing import fake_lane
from quakegrid.transport import lane_sockets
from quakegrid.transport.fast_zmq import zmq
from quakegrid.wire.v1 import lane_pb2

SESSION = 77
HELLO = lane_pb2.LaneMessage(hello=lane_pb2.Hello(protocol_version=lane_sockets.PROTOCOL_VERSION))


def numbered_hello(number: int) -> lane_pb2.LaneMessage:
    """A hello of a lane that numbers them."""
    hello = lane_pb2.Hello(protocol_version=lane_sockets.PROTOCOL_VERSION, number=number)
    return lane_pb2.LaneMessage(hello=hello)


UNKNOWN = fake_lane.refused("not here", is_unknown_session=True).message


class PlayedStream:
    """A session that brokers have admitted so often."""

    session_id = SESSION
    admission_count = 1

    def check(self) -> None:
        """It has not failed."""


class PlayedSocket:
    """A connection with a lane: what comes is put in, and what goes out is kept."""

    def __init__(self) -> None:
        self.awaits_hello = False
        self.sent_count = 0
        self.incoming: list[lane_pb2.LaneMessage] = []
        self._sent: list[lane_pb2.LaneMessage] = []

    def receive(self) -> list[Any] | None:
        """The next message that was put in."""
        return [zmq.Frame(self.incoming.pop(0).SerializeToString())] if self.incoming else None

    def send(self, message: Sequence[bytes | memoryview]) -> None:
        """Keep a message."""
        self._sent.append(lane_pb2.LaneMessage.FromString(bytes(message[0])))
        self.sent_count += 1

    def take_joins(self) -> list[tuple[int, int]]:
        """Which hello each join since the last call answers, and how many messages it counts."""
        sent, self._sent = self._sent, []
        joins = [message.join for message in sent if message.HasField("join")]
        return [(join.hello_number, join.message_count) for join in joins]

    def take_sent(self) -> list[str | None]:
        """What was sent since the last call."""
        sent, self._sent = self._sent, []
        return [message.WhichOneof("body") for message in sent]


def test_lane_is_told_nothing_between_a_new_connection_and_its_hello(tmp_path: Path) -> None:
    """Though it refused, and a new broker has admitted the session: the answer to the hello tells all."""
    testing.write_cluster_config(tmp_path)
    settings = config.load_settings(tmp_path, testing.isolated_environ(tmp_path))
    stream, lane = PlayedStream(), PlayedSocket()
    client = LaneClient(settings, stream, lane, Patience(refused_retry_s=60.0))  # type: ignore[arg-type]
    client.submit([b"payload"], LaneTask("op"))
    lane.incoming.append(UNKNOWN)
    assert client.receive_ready() is None
    assert lane.take_sent() == ["submit_task"]

    lane.awaits_hello = True
    stream.admission_count = 2
    assert client.receive_ready() is None
    between = lane.take_sent()
    lane.incoming.append(HELLO)
    assert client.receive_ready() is None

    assert between == []
    assert lane.take_sent() == ["submit_task", "join"]
    assert not lane.awaits_hello


def test_lane_that_has_said_hello_is_told_again_when_a_new_broker_admits_the_session(tmp_path: Path) -> None:
    """The connection is the one that it refused on."""
    testing.write_cluster_config(tmp_path)
    settings = config.load_settings(tmp_path, testing.isolated_environ(tmp_path))
    stream, lane = PlayedStream(), PlayedSocket()
    client = LaneClient(settings, stream, lane, Patience(refused_retry_s=60.0))  # type: ignore[arg-type]
    lane.incoming += [HELLO, UNKNOWN]
    assert client.receive_ready() is None
    assert lane.take_sent() == ["join"]

    stream.admission_count = 2
    assert client.receive_ready() is None

    assert lane.take_sent() == ["join"]


def test_join_says_which_hello_it_answers_and_how_many_messages_there_were(tmp_path: Path) -> None:
    """Since the hello was asked for, or since the last join."""
    testing.write_cluster_config(tmp_path)
    settings = config.load_settings(tmp_path, testing.isolated_environ(tmp_path))
    lane = PlayedSocket()
    client = LaneClient(settings, PlayedStream(), lane, Patience())  # type: ignore[arg-type]
    client.submit([b"one"], LaneTask("op"))
    client.submit([b"two"], LaneTask("op"))

    lane.incoming.append(numbered_hello(7))
    assert client.receive_ready() is None
    client.submit([b"three"], LaneTask("op"))
    lane.incoming.append(numbered_hello(8))
    assert client.receive_ready() is None

    assert lane.take_joins() == [(7, 2 + 2 + 1), (8, 1 + 3 + 1)]


def test_driver_that_joins_heeds_no_refusal_but_that_of_its_join(tmp_path: Path) -> None:
    """The lane refuses the join, too, if it is to be told again; else it has all by then."""
    testing.write_cluster_config(tmp_path)
    settings = config.load_settings(tmp_path, testing.isolated_environ(tmp_path))
    stream, lane = PlayedStream(), PlayedSocket()
    client = LaneClient(settings, stream, lane, Patience(refused_retry_s=60.0))  # type: ignore[arg-type]
    lane.incoming.append(numbered_hello(7))
    assert client.receive_ready() is None

    stream.admission_count = 2
    lane.incoming.append(UNKNOWN)
    found = [client.receive_ready(), client.receive_ready()]
    before = lane.take_joins()
    refused = lane_pb2.Refused(reason="not here", is_unknown_session=True, is_join=True)
    lane.incoming.append(lane_pb2.LaneMessage(refused=refused))
    found += [client.receive_ready(), client.receive_ready()]

    assert found == [None] * 4
    assert before == [(7, 1)]
    assert lane.take_joins() == [(7, 1)]


@pytest.fixture
def sockets() -> Iterator[tuple[zmq.Socket[bytes], zmq.Socket[bytes]]]:
    """Two sockets that are connected within this process."""
    with zmq.Context() as context, context.socket(zmq.PAIR) as ours, context.socket(zmq.PAIR) as theirs:
        ours.bind("inproc://lane")
        theirs.connect("inproc://lane")
        yield ours, theirs


def test_probe_of_a_new_connection_is_answered_and_its_hello_awaited(
    sockets: tuple[zmq.Socket[bytes], zmq.Socket[bytes]],
) -> None:
    """It is no message for the driver."""
    ours, theirs = sockets
    socket = DriverSocket(Wakeup())
    socket._dealer = ours
    socket.send([b"old"])
    assert (socket.sent_count, theirs.recv()) == (1, b"old")

    theirs.send(lane_sockets.PROBE)

    assert socket.receive() is None
    assert socket.awaits_hello
    assert theirs.recv() == lane_sockets.PROBE
    assert socket.sent_count == 0
