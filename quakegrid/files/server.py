"""A driver's file server: a thread that answers what workers of the session ask of the job's files.

It has a connection of its own to the lane, and reads files by itself, so it never waits for the driver's
main thread, except once: if the first worker that does not see the files asks before an epoch has begun.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from quakegrid.files.lane_doors import LaneDoor
from quakegrid.files.library import Library, RefusedPathError
from quakegrid.files.sources import FileGoneError
from quakegrid.transport import lane_names, lane_sockets
from quakegrid.transport.fast_zmq import zmq
from quakegrid.wire.v1 import lane_pb2

log = logging.getLogger("quakegrid.session")
MOST_BYTES = 4 << 20
MOST_PATH_CHARACTERS = 4096
# Refusals that are told one by one; of what a worker asks beyond, nothing is written.
MOST_TOLD = 100
# Workers that wait for the first epoch; each asks one thing at a time.
MOST_WAITING = 100_000
_POLL_MS = 1000


class FileServer:
    """Serves the files of one session from when it is made.

    Args:
        door: of the lane, with the driver's token.
        library: the files.
        wake: ends a wait of the driver's main thread, which then begins what is due.
        warn: tells people of a worker that asks for what it must not have; called in the thread.
    """

    def __init__(
        self, door: LaneDoor, library: Library, wake: Callable[[], None], warn: Callable[[str], None]
    ) -> None:
        self._door, self._library, self._wake, self._warn = door, library, wake, warn
        self._ended = threading.Event()
        self._waiting: dict[str, lane_pb2.ReadFile] = {}
        self._told_count = 0
        self.is_wanted = False  # a worker does not see the files
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        name = lane_names.file_server_name(door.session_id, door.token)
        self._dealer = lane_sockets.connect_dealer(self._context, door.endpoint, door.keys, name)
        endpoint = f"inproc://quakegrid.file-server.{door.session_id}"
        self._bell, self._ring = self._context.socket(zmq.PAIR), self._context.socket(zmq.PAIR)
        self._bell.bind(endpoint)
        self._ring.connect(endpoint)
        self._thread = threading.Thread(target=self._run, name="file-server", daemon=True)
        self._thread.start()

    def begun(self) -> None:
        """Called by the main thread when the library has begun: answer those that wait."""
        self._ring.send(b"")

    def close(self) -> None:
        """End the thread and the connection; called by the main thread."""
        self._ended.set()
        self._ring.send(b"")
        self._thread.join()
        for socket in (self._ring, self._bell, self._dealer):
            socket.close(linger=0)
        self._context.term()
        self._library.close()

    # --- the thread

    def _run(self) -> None:
        poller = zmq.Poller()
        poller.register(self._dealer, zmq.POLLIN)
        poller.register(self._bell, zmq.POLLIN)
        while not self._ended.is_set():
            ready = dict(poller.poll(_POLL_MS))
            if self._bell in ready:
                self._bell.recv()
            try:
                self._answer_waiting()
                while (frames := lane_sockets.receive_frames(self._dealer)) is not None:
                    self._take(frames)
            except Exception:
                log.exception("file_server_failed session=%d", self._door.session_id)

    def _take(self, frames: list[zmq.Frame]) -> None:
        if lane_sockets.is_probe(frames):
            self._send(lane_sockets.PROBE)
            return
        message = lane_pb2.LaneMessage.FromString(frames[0].bytes)
        match message.WhichOneof("body"):
            case "hello" | "refused":  # a refusal says that a new broker does not know the session yet
                if message.HasField("refused"):
                    self._ended.wait(1.0)
                serve = lane_pb2.ServeFiles(
                    protocol_version=lane_sockets.PROTOCOL_VERSION, session_id=self._door.session_id
                )
                self._send(lane_pb2.LaneMessage(serve_files=serve).SerializeToString())
            case "read_file":
                self._read(message.read_file)

    def _read(self, asked: lane_pb2.ReadFile) -> None:
        """Answer a worker, or keep its question until the first epoch has begun."""
        if asked.epoch_id:
            self._answer_bytes(asked)
        elif not asked.path:
            self._want()
            self._answer(asked, lane_pb2.FILE_STATE_THERE)
        elif self._library.has_begun:
            self._answer_path(asked)
        elif len(self._waiting) < MOST_WAITING:
            self._waiting[asked.worker_id] = asked
            self._want()

    def _want(self) -> None:
        if not self.is_wanted:
            self.is_wanted = True
            self._wake()

    def _answer_waiting(self) -> None:
        if self._waiting and self._library.has_begun:
            waiting, self._waiting = self._waiting, {}
            for asked in waiting.values():
                self._answer_path(asked)

    def _answer_path(self, asked: lane_pb2.ReadFile) -> None:
        try:
            epoch = self._library.find(asked.path[:MOST_PATH_CHARACTERS])
        except RefusedPathError:
            self._tell(asked)
            self._answer(asked, lane_pb2.FILE_STATE_REFUSED)
        except (OSError, FileGoneError):
            self._answer(asked, lane_pb2.FILE_STATE_MISSING)
        else:
            content = lane_pb2.FileContent(epoch_id=epoch.epoch_id, byte_count=epoch.byte_count)
            self._answer(asked, lane_pb2.FILE_STATE_THERE, content)

    def _answer_bytes(self, asked: lane_pb2.ReadFile) -> None:
        try:
            if not 0 <= asked.byte_count <= MOST_BYTES:
                raise FileGoneError  # noqa: TRY301 - nobody of ours asks for that
            content = self._library.read(asked.epoch_id, asked.offset, asked.byte_count)
        except (OSError, FileGoneError):
            self._answer(asked, lane_pb2.FILE_STATE_GONE)
        else:
            self._answer(asked, lane_pb2.FILE_STATE_THERE, payload=content)

    def _answer(
        self,
        asked: lane_pb2.ReadFile,
        state: lane_pb2.FileState.ValueType,
        content: lane_pb2.FileContent | None = None,
        payload: bytes | None = None,
    ) -> None:
        answer = content or lane_pb2.FileContent()
        answer.session_id, answer.state = self._door.session_id, state
        answer.worker_id, answer.request_id = asked.worker_id, asked.request_id
        header = lane_pb2.LaneMessage(file_content=answer).SerializeToString()
        self._send(header, *([] if payload is None else [payload]))

    def _tell(self, asked: lane_pb2.ReadFile) -> None:
        self._told_count += 1
        if self._told_count <= MOST_TOLD:
            path = ascii(asked.path[:MOST_PATH_CHARACTERS])
            self._warn(f"worker {asked.worker_id} asked for {path}, which is no file of this job: refused")

    def _send(self, *frames: bytes) -> None:
        lane_sockets.send_frames(self._dealer, lane_sockets.cut_message(frames))
