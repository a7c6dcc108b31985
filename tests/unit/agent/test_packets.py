"""Packets between agent and template: what travels in a memfd, and what is refused."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from quakegrid.errors import PeerError
from services.agent.orders import (
    PACKET_BYTES,
    check_order,
    check_report,
    read_memfd,
    receive_packet,
    send_packet,
    write_memfd,
)


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Both ends of a channel."""
    one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with one, other:
        yield one, other


@pytest.mark.parametrize("data", [b"", b"setup", bytes(1 << 20)])
def test_those_who_share_an_open_file_read_all_of_it(data: bytes) -> None:
    """Wherever the others have left its position."""
    fd = write_memfd("test", data)
    copies = [os.dup(fd) for _ in range(3)]
    os.close(fd)

    os.lseek(copies[0], len(data) // 2, os.SEEK_SET)

    assert [read_memfd(copy) for copy in copies] == [data] * 3


def test_packet_that_the_other_end_would_cut_is_refused_where_it_is_sent(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    """Nothing of it is sent, so the next one arrives."""
    one, other = pair

    with pytest.raises(PeerError, match="larger than 65536"):
        send_packet(one, {"order": "signal", "name": "x" * PACKET_BYTES})
    send_packet(one, {"order": "ping"})

    assert receive_packet(other) == ({"order": "ping"}, [])


@pytest.mark.parametrize("data", [b"x", b"[]", b"{}", b"7", b"[" * 60_000, b'"' + b"x" * (1 << 17) + b'"'])
def test_what_is_no_packet_is_refused_and_its_descriptors_closed(
    pair: tuple[socket.socket, socket.socket], data: bytes
) -> None:
    """Garbage, other JSON, deep JSON, one that is cut."""
    one, other = pair
    reader, writer = os.pipe()
    socket.send_fds(one, [data], [writer])
    os.close(writer)

    with pytest.raises(PeerError):
        receive_packet(other)

    assert os.read(reader, 1) == b""  # nobody else holds the writing end
    os.close(reader)


@pytest.mark.parametrize(
    ("order", "fd_count"),
    [
        ({"order": "fork_worker", "name": "w", "worker": {}}, 1),
        ({"order": "fork_worker", "name": "w", "worker": {}}, 3),
        ({"order": "fork_driver", "name": "d"}, 5),
        ({"order": "signal", "pid": 7, "signal": 15}, 0),
        ({"order": "ping"}, 0),
        ({"order": "end"}, 0),
    ],
)
def test_orders_are_a_closed_list(order: dict[str, Any], fd_count: int) -> None:
    """Each kind passes with its fields and descriptors, and without any one of these does not."""
    check_order(order, fd_count)

    with pytest.raises(PeerError):
        check_order(order, fd_count + 1)
    for name in order:
        for value in (None, True, 1.5, [1]):
            with pytest.raises(PeerError):
                check_order(order | {name: value}, fd_count)


def test_reports_are_a_closed_list() -> None:
    """A kind that is unknown, a field that is missing, and a state that no template has, are refused."""
    ready = {
        "report": "ready",
        "kind": "warm",
        "reason": "",
        "engine_version": "",
        "engine_missing": "",
        "fingerprint": {"a": "b"},
        "duration_s": 0.5,
    }

    check_report(ready)
    check_report({"report": "exited", "pid": 7, "status": 9, "peak_memory_bytes": 0})

    for bad in (
        {"report": "gone"},
        {"report": "exited", "pid": "7", "status": 9, "peak_memory_bytes": 0},
        ready | {"kind": "hot"},
        ready | {"fingerprint": {"a": 1}},
        {},
    ):
        with pytest.raises(PeerError):
            check_report(bad)
