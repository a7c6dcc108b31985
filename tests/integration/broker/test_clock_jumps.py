"""Clocks of a cluster that are set by an hour while it works: nothing is lost, and nobody's patience ends.

All that waits or gives up goes by the monotonic clock; the wall clock is for people.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from quakegrid import testing
from quakegrid.clients.broker import BrokerClient, FleetStatus
from quakegrid.clients.dbserver.client import DbClient
from quakegrid.jobs.states import JobState
from quakegrid.settings import config
from quakegrid.settings.config import Settings
from tests.support import clocks
from tests.support.clocks import HOUR_S, Clock
from tests.support.processes import REPOSITORY, Service, environment

WAIT_S = 60.0
PAUSE_S = 0.01
LEASE_S = 2.0
# Far more than a lease, a stop or a replacement takes on a busy machine, and far less than an hour.
SOON_S = 20.0
PROGRAM = """
import faulthandler, itertools, os, sys
from pathlib import Path
from quakegrid import Cluster
from tests.support.calls import rough_calls, sdk_calls

with Cluster(Path(sys.argv[1])).executor() as executor:
    for number in itertools.count(1):
        faulthandler.dump_traceback_later(45.0)  # tells where it is if a round, or its end, takes so long
        assert list(executor.map(sdk_calls.square, range(20))) == [n * n for n in range(20)]
        rough_calls.tell(sys.argv[2], [number, executor.submit(os.getpid).result()])
        if Path(sys.argv[3]).exists():
            break
