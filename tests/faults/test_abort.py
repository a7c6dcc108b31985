"""Abort is real: seconds later no process of the job is left anywhere, and nobody else's was touched."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from quakegrid.clients.broker import BrokerClient
from quakegrid.machine import service_files
from quakegrid.settings import config
from tests.faults.conftest import event_based
from tests.support.clusters import Cluster, Running, running_cluster, wait_for_end

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]
ABORT_S = 3.0
# What the calculation says when it enters a phase.
PHASES = {
    "begins": "running /",
    "reads": "Sent 2 read_source_model tasks",
    "prepares": "Sent 2 sample_ruptures tasks",
    "calculates": "Sent 3 event_based tasks",
}
Abort = Callable[[Cluster, Running, int], None]


def by_command(cluster: Cluster, _running: Running, job_id: int) -> None:
    """`quakegrid abort`."""
    assert cluster.call("abort", job_id).returncode == 0


def by_upstream_command(cluster: Cluster, _running: Running, job_id: int) -> None:
    """`quakegrid oq abort`."""
    assert cluster.call("oq", "abort", job_id).returncode == 0


def by_interrupt(_cluster: Cluster, running: Running, _job_id: int) -> None:
    """Ctrl-C."""
    running.process.send_signal(signal.SIGINT)


def by_rpc(cluster: Cluster, _running: Running, job_id: int) -> None:
    """The broker's RPC."""
    with BrokerClient(settings_of(cluster)) as broker:
        broker.abort_job(job_id)


def settings_of(cluster: Cluster) -> config.Settings:
    """The settings of a cluster."""
    return config.load_settings(cluster.state_dir, cluster.environ)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster on which jobs execute side by side."""
    extra = {"distribution": {"serialize_jobs": "0"}}
    directories = tmp_path_factory.mktemp("aborts"), tmp_path_factory.mktemp("home")
    with running_cluster(*directories, extra) as cluster:
        yield cluster


@pytest.fixture
def other(tmp_path: Path) -> Path:
    """A job file for somebody else's calculation, of some seconds."""
    return event_based(tmp_path / "other", 15)


def wait_for_nothing_of(cluster: Cluster, kept: set[int], start_s: float) -> None:
    """Wait until workers and drivers are gone but for some; it must not take longer than promised."""
    while left := set(cluster.children()) - kept:
        assert time.monotonic() - start_s < ABORT_S, f"processes {left} are left"


WAYS = [
    pytest.param(abort, phase, id=f"{abort.__name__}-{phase}", marks=() if is_quick else pytest.mark.full)
    for abort in (by_command, by_upstream_command, by_interrupt, by_rpc)
    for phase in PHASES
    for is_quick in [abort is by_rpc or phase == "calculates"]
]


@pytest.mark.parametrize(("abort", "phase"), WAYS)
def test_abort_in_every_phase_leaves_no_process(
    abort: Abort, phase: str, cluster: Cluster, slow: Path
) -> None:
    """However it is asked for; the one who waits is told."""
    running = cluster.start("run", "-v", slow)
    running.wait_for(PHASES[phase])
    job_id = cluster.job()["id"]

    start_s = time.monotonic()
    abort(cluster, running, job_id)
    waiting_s = time.monotonic() if abort is by_upstream_command else start_s  # that is a driver of its own
    wait_for_nothing_of(cluster, set(), waiting_s)
    code, output = running.finish()

    assert code == 4, output
    assert cluster.job(job_id)["state"] == "aborted"


def test_abort_disturbs_no_other_job(cluster: Cluster, slow: Path, other: Path) -> None:
    """The other keeps its driver, gets the cores and completes."""
    first = cluster.start("run", "-v", other)
    first.wait_for(PHASES["calculates"])
    first_id = cluster.job()["id"]
    second = cluster.start("run", "-v", slow)
    second.wait_for(PHASES["reads"])
    second_id = cluster.job()["id"]

    start_s = time.monotonic()
    by_rpc(cluster, second, second_id)
    aborted_s = time.monotonic() - start_s
    second_code, second_output = second.finish()
    first_code, first_output = first.finish()

    assert aborted_s < ABORT_S
    assert second_code == 4, second_output
    assert first_code == 0, first_output
    assert cluster.job(first_id)["state"] == "complete"
    cluster.wait_until_quiet()


def test_abort_of_a_driver_that_does_not_react(cluster: Cluster, slow: Path) -> None:
    """Stopped, it cannot end itself: its node's agent ends it."""
    running = cluster.start("run", "-v", slow)
    running.wait_for(PHASES["calculates"])
    (session,) = cluster.json("status")["sessions"]
    job_id = cluster.job()["id"]
    os.kill(session["pid"], signal.SIGSTOP)

    start_s = time.monotonic()
    by_rpc(cluster, running, job_id)
    wait_for_nothing_of(cluster, set(), start_s)
    running.finish()

    assert cluster.job(job_id)["state"] == "aborted"


@pytest.mark.full
def test_abort_of_a_job_whose_driver_is_gone(cluster: Cluster, slow: Path) -> None:
    """Broker and driver died together, so nobody has ended it yet; a second abort changes nothing."""
    running = cluster.start("run", "-v", slow)
    running.wait_for(PHASES["calculates"])
    (session,) = cluster.json("status")["sessions"]
    job_id = cluster.job()["id"]
    record = service_files.read(settings_of(cluster), "broker")
    assert record is not None
    os.kill(record.pid, signal.SIGKILL)
    wait_for_end(record.pid)
    os.kill(session["pid"], signal.SIGKILL)
    running.finish()
    assert cluster.call("up").returncode == 0
    before = cluster.job(job_id)["state"]

    by_rpc(cluster, running, job_id)
    after = cluster.job(job_id)["state"]
    by_rpc(cluster, running, job_id)

    assert (before, after) == ("executing", "aborted")
    assert cluster.job(job_id)["state"] == "aborted"
    cluster.wait_until_quiet()  # the new broker ends the workers that nobody claims
