"""What a broker gives to persons: equal parts of the cores, and no more at once than a limit."""

from __future__ import annotations

import os
import queue
import threading
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from quakegrid import LocalCluster, testing
from quakegrid.clients import broker as fleet
from quakegrid.session.options import SessionOptions
from quakegrid.session.session import Session
from quakegrid.settings import config
from tests.support.nodes import wait_until
from tests.support.processes import Service

TIMEOUT_S = 60.0
# Far more than are done while the test waits.
TASK_COUNT = 4000


def test_second_job_of_a_person_waits_and_is_told_why(tmp_path: Path) -> None:
    """While another person's begins at once; the first one ends, and it begins."""
    changes = {"broker": {"max_jobs_per_user": 1}, "distribution": {"serialize_jobs": 0}}
    path = testing.write_cluster_config(tmp_path / "state", changes)
    settings = config.load_settings(path.parent, {"OQ_CONFIG_FILE": str(path)})
    broker = Service(settings, "broker")
    told: queue.SimpleQueue[tuple[list[int], str]] = queue.SimpleQueue()
    began = threading.Event()

    with ExitStack() as stack:
        stack.callback(broker.close)
        broker.start()

        def open_session(person: str, job_id: int) -> Session:
            return stack.enter_context(
                closing(Session(settings, SessionOptions(person, b"", job_ids=(job_id,))))
            )

        client = stack.enter_context(fleet.BrokerClient(settings))
        first = open_session("ann", 1)
        first.wait_for_turn(lambda _ahead: None)
        second = open_session("ann", 2)

        def wait_second() -> None:
            def note(ahead: Sequence[int]) -> None:
                told.put((list(ahead), second.wait_reason))

            second.wait_for_turn(note)
            began.set()

        waiting = threading.Thread(target=wait_second, daemon=True)
        waiting.start()
        words = "ann has 1 of 1 calculations that may execute at once"
        assert told.get(timeout=TIMEOUT_S) == ([1], words)
        open_session("ben", 3).wait_for_turn(lambda _ahead: None)

        status = client.status()
        states = {each.job_ids: (each.state, each.wait_reason) for each in status.sessions}
        assert states == {(1,): ("executing", ""), (2,): ("submitted", words), (3,): ("executing", "")}
        assert status.max_jobs_per_user == 1
        assert not began.is_set()
        first.close()
        assert began.wait(TIMEOUT_S)
        waiting.join(TIMEOUT_S)


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="a core for each of two persons")
def test_person_with_one_executor_has_as_many_cores_as_one_with_three(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One of two, while there is work for all."""
    with LocalCluster(cores=2) as cluster, ExitStack() as stack:
        client = stack.enter_context(fleet.BrokerClient(cluster.settings))
        executors = []
        for person in ("ann", "ann", "ann", "ben"):
            monkeypatch.setenv("LOGNAME", person)
            executor = stack.enter_context(cluster.executor())
            executors.append(executor)
            for _ in range(TASK_COUNT):
                executor.submit(time.sleep, 0.05)
        try:
            wait_until(lambda: cores(client.status()) == {"ann": 1, "ben": 1})
        finally:
            for executor in executors:
                executor.shutdown(wait=False, cancel_futures=True)


def cores(status: fleet.FleetStatus) -> dict[str, int]:
    """Cores of each person with a session."""
    found = Counter[str]()
    for session in status.sessions:
        found[session.user_name] += session.core_count
    return dict(found)