"""


class ClockedService(Service):
    """A service that goes by a clock of the test."""

    def __init__(self, settings: Settings, name: str, clock: Clock) -> None:
        super().__init__(settings, name)
        self._clock = clock

    @property
    def environment(self) -> dict[str, str]:
        """With the clock."""
        return super().environment | self._clock.environment


@dataclass
class Bench:
    """A master, a node and a program that computes on them for ever, each with a clock."""

    settings: Settings
    clocks: dict[str, Clock]
    services: dict[str, Service]
    program: subprocess.Popen[bytes]
    told: Path
    enough: Path

    def computed(self) -> tuple[int, int]:
        """How many rounds the program has computed, and the worker of the last."""
        assert self.program.poll() in (None, 0), "the program has failed"
        if not self.told.exists():
            return 0, 0
        number, worker = map(int, self.told.read_text().split())
        return number, worker

    def wait_for_rounds(self) -> int:
        """Wait until a round that begins after this call is computed; returns its worker."""
        start, _worker = self.computed()
        end_s = time.monotonic() + WAIT_S
        while (now := self.computed())[0] < start + 2:
            assert time.monotonic() < end_s, f"nothing is computed after round {start}"
            time.sleep(PAUSE_S)
        return now[1]

    def status(self) -> FleetStatus:
        """What the broker tells."""
        with BrokerClient(self.settings) as client:
            return client.status()

    def processes(self) -> set[int]:
        """Services, lanes and template."""
        found = {self.pid(name) for name in self.services}
        parents = (psutil.Process(self.pid(name)) for name in ("broker", "agent"))
        return found | {child.pid for parent in parents for child in parent.children()}

    def pid(self, name: str) -> int:
        """Process id of a service."""
        process = self.services[name].process
        assert process is not None
        return process.pid


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """A cluster of one core, and its program."""
    clocks.require(tmp_path)
    (tmp_path / "home").mkdir()
    extra = {
        "agent": {"preload": "none"},
        "broker": {"node_timeout": 3},
        "zworkers": {"host_cores": f"{config.LOOPBACK} 1"},
    }
    path = testing.write_cluster_config(tmp_path / "state", extra)
    settings = config.load_settings(path.parent, {"OQ_CONFIG_FILE": str(path)})
    own = {name: Clock(tmp_path / f"{name}.clock") for name in ("master", "node", "program")}
    places = {"dbserver": "master", "broker": "master", "agent": "node"}
    services: dict[str, Service] = {
        name: ClockedService(settings, name, own[place]) for name, place in places.items()
    }
    told, enough = tmp_path / "told", tmp_path / "enough"
    environ = environment(settings) | own["program"].environment
    pids = []
    try:
        for service in services.values():
            service.start()
            assert service.process is not None
            pids.append(service.process.pid)
        command = [sys.executable, "-c", PROGRAM, str(settings.state_dir), str(told), str(enough)]
        with subprocess.Popen(command, env=environ, cwd=REPOSITORY) as program:
            pids.append(program.pid)
            yield Bench(settings, own, services, program, told, enough)
            program.kill()
    finally:
        for service in reversed(services.values()):
            pids += [service.process.pid] if service.process else []
            service.close()
        for pid in pids:
            clocks.remove_traces(pid)


def test_cluster_computes_on_while_clocks_are_set(bench: Bench) -> None:
    """Each clock alone and all at once, forth and back: the same processes, and no task runs twice."""
    bench.wait_for_rounds()
    before = bench.processes()

    for names in (["master"], ["node"], ["program"], list(bench.clocks)):
        for offset_s in (HOUR_S, -HOUR_S, 0):
            for name in names:
                bench.clocks[name].set(offset_s)
            bench.wait_for_rounds()
    status = bench.status()
    bench.enough.touch()

    assert bench.program.wait(WAIT_S) == 0
    assert bench.processes() == before
    assert len(status.sessions) == 1
    assert status.totals.requeued_count == status.totals.failed_count == 0
    assert [node.is_up for node in status.nodes] == [True]


@pytest.mark.parametrize("offset_s", [-HOUR_S, pytest.param(HOUR_S, marks=pytest.mark.full)])
def test_deaths_and_stops_take_no_longer_after_a_clock_was_set(bench: Bench, offset_s: int) -> None:
    """A worker is replaced, a lost agent noticed, a service that is told to ends."""
    worker = bench.wait_for_rounds()
    for clock in bench.clocks.values():
        clock.set(offset_s)

    start_s = time.monotonic()
    os.kill(worker, signal.SIGKILL)
    assert bench.wait_for_rounds() != worker
    os.kill(bench.pid("agent"), signal.SIGKILL)
    while any(node.is_up for node in bench.status().nodes):
        assert time.monotonic() - start_s < SOON_S
        time.sleep(PAUSE_S)
    bench.services["agent"].close()
    clocks.remove_traces(bench.pid("agent"))
    bench.services["agent"].start()
    bench.wait_for_rounds()
    bench.enough.touch()

    assert bench.program.wait(WAIT_S) == 0
    assert [bench.services[name].stop() for name in ("agent", "broker", "dbserver")] == [0, 0, 0]
    assert time.monotonic() - start_s < 2 * SOON_S


def test_lease_ends_by_the_time_that_went_by(tmp_path: Path) -> None:
    """Not by the clock: a job lives on when that jumps ahead, and ends in time when it is set back."""
    clocks.require(tmp_path)
    (tmp_path / "home").mkdir()
    path = testing.write_cluster_config(tmp_path / "state")
    settings = config.load_settings(path.parent, {"OQ_CONFIG_FILE": str(path)})
    clock = Clock(tmp_path / "clock")
    dbserver = ClockedService(settings, "dbserver", clock)
    try:
        dbserver.start()
        assert dbserver.process is not None
        pid = dbserver.process.pid
        with DbClient(settings) as client:
            job = client.jobs.create_job(
                data_dir="/tmp", calculation_mode="classical", description="d", user_name="ada"
            )
            client.jobs.transition(job.id, JobState.EXECUTING)
            client.jobs.renew_hold(job.id, "n/1", LEASE_S)
            clock.set(HOUR_S)
            end_s = time.monotonic() + 2 * LEASE_S
            while time.monotonic() < end_s:
                assert client.jobs.renew_hold(job.id, "n/1", LEASE_S) is JobState.EXECUTING
                time.sleep(LEASE_S / 10)

            clock.set(-HOUR_S)
            client.jobs.renew_hold(job.id, "n/1", LEASE_S)
            start_s = time.monotonic()
            lines = [line.message for line in client.logs.tail_log(job.id)]  # ends with the job

        assert LEASE_S / 2 < time.monotonic() - start_s < SOON_S
        assert "has not renewed its hold" in lines[-1]
        assert dbserver.stop() == 0
    finally:
        dbserver.close()
        clocks.remove_traces(pid)
