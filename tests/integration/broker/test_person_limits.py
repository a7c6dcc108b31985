"""A broker that bounds what one person may have at once, as drivers see it."""

from __future__ import annotations

import queue
import threading
from collections.abc import Sequence
from contextlib import ExitStack, closing
from pathlib import Path

from quakegrid import testing
from quakegrid.clients import broker as fleet
from quakegrid.session.options import SessionOptions
from quakegrid.session.session import Session
from quakegrid.settings import config
from tests.support.processes import Service

TIMEOUT_S = 60.0


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
        assert states == {(1,): ("executing", ""), (2,): ("queued", words), (3,): ("executing", "")}
        assert status.max_jobs_per_user == 1
        assert not began.is_set()
        first.close()
        assert began.wait(TIMEOUT_S)
        waiting.join(TIMEOUT_S)
