"""The stages of a calculation that runs, as pages get them from its driver."""

from __future__ import annotations

import json
import threading
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from quakegrid import testing
from tests.engine.test_web_pictures import run_case
from tests.engine.web_servers import TIMEOUT_S, Server
from tests.support.clusters import Cluster

pytestmark = [pytest.mark.engine, pytest.mark.full, pytest.mark.timeout(600)]


def follow_stages(address: str, found: dict[int, list[Any]], is_over: threading.Event) -> None:
    """Note all stages of all sessions, by job, until it is over."""
    with urllib.request.urlopen(f"http://{address}/live/fleet", timeout=TIMEOUT_S) as stream:
        while not is_over.is_set():
            line = stream.readline().decode()
            if line.startswith("data: "):
                for session in json.loads(line.removeprefix("data: "))["sessions"]:
                    for stage in session["stages"]:
                        found.setdefault(session["job_ids"][0], []).append(stage)


def test_stages_are_told_while_a_calculation_runs(ours: Server, cluster: Cluster, tmp_path: Path) -> None:
    """With the tasks of each, of which never more are done than there are."""
    found: dict[int, list[Any]] = {}
    is_over = threading.Event()
    reader = threading.Thread(target=follow_stages, args=(ours.address, found, is_over))
    reader.start()
    try:
        job_id = run_case(ours, cluster, testing.copy_engine_case("disagg/case_1", tmp_path / "case"))
    finally:
        is_over.set()  # the end of the session is an event, after which the reader looks
    reader.join(TIMEOUT_S)

    stages = found[job_id]
    assert {each["job_id"] for each in stages} <= {job_id, 0}
    assert all(0 <= each["done_count"] <= each["total_count"] for each in stages)
    assert stages[0]["operation"] == "preclassical"  # later ones may be too short for a stream to have them
