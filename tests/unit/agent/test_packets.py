"""Packets between agent and template: what travels in a memfd, and what is refused."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from quakegrid.errors import PeerError
from quakegrid.nodes.template_state import TemplateKind, TemplateState
from quakegrid.services.agent import worker_keys
from quakegrid.services.agent.orders import (
    EndTemplate,
    Exited,
    ForkDriver,
    Forked,
    ForkWorker,
    LoadedCode,
    LoadingFailed,
    NotForked,
    Order,
    OrderRefused,
    Ping,
    Pong,
    Ready,
    Report,
    SignalChild,
    WorkerSpec,
)
from quakegrid.services.agent.packets import (
    PACKET_BYTES,
    OrderRefusedError,
    close_all,
    encode_order,
    encode_report,
    read_memfd,
    receive_order,
    receive_report,
    send,
    write_memfd,
)
from quakegrid.services.broker.lanes import door_keys
from quakegrid.transport.keys import lane_keys

Pair = tuple[socket.socket, socket.socket]
SPEC = WorkerSpec("w", 7, "tcp://127.0.0.1:1", "node", (0, 3), 1 << 40, 5, "/sys/c", "/dev/shm/b")
ORDERS: list[tuple[Order, int]] = [
    (ForkWorker("w", SPEC), 2),
    (ForkWorker("w", SPEC), 4),
    (ForkDriver("d"), 6),
    (ForkDriver("d", None, 2), 8),
    (SignalChild(7, 15), 0),
    (Ping(), 0),
    (EndTemplate(), 0),
]
READY = Ready(TemplateState(TemplateKind.COLD, "x"), LoadedCode("3.26.1", "why", {"numpy": "2"}), 0.5)
REPORTS: list[Report] = [
    READY,
    LoadingFailed("no way"),
    Pong(),
    Forked("w", 7),
    NotForked("w", "no room"),
    Exited(7, 9, 1 << 40),
    OrderRefused("what?"),
]


@pytest.fixture
def pair() -> Iterator[Pair]:
    """Both ends of a channel."""
    one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with one, other:
        yield one, other


def received(pair: Pair, packet: bytes, fd_count: int = 0) -> Order | None:
    """The order that comes out when this packet goes in."""
    nothing = [os.open(os.devnull, os.O_RDONLY) for _ in range(fd_count)]
    send(pair[0], packet, nothing)
    close_all(nothing)
    order, fds = receive_order(pair[1])
    assert len(fds) == fd_count
    close_all(fds)
    return order


@pytest.mark.parametrize("data", [b"", b"setup", bytes(1 << 20)])
def test_those_who_share_an_open_file_read_all_of_it(data: bytes) -> None:
    """Wherever the others have left its position."""
    fd = write_memfd("test", data)
    copies = [os.dup(fd) for _ in range(3)]
    os.close(fd)

    os.lseek(copies[0], len(data) // 2, os.SEEK_SET)

    assert [read_memfd(copy) for copy in copies] == [data] * 3


def test_packet_that_the_other_end_would_cut_is_refused_where_it_is_sent() -> None:
    """Orders and reports."""
    with pytest.raises(PeerError, match="larger than 65536"):
        encode_order(ForkDriver("x" * PACKET_BYTES))
    with pytest.raises(PeerError, match="larger than 65536"):
        encode_report(OrderRefused("x" * PACKET_BYTES))


@pytest.mark.parametrize("data", [b"x", b"[]", b"{}", b"7", b"[" * 60_000, b'"' + b"x" * (1 << 17) + b'"'])
def test_what_is_no_packet_is_refused_and_its_descriptors_closed(pair: Pair, data: bytes) -> None:
    """Garbage, other JSON, deep JSON, one that is cut."""
    one, other = pair
    for receive in (receive_order, receive_report):
        reader, writer = os.pipe()
        socket.send_fds(one, [data], [writer])
        os.close(writer)

        with pytest.raises(PeerError):
            receive(other)

        assert os.read(reader, 1) == b""  # nobody else holds the writing end
        os.close(reader)


def test_end_of_the_other_side_is_no_packet(pair: Pair) -> None:
    """Neither an order nor a report."""
    pair[0].close()

    assert receive_order(pair[1]) == (None, [])
    assert receive_report(pair[1]) is None


@pytest.mark.parametrize(("order", "fd_count"), ORDERS)
def test_orders_travel_and_are_a_closed_list(pair: Pair, order: Order, fd_count: int) -> None:
    """Each kind passes with its fields and descriptors, and without any one of these does not."""
    packet = json.loads(encode_order(order))

    assert received(pair, encode_order(order), fd_count) == order

    with pytest.raises(PeerError):
        received(pair, encode_order(order), fd_count + 1)
    for name in packet:
        for value in (None, True, 1.5, [1], "\ud800", {}):
            with pytest.raises(PeerError):
                received(pair, json.dumps(packet | {name: value}).encode(), fd_count)


@pytest.mark.parametrize("name", WorkerSpec.__slots__)
def test_order_for_a_worker_is_checked_to_its_last_field(pair: Pair, name: str) -> None:
    """Whoever asked for the worker hears that it was not forked."""
    packet = json.loads(encode_order(ForkWorker("w", SPEC)))
    packet["worker"].pop(name)

    with pytest.raises(OrderRefusedError, match=f"the worker has no {name}") as refused:
        received(pair, json.dumps(packet).encode(), 2)

    assert refused.value.fork_name == "w"


@pytest.mark.parametrize("report", REPORTS)
def test_reports_travel(pair: Pair, report: Report) -> None:
    """What goes in comes out; descriptors that came along are closed."""
    send(pair[0], encode_report(report), [pair[0].fileno()])

    assert receive_report(pair[1]) == report


def test_reports_are_a_closed_list(pair: Pair) -> None:
    """A kind that is unknown, a field that is missing, and a state that no template has, are refused."""
    exited: dict[str, Any] = {"report": "exited", "pid": 7, "status": 9, "peak_memory_bytes": 0}
    ready: dict[str, Any] = json.loads(encode_report(READY))

    for bad in (
        {"report": "gone"},
        exited | {"pid": "7"},
        exited | {"pid": -1},
        exited | {"pid": 1 << 40},
        exited | {"status": 1 << 40},
        exited | {"peak_memory_bytes": -1},
        ready | {"kind": "hot"},
        ready | {"fingerprint": {"a": 1}},
        ready | {"fingerprint": {"\ud800": "a"}},
        ready | {"reason": "\ud800"},
        {},
    ):
        send(pair[0], json.dumps(bad).encode())
        with pytest.raises(PeerError):
            receive_report(pair[1])


def test_keys_of_a_worker_are_read_as_they_were_written() -> None:
    """In a memfd of their own; no text of them shows a secret."""
    keys = door_keys.of_broker("x" * 32)

    found = worker_keys.decode(worker_keys.encode("proof", keys))

    assert found == worker_keys.WorkerKeys("proof", lane_keys.curve_keys("x" * 32).door)
    assert "proof" not in repr(found)
    assert keys.client_secret not in repr(found)
