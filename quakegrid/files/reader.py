"""A worker's end of its second connection to the lane, over which it reads files of its job.

Made when the worker first needs it; belongs to the worker's main thread. A question is asked again when the
connection is new, and when no answer comes: what is read does not change, so that an answer may come twice.
A worker waits as long as it must: if its driver is gone, its agent ends it.
"""

from __future__ import annotations

import time

from quakegrid.errors import PeerError
from quakegrid.files.lane_doors import LaneDoor
from quakegrid.files.rules.tables import FileEpoch
from quakegrid.files.sources import FileGoneError
from quakegrid.transport import lane_names, lane_sockets
from quakegrid.transport.fast_zmq import zmq
from quakegrid.wire.v1 import lane_pb2

# The driver's answer may have been lost with a connection between it and the lane.
ASK_AGAIN_S = 3.0
# A lane that does not know the session yet is asked again after so long.
_REFUSED_PAUSE_S = 1.0


class RefusedFileError(PermissionError):
    """The driver says that this is no file of its job."""


class FileReader:
    """Asks the driver for files, one question at a time.

    Args:
        door: of the lane, with the worker's token.
    """

    def __init__(self, door: LaneDoor) -> None:
        self._door = door
        self._request_id = 0
        self._hello_count = 0
        self._refused_s = 0.0
        self.request_count = 0
        self.byte_count = 0  # of contents that came
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        name = lane_names.file_reader_name(door.session_id, door.worker_id, door.token)
        self._dealer = lane_sockets.connect_dealer(self._context, door.endpoint, door.keys, name)

    def announce(self) -> None:
        """Tell the driver that this node does not see the job's files; does not wait for an answer."""
        self._send(self._question(lane_pb2.ReadFile()))

    def find(self, path: str) -> FileEpoch | None:
        """The present epoch of a file; None if the job has no such file.

        Raises:
            RefusedFileError: it is no file of the job.
        """
        answer, _ = self._ask(lane_pb2.ReadFile(path=path))
        match answer.state:
            case lane_pb2.FILE_STATE_THERE:
                return FileEpoch(path, answer.epoch_id, answer.byte_count)
            case lane_pb2.FILE_STATE_MISSING:
                return None
        raise RefusedFileError(13, "this is no file of the job; its driver does not serve it", path)

    def read(self, epoch_id: bytes, offset: int, byte_count: int) -> memoryview:
        """Bytes of an epoch.

        Raises:
            FileGoneError: it is over.
        """
        asked = lane_pb2.ReadFile(epoch_id=epoch_id, offset=offset, byte_count=byte_count)
        answer, frames = self._ask(asked)
        if answer.state != lane_pb2.FILE_STATE_THERE or not frames:
            raise FileGoneError("the calculation has gone on, or the file has changed")
        content = memoryview(lane_sockets.join(frames)[0].buffer)
        if content.nbytes != byte_count:
            raise PeerError(f"asked for {byte_count} bytes of a file, and got {content.nbytes}")
        self.byte_count += byte_count
        return content

    def close(self) -> None:
        """Leave the lane."""
        self._dealer.close(linger=0)
        self._context.term()

    def _question(self, asked: lane_pb2.ReadFile) -> bytes:
        self._request_id += 1
        asked.session_id, asked.worker_id = self._door.session_id, self._door.worker_id
        asked.request_id = self._request_id
        return lane_pb2.LaneMessage(read_file=asked).SerializeToString()

    def _ask(self, asked: lane_pb2.ReadFile) -> tuple[lane_pb2.FileContent, list[zmq.Frame]]:
        question = self._question(asked)
        self.request_count += 1
        self._send(question)
        again_s = time.monotonic() + ASK_AGAIN_S
        while True:
            wait_s = min(again_s, self._refused_s or again_s) - time.monotonic()
            self._dealer.poll(max(0, int(wait_s * 1000) + 1))
            is_new = False
            while (frames := lane_sockets.receive_frames(self._dealer)) is not None:
                if lane_sockets.is_probe(frames):
                    self._send(lane_sockets.PROBE)
                    continue
                message = lane_pb2.LaneMessage.FromString(frames[0].bytes)
                if message.HasField("file_content"):
                    if message.file_content.request_id == self._request_id:
                        self._refused_s = 0.0
                        return message.file_content, frames[1:]
                    continue
                is_new |= self._take_word(message)
            now_s = time.monotonic()
            if is_new or now_s >= again_s or (self._refused_s and now_s >= self._refused_s):
                self._refused_s = 0.0
                self._send(question)
                again_s = time.monotonic() + ASK_AGAIN_S

    def _take_word(self, message: lane_pb2.LaneMessage) -> bool:
        """Take what the lane says of this connection; whether what was asked is to be asked again.

        Raises:
            PeerError: the lane does not take us.
        """
        if message.HasField("hello"):
            self._hello_count += 1
            if message.hello.protocol_version != lane_sockets.PROTOCOL_VERSION:
                raise PeerError(f"the lane speaks version {message.hello.protocol_version} of the lanes")
            return self._hello_count > 1  # what was sent before the first connection goes out with it
        if message.HasField("refused"):
            if not message.refused.is_unknown_session:
                raise PeerError(message.refused.reason)
            self._refused_s = time.monotonic() + _REFUSED_PAUSE_S
        return False

    def _send(self, *frames: bytes) -> None:
        lane_sockets.send_frames(self._dealer, frames)
