"""The report and the log of a real calculation."""

from __future__ import annotations

import dataclasses
import re
import socket
from pathlib import Path

import pytest

from quakegrid import testing
from tests.support.clusters import Cluster

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]
TALKER = """
import getpass
import sys

from openquake.calculators import classical
from openquake.engine import engine

calculate = classical.postclassical


def talking(pgetter, hstats, individual_rlzs, amplifier, monitor):
    print("a worker says")
    print("a worker warns", file=sys.stderr)
    return calculate(pgetter, hstats, individual_rlzs, amplifier, monitor)


def main(job_ini):
    classical.postclassical = talking
    engine.run_jobs(engine.create_jobs([job_ini], "info", None, getpass.getuser(), None))
"""


def test_report_of_a_calculation_names_its_operations(cluster: Cluster, tmp_path: Path) -> None:
    """Found by job id, also as the last job; a job that is not there is said to be unknown."""
    job_ini = testing.copy_engine_case("event_based/case_6", tmp_path / "case") / "job.ini"
    done = cluster.call("run", job_ini, "-p", "ses_per_logic_tree_path=3")
    assert done.returncode == 0, done.stderr
    job_id = cluster.job()["id"]

    found = cluster.json("report", job_id)

    assert found["job_ids"] == [job_id]
    assert "event_based" in [each["operation"] for each in found["operations"]]
    assert found["task_count"] >= 3
    assert found["used_s"] > 0
    explained = cluster.call("explain", "-1")
    assert explained.returncode == 0, explained.stderr
    assert "of the cores' time made results" in explained.stdout
    unknown = cluster.call("report", job_id + 1000)
    assert unknown.returncode == 1
    assert str(job_id + 1000) in unknown.stderr


def test_job_log_has_what_its_workers_print(cluster: Cluster, tmp_path: Path) -> None:
    """With node and worker as the process; what went to stderr is a warning."""
    (tmp_path / "talker.py").write_text(TALKER, encoding="utf-8")
    job_ini = testing.copy_engine_case("classical/case_01", tmp_path / "case") / "job.ini"
    mine = dataclasses.replace(cluster, environ=cluster.environ | {"PYTHONPATH": str(tmp_path)})

    done = mine.call("oq", "shell", "talker", job_ini)
    lines = mine.json("jobs", "logs", -1)

    assert done.returncode == 0, done.stdout + done.stderr
    found = [line for line in lines if line["message"].startswith("a worker ")]
    assert sorted((line["level"], line["message"]) for line in found) == [
        *[("INFO", "a worker says")] * 2,
        *[("WARNING", "a worker warns")] * 2,
    ]
    assert all(re.fullmatch(rf"{re.escape(socket.gethostname())}/\w+-\d+", line["process"]) for line in found)
