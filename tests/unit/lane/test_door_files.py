"""Files of jobs at the door of a lane: who may ask whom, and what nobody may say."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from quakegrid.services.lane.tasks.events import Peer
from quakegrid.transport import lane_names, lane_sockets
from quakegrid.transport.keys import lane_keys
from quakegrid.wire.v1 import lane_pb2
from tests.support.doors import (
    OTHER,
    SESSION,
    TOKEN_KEY,
    PlayedDoor,
    bodies,
    played_door,
    refusals,
)

TOKEN = lane_keys.session_token(TOKEN_KEY, SESSION)
SERVER = Peer(lane_names.file_server_name(SESSION, TOKEN))


def reader(worker_id: str, session_id: int = SESSION) -> Peer:
    """The name of a worker's file reader."""
    token = lane_keys.worker_token(TOKEN_KEY, session_id, worker_id)
    return Peer(lane_names.file_reader_name(session_id, worker_id, token))


@pytest.fixture
def played(tmp_path: Path) -> Iterator[PlayedDoor]:
    """A door with two open sessions and a file server."""
    with played_door(tmp_path) as played:
        played.open()
        played.open(OTHER)
        version = lane_sockets.PROTOCOL_VERSION
        played.say(SERVER, serve_files=lane_pb2.ServeFiles(protocol_version=version, session_id=SESSION))
        played.turn()
        yield played


def ask(played: PlayedDoor, peer: Peer, worker_id: str, session_id: int = SESSION, path: str = "/x") -> None:
    """A reader asks."""
    asked = lane_pb2.ReadFile(session_id=session_id, worker_id=worker_id, request_id=7, path=path)
    played.say(peer, read_file=asked)
    played.turn()


def test_question_goes_to_the_file_server_and_the_answer_to_its_reader_only(played: PlayedDoor) -> None:
    """With its content."""
    ask(played, reader("w1"), "w1")
    ask(played, reader("w2"), "w2")
    content = lane_pb2.FileContent(session_id=SESSION, worker_id="w1", request_id=7)
    played.say(SERVER, b"bytes", file_content=content)
    played.turn()

    assert [message[2:] for message in played.router.sent if message[0] == reader("w1")] == [[b"bytes"]]
    assert [message.read_file.worker_id for message in played.heard(SERVER)] == ["w1", "w2"]
    assert bodies(played.heard(reader("w1"))) == ["file_content"]
    assert played.heard(reader("w2")) == []


def test_reader_of_another_session_reaches_nobody(played: PlayedDoor) -> None:
    """Whichever session it names, the files of this one are not asked for."""
    ask(played, reader("w1", OTHER), "w1", OTHER)
    ask(played, reader("w1", OTHER), "w1", SESSION)

    assert played.heard(SERVER) == []
    assert len(refusals(played, reader("w1", OTHER))) == 1


def test_reader_asks_in_its_own_name_only(played: PlayedDoor) -> None:
    """The answer would go to another worker."""
    ask(played, reader("w1"), "w2")

    assert played.heard(SERVER) == []
    assert refusals(played, reader("w1")) == ["this connection belongs to worker w1"]


def test_answer_to_a_worker_that_did_not_ask_is_dropped(played: PlayedDoor) -> None:
    """It may be one of an earlier lane, and asks again."""
    played.say(SERVER, file_content=lane_pb2.FileContent(session_id=SESSION, worker_id="w9"))
    played.turn()

    assert refusals(played, SERVER) == []


@pytest.mark.parametrize(
    ("peer", "body"),
    [
        (reader("w1"), {"file_content": lane_pb2.FileContent(session_id=SESSION, worker_id="w1")}),
        (reader("w1"), {"serve_files": lane_pb2.ServeFiles(protocol_version=9, session_id=SESSION)}),
        (SERVER, {"read_file": lane_pb2.ReadFile(session_id=SESSION, worker_id="w1")}),
        (SERVER, {"join": lane_pb2.Join(session_id=SESSION)}),
        (SERVER, {"serve_files": lane_pb2.ServeFiles(protocol_version=1, session_id=SESSION)}),
        (reader("w1"), {"read_file": lane_pb2.ReadFile(session_id=SESSION, worker_id="w1", path="/" * 5000)}),
    ],
)
def test_what_no_such_peer_says_is_refused(played: PlayedDoor, peer: Peer, body: dict[str, object]) -> None:
    """In words; nothing reaches anybody."""
    played.say(peer, **body)
    played.turn()

    assert len(refusals(played, peer)) == 1


def test_connection_for_files_takes_no_tasks(played: PlayedDoor) -> None:
    """Its name is no worker's."""
    ready = lane_pb2.WorkerReady(session_id=SESSION, worker_id="w1")
    played.say(reader("w1"), worker_ready=ready)
    played.turn()

    assert len(refusals(played, reader("w1"))) == 1


def test_question_that_comes_before_the_file_server_waits_for_it(tmp_path: Path) -> None:
    """The last one of each reader."""
    with played_door(tmp_path) as played:
        played.open()
        ask(played, reader("w1"), "w1", path="/a")
        ask(played, reader("w1"), "w1", path="/b")
        version = lane_sockets.PROTOCOL_VERSION
        played.say(SERVER, serve_files=lane_pb2.ServeFiles(protocol_version=version, session_id=SESSION))
        played.turn()

        assert [message.read_file.path for message in played.heard(SERVER)] == ["/b"]
