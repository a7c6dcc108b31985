"""A driver loses its connection to a broker that lives: it goes on where it was."""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import psutil
import pytest

from quakegrid import testing
from quakegrid.machine import local_services
from quakegrid.sdk.cluster import LocalCluster
from quakegrid.sdk.executor import ClusterExecutor
from quakegrid.session import options
from quakegrid.session.lane_client import LaneClient
from quakegrid.session.lane_tasks import LaneOutcome
from quakegrid.settings import config
from quakegrid.transport.fast_zmq import zmq
from quakegrid.wire.v1 import lane_pb2
from tests.support.calls import sdk_calls
from tests.support.processes import free_port


class Link:
    """A TCP link that can be broken; a context manager.

    Args:
        target_port: of the loopback, where it leads.
    """

    def __init__(self, target_port: int) -> None:
        self.port = free_port()
        self._target_port = target_port
        self._ends: list[socket.socket] = []
        self.is_open = True

    def __enter__(self) -> Self:
        """Listen."""
        self._listener = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        """Break it for good."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.break_connections()

    def break_connections(self) -> int:
        """Reset what is connected; how many connections that were."""
        ends, self._ends = self._ends, []
        for end in ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        return len(ends) // 2

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                if not self.is_open:
                    near.close()
                    continue
                far = socket.create_connection(("127.0.0.1", self._target_port))
                self._ends += [near, far]
                for source, sink in ((near, far), (far, near)):  # each closes its source
                    threading.Thread(target=_pass_on, args=(source, sink), daemon=True).start()


def _kill_with_lanes(pid: int) -> None:
    """Kill a broker, and wait until its lanes have left their ports to the next one."""
    lanes = psutil.Process(pid).children(recursive=True)
    os.kill(pid, signal.SIGKILL)
    _, left = psutil.wait_procs(lanes, 30)
    assert left == []


def _pass_on(source: socket.socket, sink: socket.socket) -> None:
    with source, contextlib.suppress(OSError):
        while data := source.recv(1 << 16):
            sink.sendall(data)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def cluster() -> Iterator[LocalCluster]:
    """One worker, without the engine."""
    with LocalCluster(cores=1) as cluster:
        yield cluster


def test_driver_whose_stream_breaks_keeps_session_and_workers(cluster: LocalCluster, tmp_path: Path) -> None:
    """What runs goes on, on the same worker, and its result arrives."""
    log = Path(cluster.settings.log_dir, "broker.log")
    with Link(cluster.settings.broker_port) as link:
        settings = dataclasses.replace(cluster.settings, broker_port=link.port)
        with ClusterExecutor(settings) as executor:
            pid = executor.submit(os.getpid).result()
            held = executor.submit(sdk_calls.wait_for, str(tmp_path / "go"))

            broken_count = link.break_connections()
            while "session_went_on" not in log.read_text():
                pass
            (tmp_path / "go").touch()

            assert broken_count > 0
            assert held.result(60) == str(tmp_path / "go")
            assert executor.submit(os.getpid).result() == pid


def test_driver_is_patient_with_each_break_anew(
    cluster: LocalCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A break that was overcome long ago does not count, though the broker had nothing to say since."""
    monkeypatch.setattr(options, "PATIENCE", options.Patience(broker_s=3.0))
    log = Path(cluster.settings.log_dir, "broker.log")
    with Link(cluster.settings.broker_port) as link:
        settings = dataclasses.replace(cluster.settings, broker_port=link.port)
        with ClusterExecutor(settings) as executor:
            held = executor.submit(sdk_calls.wait_for, str(tmp_path / "go"))
            link.break_connections()
            while "session_went_on" not in log.read_text():
                time.sleep(0.01)
            time.sleep(3.0)  # all of its patience

            link.is_open = False
            link.break_connections()
            with pytest.raises(concurrent.futures.TimeoutError):
                held.result(1.0)  # a moment without a broker
            link.is_open = True
            while log.read_text().count("session_went_on") < 2:
                time.sleep(0.01)
            (tmp_path / "go").touch()

            assert held.result(60) == str(tmp_path / "go")


def test_driver_that_finds_the_new_lane_before_the_new_broker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its lane refuses it until the broker knows its session again; the job goes on then."""
    refused = threading.Event()
    take = LaneClient._take

    def spy(driver: LaneClient, received: list[zmq.Frame]) -> LaneOutcome | None:
        if lane_pb2.LaneMessage.FromString(received[0].bytes).HasField("refused"):
            refused.set()
        return take(driver, received)

    monkeypatch.setattr(LaneClient, "_take", spy)
    testing.write_cluster_config(tmp_path / "state", {"agent": {"preload": "none"}})
    settings = config.load_settings(tmp_path / "state", {})
    try:
        local_services.start(settings, ["dbserver", "broker", "agent"])
        with Link(settings.broker_port) as link:
            near = dataclasses.replace(settings, broker_port=link.port)
            with ClusterExecutor(near, 1) as executor:
                executor.submit(sdk_calls.square, 1).result()
                held = executor.submit(sdk_calls.wait_for, str(tmp_path / "go"))
                link.is_open = False
                _kill_with_lanes(local_services.running(settings)["broker"].pid)
                link.break_connections()
                local_services.start(settings, ["broker"])
                assert refused.wait(30), Path(settings.log_dir, "broker.log").read_text()
                link.is_open = True
                (tmp_path / "go").touch()

                assert held.result(60) == str(tmp_path / "go")
    finally:
        for record in reversed(local_services.running(settings).values()):
            local_services.stop(record)


def test_executor_that_is_shut_down_frees_its_workers_at_once(cluster: LocalCluster) -> None:
    """Its program lives on, so nobody waits for it to come back."""
    with cluster.executor() as executor:
        executor.submit(sdk_calls.square, 1).result()

    with cluster.executor() as executor:
        assert executor.submit(sdk_calls.square, 2).result(10) == 4
