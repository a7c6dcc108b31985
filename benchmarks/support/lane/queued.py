"""Prints, as JSON, what COUNT queued tasks cost a lane.

`python -m benchmarks.support.lane.queued COUNT own|default`: `own` looks for garbage as a lane does,
`default` as Python does by itself. The door is real; it has no sockets, and no worker.
"""

from __future__ import annotations

import gc
import json
import socket
import sys
import tempfile
import time
from pathlib import Path

import psutil

from quakegrid.services.lane import loop
from quakegrid.services.lane.door import Door
from quakegrid.services.lane.payloads import Payloads
from quakegrid.services.lane.settings import DoorSettings
from quakegrid.services.lane.tasks.events import Peer
from quakegrid.transport import lane_names, lane_sockets
from quakegrid.transport.fast_zmq import zmq
from quakegrid.transport.keys import lane_keys
from quakegrid.wire.v1 import lane_pb2

SESSION = 5
PAYLOAD_BYTES = 100
LANE_MEMORY_BYTES = 1 << 32
TASKS_PER_TURN = 1000
_KEY = lane_keys.token_key("a key of this benchmark")


class PauseWatch:
    """How long the longest look for garbage took, CPU time."""

    def __init__(self) -> None:
        self.longest_s, self._start_s = 0.0, 0.0
        gc.callbacks.append(self._note)

    def _note(self, phase: str, _info: dict[str, int]) -> None:
        now_s = time.thread_time()  # what others do on this machine is not counted
        if phase == "start":
            self._start_s = now_s
        else:
            self.longest_s = max(self.longest_s, now_s - self._start_s)


def opened_door(folder: Path, control: socket.socket) -> Door:
    """A door with one session, whose driver has joined."""
    settings = DoorSettings(_KEY, folder / "records", folder)
    door = Door(lambda _frames: None, control, Payloads(LANE_MEMORY_BYTES, str(folder)), settings)
    opening = lane_pb2.OpenLaneSession(session_id=SESSION, max_attempts=3)
    door.obey(lane_pb2.ControlMessage(open=opening).SerializeToString())
    join = lane_pb2.Join(protocol_version=lane_sockets.PROTOCOL_VERSION, session_id=SESSION)
    door.take(driver(), lane_pb2.LaneMessage(join=join).SerializeToString(), [])
    return door


def driver() -> Peer:
    """The name of the session's driver."""
    return Peer(lane_names.driver_name(SESSION, lane_keys.session_token(_KEY, SESSION)))


def queue_tasks(door: Door, count: int) -> None:
    """Submit so many tasks, as they come from a socket."""
    peer, message = driver(), lane_pb2.LaneMessage()
    task = message.submit_task
    task.session_id, task.operation, task.weight = SESSION, "tiny", 1.0
    for task_id in range(1, count + 1):
        task.task_id = task_id
        door.take(peer, message.SerializeToString(), [zmq.Frame(bytes(PAYLOAD_BYTES))])
        if task_id % TASKS_PER_TURN == 0:
            door.finish_turn()
            door.begin_turn(time.monotonic())
    assert door.task_count == count


def main() -> int:
    """Measure, and print."""
    count = int(sys.argv[1])
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with tempfile.TemporaryDirectory() as folder, ours, theirs:
        door = opened_door(Path(folder), theirs)
        if sys.argv[2] == "own":
            loop.shorten_collections()
        watch, before_bytes = PauseWatch(), psutil.Process().memory_info().rss
        start_s = time.process_time()
        queue_tasks(door, count)
        used_s = time.process_time() - start_s
        grown_bytes = psutil.Process().memory_info().rss - before_bytes
    print(json.dumps({"pause_s": watch.longest_s, "bytes": grown_bytes / count, "us": used_s / count * 1e6}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
