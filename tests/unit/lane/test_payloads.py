"""What a lane keeps: in memory up to a bound, then on disk, whole in either place."""

from __future__ import annotations

import errno
import os
import tracemalloc
from pathlib import Path

import pytest

from quakegrid.services.lane import codec
from quakegrid.services.lane import payloads as subject
from quakegrid.services.lane.payloads import Payload, Payloads, SpillError
from quakegrid.services.lane.tasks import events
from quakegrid.services.lane.tasks.events import Peer, SessionId
from quakegrid.services.lane.tasks.scheduler import Scheduler
from quakegrid.transport.fast_zmq import zmq
from quakegrid.wire.v1 import lane_pb2


def frames(*contents: bytes) -> list[zmq.Frame]:
    """A message."""
    return [zmq.Frame(content) for content in contents]


def content(store: Payloads, payload: Payload) -> list[bytes]:
    """What a payload reads as."""
    return [frame.bytes if isinstance(frame, zmq.Frame) else bytes(frame) for frame in store.read(payload)]


def test_small_payloads_stay_in_memory(tmp_path: Path) -> None:
    """Nothing goes to the disk before the bound."""
    store = Payloads(1000, str(tmp_path))

    payload = store.keep(frames(b"head", b"x" * 900), annex="mine")

    assert content(store, payload) == [b"head", b"x" * 900]
    assert (store.memory_bytes, store.disk_bytes, payload.annex) == (904, 0, "mine")


def test_what_memory_does_not_take_comes_back_whole_from_the_disk(tmp_path: Path) -> None:
    """Frames are told apart, empty ones too, and the file has no name."""
    store = Payloads(10, str(tmp_path))
    large = os.urandom(300_000)

    first = store.keep(frames(b"12345678"))
    second = store.keep(frames(b"head", b"", large))
    third = store.keep(frames(b"third payload"))

    assert content(store, second) == [b"head", b"", large]
    assert content(store, third) == [b"third payload"]
    assert content(store, first) == [b"12345678"]
    assert store.disk_bytes == 4 + len(large) + 13
    assert list(tmp_path.iterdir()) == []
    for payload in (first, second, third):
        store.drop(payload)


def test_payloads_count_with_what_belongs_to_them(tmp_path: Path) -> None:
    """A small payload has a task beside it: many of them fill the memory, in a file, too."""
    store = Payloads(3 * subject.KEPT_BYTES, str(tmp_path))

    kept = [store.keep(frames(b"x")) for _ in range(5)]

    assert [payload.place is None for payload in kept] == [True] * 3 + [False] * 2
    assert (store.memory_bytes, store.kept_count) == (3, 5)
    for payload in kept:
        store.drop(payload)
    assert store.keep(frames(b"x")).place is None
    assert store.kept_count == 1


def test_dropped_payloads_give_their_room_back(tmp_path: Path) -> None:
    """Memory and disk are as before."""
    store = Payloads(10, str(tmp_path))
    kept = [store.keep(frames(b"12345678")), store.keep(frames(b"12345678")), store.keep(frames(b"1"))]

    for payload in kept:
        store.drop(payload)

    assert (store.memory_bytes, store.disk_bytes) == (0, 0)
    assert content(store, store.keep(frames(b"again"))) == [b"again"]


def test_full_disk_is_an_error_that_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unless the payload must be kept: then memory takes it."""

    def refuse(*_args: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(subject.os, "pwritev", refuse)
    store = Payloads(10, str(tmp_path))

    with pytest.raises(SpillError, match=r"No space left.*custom_tmp"):
        store.keep(frames(b"more than ten bytes"))
    forced = store.keep(frames(b"more than ten bytes"), is_forced=True)

    assert content(store, forced) == [b"more than ten bytes"]
    assert store.disk_bytes == 0


def test_queued_tasks_cost_little_beside_their_payloads() -> None:
    """A million small tasks may wait: less than 300 bytes each, whatever the queue's length."""
    count, size = 20_000, 40
    scheduler, store = Scheduler(), Payloads(1 << 30)
    scheduler.handle(events.SessionOpened(SessionId(7), 3), 0.0)
    annex = object()
    tracemalloc.start()
    try:
        for number in range(count):
            task = lane_pb2.SubmitTask(session_id=7, task_id=number + 1, weight=1.0, operation="op")
            payload = store.keep(frames(b"x" * size), annex)
            scheduler.handle(codec.submission(task, Peer(b"driver"), payload), 0.0)
        cost_bytes = tracemalloc.get_traced_memory()[0] / count - size
    finally:
        tracemalloc.stop()

    assert cost_bytes < 300
