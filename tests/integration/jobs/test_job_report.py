"""`quakegrid report` and `explain` of a session of real processes, while it runs and when it is over."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from quakegrid import LocalCluster
from quakegrid.clients.broker import BrokerClient
from quakegrid.machine import local_services
from quakegrid.settings import config
from tests.support.calls import sdk_calls

QUAKEGRID = Path(sys.executable).with_name("quakegrid")


@pytest.fixture
def cluster() -> Iterator[LocalCluster]:
    """A cluster of two workers, without the engine."""
    with LocalCluster(cores=2) as cluster:
        yield cluster


def call(cluster: LocalCluster, *args: object) -> subprocess.CompletedProcess[str]:
    """Run a command on this cluster."""
    folder = cluster.settings.state_dir
    environ = os.environ | {"OQ_CONFIG_FILE": str(folder / config.CONFIG_NAME)}
    command = [str(QUAKEGRID), "--state-dir", str(folder), *map(str, args)]
    return subprocess.run(command, env=environ, capture_output=True, text=True, timeout=120, check=False)


def report(cluster: LocalCluster, session_id: int, done_count: int) -> Any:
    """The report, as soon as it has so many tasks: records are a little behind."""
    for _ in range(50):
        done = call(cluster, "report", session_id, "--output", "json")
        found = json.loads(done.stdout) if done.returncode == 0 else {}
        if found.get("task_count") == done_count and not (done_count and found["is_running"]):
            return found
    raise AssertionError(done.stderr + done.stdout)


def only_session(cluster: LocalCluster) -> int:
    """The id of the one open session."""
    with BrokerClient(cluster.settings) as broker:
        (session,) = broker.status().sessions
    return session.session_id


def test_report_tells_of_tasks_a_dead_worker_and_stragglers(cluster: LocalCluster, tmp_path: Path) -> None:
    """What was lost, which worker died and why; also a figure; also when the broker is down."""
    with cluster.executor() as executor:
        session_id = only_session(cluster)
        naps = [executor.submit(sdk_calls.nap, 0.1) for _ in range(8)]
        naps.append(executor.submit(sdk_calls.nap, 1.5))
        again = executor.submit(sdk_calls.kill_once, str(tmp_path / "marker"), 3)
        assert again.result() == 3
        assert [nap.result() for nap in naps] == [0.1] * 8 + [1.5]

    found = report(cluster, session_id, 10)

    assert found["retry_count"] == 1
    assert "SIGKILL" in found["retries"][0]["worker_reason"]
    assert found["worker_count"] == 3
    assert 2.3 <= found["used_s"] <= found["core_s"]
    assert found["peak_memory_bytes"] > 1 << 20
    assert [each["duration_s"] > 1 for each in found["stragglers"]] == [True]
    explained = call(cluster, "explain", session_id)
    assert "lost attempt 1: worker" in explained.stdout, explained.stderr
    figure = tmp_path / "cores.png"
    drawn = call(cluster, "report", session_id, "--png", figure)
    assert drawn.returncode == 0, drawn.stderr
    assert "kill_once" in drawn.stdout
    assert figure.read_bytes().startswith(b"\x89PNG")
    local_services.stop(local_services.running(cluster.settings)["broker"])
    assert report(cluster, session_id, 10) == found


def test_explain_tells_what_a_session_waits_for(cluster: LocalCluster, tmp_path: Path) -> None:
    """Before its first task it waits for the driver; one task leaves a worker idle."""
    with cluster.executor() as executor:
        session_id = only_session(cluster)
        waiting = call(cluster, "explain", session_id)
        gate = tmp_path / "gate"
        held = executor.submit(sdk_calls.wait_for, str(gate))
        with BrokerClient(cluster.settings) as broker:
            while not broker.status().sessions[0].running_count:
                pass  # each question takes a while
        running = call(cluster, "explain", session_id)
        gate.touch()
        held.result()

    assert "waits for its driver" in waiting.stdout, waiting.stderr
    assert "1 task on" in running.stdout, running.stderr


def test_unknown_job_is_an_error(cluster: LocalCluster) -> None:
    """Exit code 1 and a reason, from both commands."""
    for command in ("report", "explain"):
        done = call(cluster, command, 12345)

        assert done.returncode == 1
        assert "no task records of job 12345" in done.stderr
