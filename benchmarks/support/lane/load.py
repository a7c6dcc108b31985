"""One real lane under load: drivers and workers that do next to nothing beside talking to it.

All of them are processes, and CURVE is on. The drivers keep tasks ahead, the workers answer each at once and
read no more of a message than they must. So the figures are the lane's, as far as the cores allow: this
module tells how much CPU each of its threads used, and what drivers and workers used.
"""

from __future__ import annotations

import multiprocessing
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from quakegrid import testing
from quakegrid.settings import config, lane_secrets
from quakegrid.transport import lane_names, lane_sockets
from quakegrid.transport.fast_zmq import zmq
from quakegrid.transport.keys import lane_keys
from quakegrid.wire.v1 import lane_pb2

FIRST_SESSION = 5
EXPECTED_S = 1e-4  # so tasks are handed out ahead
WINDOW = 4000  # tasks that a driver keeps ahead
# How a message of a lane begins that gives a task, or an outcome: field and wire type.
_RUN_TASK, _OUTCOME, _LEASE = b"\x2a", b"\x22", b"\x0a"
_TICKS = os.sysconf("SC_CLK_TCK")
_START_S = 60.0
_fork = multiprocessing.get_context("fork")


@dataclass(frozen=True, slots=True)
class Load:
    """What is measured.

    `result_bytes` is the size of each outcome's payload. Each driver has a session and workers of its own.
    """

    driver_count: int = 2
    workers_each: int = 4
    tasks_each: int = 100_000
    argument_bytes: int = 100
    result_bytes: int = 100
    window: int = WINDOW


@dataclass(frozen=True, slots=True)
class Used:
    """What a load took: wall time, and the CPU time of each part, s.

    `lane_io_s` is that of the busiest thread that encrypts, `lane_io_all_s` that of all.
    """

    task_count: int
    wall_s: float
    lane_loop_s: float
    lane_io_s: float
    lane_io_all_s: float
    drivers_s: float
    workers_s: float

    @property
    def rate_hz(self) -> float:
        """Tasks a second."""
        return self.task_count / self.wall_s

    @property
    def lane_rate_hz(self) -> float:
        """Tasks a second of this lane if it did not have to share cores: its busiest thread is the limit."""
        return self.task_count / max(self.lane_loop_s, self.lane_io_s)

    def us(self, part_s: float) -> float:
        """CPU of a part for each task."""
        return part_s / self.task_count * 1e6


class RunningLane:
    """A lane process with open sessions; `pid` is its own."""

    def __init__(self, state_dir: Path, session_ids: Sequence[int]) -> None:
        self.settings = config.load_settings(state_dir, testing.isolated_environ(state_dir))
        self.endpoint = f"tcp://127.0.0.1:{self.settings.lane_ports[0]}"
        self.control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        arguments = ["--state-dir", str(state_dir), "--control-fd", str(theirs.fileno())]
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "quakegrid.services.lane", *arguments],
                pass_fds=[theirs.fileno()],
                env=testing.isolated_environ(state_dir),
            )
        self.pid = self._process.pid
        self.tell(lane_pb2.ControlMessage(listen=lane_pb2.Listen(endpoint=self.endpoint)))
        ready = lane_pb2.ControlMessage.FromString(self.control.recv(lane_sockets.CONTROL_BYTES))
        assert ready.HasField("ready"), ready
        assert not ready.ready.error, ready
        for session_id in session_ids:
            opening = lane_pb2.OpenLaneSession(session_id=session_id, max_attempts=2)
            self.tell(lane_pb2.ControlMessage(open=opening))
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def tell(self, message: lane_pb2.ControlMessage) -> None:
        """Play the broker."""
        self.control.send(message.SerializeToString())

    def stop(self) -> None:
        """End the lane."""
        self.control.shutdown(socket.SHUT_RDWR)
        self._process.wait(_START_S)
        self._reader.join()
        self.control.close()

    def _read(self) -> None:
        """Take the lane's reports, as a broker does."""
        try:
            while self.control.recv(lane_sockets.CONTROL_BYTES):
                pass
        except ConnectionResetError:
            pass


@contextmanager
def running_lane(session_ids: Sequence[int], lane_memory: str = "1G") -> Iterator[RunningLane]:
    """A lane in a folder of its own."""
    with tempfile.TemporaryDirectory(prefix="qgl") as folder:
        testing.write_cluster_config(Path(folder), {"broker": {"lane_memory": lane_memory}})
        lane = RunningLane(Path(folder), session_ids)
        try:
            yield lane
        finally:
            lane.stop()


