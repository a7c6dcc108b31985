"""A file server and file readers over a real lane: what they read, and what outlives broken connections."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from quakegrid.files import reader as readers
from quakegrid.files.lane_doors import LaneDoor
from quakegrid.files.library import Library
from quakegrid.files.reader import FileReader, RefusedFileError
from quakegrid.files.server import FileServer
from quakegrid.files.sources import FileGoneError, WholeSource
from quakegrid.settings import lane_secrets
from quakegrid.transport import lane_names
from quakegrid.transport.keys import lane_keys
from quakegrid.wire.v1 import lane_pb2
from tests.integration.lane.test_lane import SESSION, RunningLane, greet, receive, running, send

__all__ = ["running"]
CONTENT = os.urandom(1_500_000)
NewReader = Callable[..., FileReader]


def door(running: RunningLane, worker_id: str = "", session_id: int = SESSION) -> LaneDoor:
    """The lane as a worker, or the driver, is told of it."""
    keys = lane_keys.curve_keys(lane_secrets.of_broker(running.settings.state_dir)).door
    if not worker_id:
        return LaneDoor(
            running.endpoint, keys, session_id, lane_keys.session_token(running.token_key, session_id)
        )
    token = lane_keys.worker_token(running.token_key, session_id, worker_id)
    return LaneDoor(running.endpoint, keys, session_id, token, worker_id)


class Served:
    """A driver's file server, with a datastore."""

    def __init__(self, running: RunningLane, path: Path) -> None:
        path.write_bytes(CONTENT)
        self.path, self.library = path, Library()
        self.warnings: list[str] = []
        self.woken = threading.Event()
        self.server = FileServer(door(running), self.library, self.woken.set, self.warnings.append)

    def begin(self, content: bytes = CONTENT) -> None:
        """A Starmap begins."""
        self.library.begin({str(self.path)}, {str(self.path): WholeSource(content)})
        self.server.begun()


@pytest.fixture
def served(running: RunningLane, tmp_path: Path) -> Iterator[Served]:
    """A file server."""
    found = Served(running, tmp_path / "calc_7.hdf5")
    yield found
    found.server.close()


@pytest.fixture
def new_reader(running: RunningLane) -> Iterator[NewReader]:
    """Makes file readers of workers, and closes them."""
    made: list[FileReader] = []

    def make(worker_id: str, session_id: int = SESSION) -> FileReader:
        made.append(FileReader(door(running, worker_id, session_id)))
        return made[-1]

    yield make
    for reader in made:
        reader.close()


def wait_until(is_so: Callable[[], bool]) -> None:
    """Wait for a thread."""
    end_s = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < end_s
        time.sleep(0.01)


def read_all(reader: FileReader, path: Path) -> bytes:
    """All of a file."""
    epoch = reader.find(str(path))
    assert epoch is not None
    return bytes(reader.read(epoch.epoch_id, 0, epoch.byte_count))


def test_worker_that_sees_nothing_reads_files_of_the_job_and_no_others(
    new_reader: NewReader, served: Served, tmp_path: Path
) -> None:
    """Large pieces too; what is refused is told to people, with the worker's name."""
    assert not served.server.is_wanted
    reader = new_reader("w1")
    reader.announce()
    assert served.woken.wait(60)
    served.begin()
    (tmp_path / "calc_8.hdf5").write_bytes(b"of another job")

    assert read_all(reader, served.path) == CONTENT
    assert reader.find(str(tmp_path / "calc_7_tmp.hdf5")) is None
    for path in ("/etc/passwd", str(tmp_path / "calc_8.hdf5")):
        with pytest.raises(RefusedFileError):
            reader.find(path)
    assert served.warnings == [
        f"worker w1 asked for '{path}', which is no file of this job: refused"
        for path in ("/etc/passwd", tmp_path / "calc_8.hdf5")
    ]
    with pytest.raises(FileGoneError):
        reader.read(b"0" * 16, 0, 1)


def test_question_that_comes_before_the_first_epoch_waits_for_it(
    new_reader: NewReader, served: Served
) -> None:
    """The main thread is woken to begin it."""
    found: list[bytes] = []
    reader = new_reader("w1")
    thread = threading.Thread(target=lambda: found.append(read_all(reader, served.path)))
    thread.start()
    assert served.woken.wait(60)
    assert found == []

    served.begin(b"frozen")
    thread.join(60)

    assert found == [b"frozen"]


def test_read_goes_on_after_the_lane_was_killed(
    running: RunningLane, new_reader: NewReader, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The question is asked again on the new connection; the driver's server has joined again, too."""
    monkeypatch.setattr(readers, "ASK_AGAIN_S", 0.5)
    served.begin()
    reader = new_reader("w1")
    assert read_all(reader, served.path) == CONTENT

    running.kill_and_start_again("w1")

    assert read_all(reader, served.path) == CONTENT


def test_reader_waits_for_a_driver_whose_server_comes_later(
    running: RunningLane, new_reader: NewReader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was lost is asked again."""
    monkeypatch.setattr(readers, "ASK_AGAIN_S", 0.1)
    reader = new_reader("w1")
    found: list[bytes] = []
    thread = threading.Thread(target=lambda: found.append(read_all(reader, tmp_path / "calc_7.hdf5")))
    thread.start()
    wait_until(lambda: reader.request_count > 0)

    served = Served(running, tmp_path / "calc_7.hdf5")
    served.begin()
    thread.join(60)
    served.server.close()

    assert found == [CONTENT]


def test_reader_of_a_session_that_is_not_open_gets_nothing(running: RunningLane, served: Served) -> None:
    """Its token is for another session: no question reaches a driver."""
    served.begin()
    token = lane_keys.worker_token(running.token_key, SESSION + 1, "w1")
    peer = running.peer(lane_names.file_reader_name(SESSION + 1, "w1", token))
    greet(peer)
    asked = lane_pb2.ReadFile(session_id=SESSION + 1, worker_id="w1", path=str(served.path))
    send(peer, lane_pb2.LaneMessage(read_file=asked))

    message, _ = receive(peer)

    assert message.refused.is_unknown_session
    assert not served.server.is_wanted
