"""Workers that do not reach their lane: one of a node tells, for all of the session."""

from __future__ import annotations

import io
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from quakegrid.services.agent.orders import WorkerSpec
from quakegrid.services.agent.worker import silence
from quakegrid.services.lane import codec
from quakegrid.transport.fast_zmq import zmq

WAIT_S = 20.0
Ends = tuple[zmq.Socket[bytes], zmq.Socket[bytes]]


@pytest.fixture
def ends(monkeypatch: pytest.MonkeyPatch) -> Iterator[Ends]:
    """The lane's socket, and the worker's; a lane is silent for workers after a millisecond."""
    monkeypatch.setattr(silence, "SILENCE_MS", 1)
    monkeypatch.setattr(silence, "_describe", lambda spec: f"{spec.worker_id} hears nothing")
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    lane, dealer = context.socket(zmq.PAIR), context.socket(zmq.PAIR)
    lane.bind("inproc://lane")
    dealer.connect("inproc://lane")
    try:
        yield lane, dealer
    finally:
        context.destroy(linger=0)


def spec(worker_id: str, folder: Path) -> WorkerSpec:
    """A worker whose session has this folder."""
    return WorkerSpec(worker_id, 1, "tcp://127.0.0.1:1", "node", (0,), 0, 0, "", str(folder))


def hear(socket: zmq.Socket[bytes], worker: WorkerSpec) -> threading.Thread:
    """A worker that waits for its lane."""
    thread = threading.Thread(target=silence.warn_of_silence, args=(socket, worker))
    thread.start()
    return thread


def test_one_worker_tells_for_all_until_the_lane_answers(
    ends: Ends, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The looks of a thousand would take the CPU that they wait for; a second silence is told again."""
    lane, dealer = ends
    quiet = dealer.context.socket(zmq.PAIR)  # not connected
    for worker_id in ("w0", "w9"):
        first = hear(dealer, spec(worker_id, tmp_path))
        while not (tmp_path / "silence").exists():
            assert first.is_alive()

        for number in range(1, 4):
            silence.warn_of_silence(quiet, spec(f"w{number}", tmp_path))
        lane.send(codec.hello(""))
        first.join(WAIT_S)

        assert not first.is_alive()
        dealer.recv()
        assert not (tmp_path / "silence").exists()
    quiet.close()
    assert capsys.readouterr().err.splitlines() == ["w0 hears nothing", "w9 hears nothing"]


def test_worker_without_the_folder_tells_all_the_same(
    ends: Ends, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There may be no room for it."""
    told = io.StringIO()  # pytest's own loses what is written while it is read
    monkeypatch.setattr(sys, "stderr", told)
    lane, dealer = ends
    worker = hear(dealer, spec("w0", tmp_path / "missing"))
    while not told.getvalue().endswith("\n"):
        assert worker.is_alive()

    lane.send(codec.hello(""))
    worker.join(WAIT_S)

    assert told.getvalue() == "w0 hears nothing\n"
    assert not worker.is_alive()


def test_worker_that_is_greeted_tells_nothing(
    ends: Ends, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The usual case."""
    monkeypatch.setattr(silence, "SILENCE_MS", 20_000)
    lane, dealer = ends
    lane.send(codec.hello(""))

    silence.warn_of_silence(dealer, spec("w0", tmp_path))

    assert (capsys.readouterr().err, list(tmp_path.iterdir())) == ("", [])