def thread_cpu_s(pid: int) -> dict[int, float]:
    """CPU time of each thread of a process; the main thread has the id of the process."""
    found = {}
    for folder in Path(f"/proc/{pid}/task").iterdir():
        fields = (folder / "stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()
        found[int(folder.name)] = (int(fields[11]) + int(fields[12])) / _TICKS
    return found


def connect(lane: RunningLane, name: bytes) -> zmq.Socket[bytes]:
    """A peer that has answered the lane's probe, and was greeted."""
    door = lane_keys.curve_keys(lane_secrets.of_broker(lane.settings.state_dir)).door
    dealer = lane_sockets.connect_dealer(zmq.Context(), lane.endpoint, door, name)
    assert dealer.recv() == lane_sockets.PROBE
    dealer.send(lane_sockets.PROBE)
    dealer.recv()
    return dealer


def say(dealer: zmq.Socket[bytes], message: lane_pb2.LaneMessage) -> None:
    """Send a message without payload."""
    dealer.send(message.SerializeToString())


# --- a driver


def drive(lane: RunningLane, session_id: int, load: Load, pipe: Connection) -> None:
    """Submit all tasks of a session, a window of them at a time, and count their outcomes."""
    key = lane_keys.token_key(lane_secrets.of_broker(lane.settings.state_dir))
    name = lane_names.driver_name(session_id, lane_keys.session_token(key, session_id))
    dealer = connect(lane, name)
    version = lane_sockets.PROTOCOL_VERSION
    say(dealer, lane_pb2.LaneMessage(join=lane_pb2.Join(protocol_version=version, session_id=session_id)))
    dealer.recv()
    payload = bytes(load.argument_bytes)
    headers = [_submission(session_id, number + 1) for number in range(load.tasks_each)]
    pipe.send("ready")
    pipe.recv()
    start_s = time.process_time()
    _run(dealer, headers, payload, session_id, load)
    pipe.send(time.process_time() - start_s)
    pipe.recv()


def _submission(session_id: int, task_id: int) -> bytes:
    task = lane_pb2.SubmitTask(
        session_id=session_id, task_id=task_id, operation="tiny", expected_s=EXPECTED_S, weight=1.0
    )
    return lane_pb2.LaneMessage(submit_task=task).SerializeToString()


def _run(
    dealer: zmq.Socket[bytes], headers: Sequence[bytes], payload: bytes, session_id: int, load: Load
) -> None:
    sent = done = taken_bytes = 0
    while done < load.tasks_each:
        for header in headers[sent : done + load.window]:
            dealer.send(header, zmq.SNDMORE)
            dealer.send(payload)
            sent += 1
        frames = lane_sockets.wait_for_frames(dealer)
        while frames is not None:
            assert frames[0].bytes[:1] == _OUTCOME
            done += 1
            taken_bytes += lane_sockets.message_bytes(frames[1:])
            frames = lane_sockets.receive_frames(dealer) if done < sent else None
        if taken_bytes >= lane_sockets.RECEIPT_BYTES:
            received = lane_pb2.Received(session_id=session_id, byte_count=taken_bytes)
            say(dealer, lane_pb2.LaneMessage(received=received))
            taken_bytes = 0


# --- workers


def work(lane: RunningLane, session_id: int, load: Load, pipe: Connection) -> None:
    """Be all workers of a session: answer each task at once; CPU counts from the first task on."""
    key = lane_keys.token_key(lane_secrets.of_broker(lane.settings.state_dir))
    ends: dict[zmq.Socket[bytes], bytes] = {}
    poller = zmq.Poller()
    for number in range(load.workers_each):
        worker_id = f"w{session_id}-{number}"
        token = lane_keys.worker_token(key, session_id, worker_id)
        dealer = connect(lane, lane_names.worker_name(session_id, worker_id, token))
        ready = lane_pb2.WorkerReady(
            protocol_version=lane_sockets.PROTOCOL_VERSION,
            session_id=session_id,
            worker_id=worker_id,
            node="node",
        )
        say(dealer, lane_pb2.LaneMessage(worker_ready=ready))
        rest = lane_pb2.Outcome(worker_id=worker_id, node="node", duration_s=EXPECTED_S)
        ends[dealer] = rest.SerializeToString()
        poller.register(dealer, zmq.POLLIN)
    poller.register(pipe.fileno(), zmq.POLLIN)
    result = memoryview(bytes(load.result_bytes))
    pipe.send("ready")
    pipe.recv()
    start_s = time.process_time()
    while True:
        for source, _ in poller.poll():
            if source == pipe.fileno():
                pipe.send(time.process_time() - start_s)
                return
            _answer(source, ends[source], result)


def _answer(dealer: zmq.Socket[bytes], end: bytes, result: memoryview) -> None:
    pieces = lane_sockets.cut([result])
    frames = lane_sockets.receive_announced(dealer)
    while frames is not None:
        header = frames[0].bytes
        if header[:1] == _RUN_TASK:  # else it asks back what is answered already
            assert header[2:3] == _LEASE
            body = header[2 : 4 + header[3]] + end
            assert len(body) < 128
            lane_sockets.send_frames(dealer, [_OUTCOME + bytes([len(body)]) + body, *pieces])
        frames = lane_sockets.receive_frames(dealer)


# --- all together


def measure(load: Load) -> Used:
    """Run a load on a lane of its own."""
    session_ids = [FIRST_SESSION + number for number in range(load.driver_count)]
    with running_lane(session_ids) as lane:
        parts = [
            (target, _start(target, lane, each, load)) for target in (work, drive) for each in session_ids
        ]
        pipes = {target: [pipe for each, (pipe, _) in parts if each is target] for target in (work, drive)}
        for _, (pipe, _process) in parts:
            assert pipe.recv() == "ready"
        before = thread_cpu_s(lane.pid)
        start_s = time.perf_counter()
        for target in (work, drive):
            for pipe in pipes[target]:
                pipe.send("go")
        drivers_s = sum(pipe.recv() for pipe in pipes[drive])
        wall_s = time.perf_counter() - start_s
        after = thread_cpu_s(lane.pid)
        for _, (pipe, _process) in parts:
            pipe.send("end")
        workers_s = sum(pipe.recv() for pipe in pipes[work])
        for _, (_pipe, process) in parts:
            process.join()
    used = {tid: seconds - before.get(tid, 0.0) for tid, seconds in after.items()}
    loop_s = used.pop(lane.pid)
    return Used(
        load.driver_count * load.tasks_each,
        wall_s,
        loop_s,
        max(used.values(), default=0.0),
        sum(used.values()),
        drivers_s,
        workers_s,
    )


def _start(target: Any, lane: RunningLane, session_id: int, load: Load) -> tuple[Connection, Any]:
    ours, theirs = _fork.Pipe()
    process = _fork.Process(target=target, args=(lane, session_id, load, theirs))
    process.start()
    return ours, process
