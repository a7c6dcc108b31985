"""One driver gives a large file to several nodes at once, over a real lane: a program for each part."""

from __future__ import annotations

import multiprocessing
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from quakegrid import testing
from quakegrid.files import library as libraries
from quakegrid.files.lane_doors import LaneDoor
from quakegrid.files.library import Library
from quakegrid.files.reader import FileReader
from quakegrid.files.rules.blocks import block_count, place_of
from quakegrid.files.server import FileServer
from quakegrid.settings import config, lane_secrets
from quakegrid.transport.keys import lane_keys
from quakegrid.wire.v1 import lane_pb2

SESSION = 5
MIB = 1 << 20


def read_all(door: LaneDoor, path: str, seconds: multiprocessing.SimpleQueue[float]) -> None:
    """One node: read every block of the file, and drop it."""
    reader = FileReader(door)
    epoch = reader.find(path)
    assert epoch is not None
    start_s = time.perf_counter()
    for number in range(block_count(epoch.byte_count)):
        reader.read(epoch.epoch_id, *place_of(number, epoch.byte_count))
    seconds.put(time.perf_counter() - start_s)
    reader.close()


def measure(byte_count: int, node_count: int) -> float:
    """The time until all nodes have the file, s."""
    with tempfile.TemporaryDirectory(prefix="qgb") as folder:
        state_dir = Path(folder)
        testing.write_cluster_config(state_dir, {})
        settings = config.load_settings(state_dir, testing.isolated_environ(state_dir))
        path = state_dir / "calc_1_tmp.hdf5"
        with path.open("wb") as file:
            for _ in range(byte_count // MIB):
                file.write(os.urandom(MIB))
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        endpoint = f"tcp://127.0.0.1:{settings.lane_ports[0]}"
        command = [sys.executable, "-m", "quakegrid.services.lane", "--state-dir", folder, "--control-fd"]
        with theirs:
            lane = subprocess.Popen(
                [*command, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                env=testing.isolated_environ(state_dir),
            )
        ours.send(lane_pb2.ControlMessage(listen=lane_pb2.Listen(endpoint=endpoint)).SerializeToString())
        ours.recv(1 << 16)
        opening = lane_pb2.OpenLaneSession(session_id=SESSION, max_attempts=2)
        ours.send(lane_pb2.ControlMessage(open=opening).SerializeToString())
        try:
            return _give(settings, endpoint, path, node_count)
        finally:
            ours.close()
            lane.wait(20)


def _give(settings: config.Settings, endpoint: str, path: Path, node_count: int) -> float:
    secret = lane_secrets.of_broker(settings.state_dir)
    keys, token_key = lane_keys.curve_keys(secret).door, lane_keys.token_key(secret)
    library = Library()
    libraries.WHOLE_BYTES = 16 << 20
    own = LaneDoor(endpoint, keys, SESSION, lane_keys.session_token(token_key, SESSION))
    server = FileServer(own, library, lambda: None, print)
    library.begin({str(path.with_name("calc_1.hdf5"))}, {})
    context = multiprocessing.get_context("spawn")
    seconds: multiprocessing.SimpleQueue[float] = context.SimpleQueue()
    nodes = []
    for number in range(node_count):
        worker_id = f"w{number}"
        token = lane_keys.worker_token(token_key, SESSION, worker_id)
        door = LaneDoor(endpoint, keys, SESSION, token, worker_id)
        nodes.append(context.Process(target=read_all, args=(door, str(path), seconds)))
    for node in nodes:
        node.start()
    longest_s = max(seconds.get() for _ in nodes)
    for node in nodes:
        node.join()
    server.close()
    return longest_s
