"""Calculations from Python: what is asked for, without a cluster."""

from __future__ import annotations

from pathlib import Path

import pytest

from quakegrid import errors
from quakegrid.sdk.calculations import places
from quakegrid.sdk.calculations.places import HowToRun
from quakegrid.sdk.cluster import LocalCluster


def test_wishes_become_arguments_of_the_engine() -> None:
    """Only those that were given."""
    job_ini = Path("/m/job.ini")

    assert places.engine_argv(job_ini, HowToRun()) == ["engine", "--run", "/m/job.ini"]
    how = HowToRun({"truncation_level": 3, "poes": "0.1"}, hc=7, weight=0.5, cores_per_worker=2)
    assert places.engine_argv(job_ini, how)[3:] == [
        "--param",
        "truncation_level=3,poes=0.1",
        "--hc",
        "7",
        "--weight",
        "0.5",
        "--cores-per-worker",
        "2",
    ]


def test_value_with_a_comma_is_refused() -> None:
    """The engine's command line would part it."""
    with pytest.raises(errors.UsageError, match="put it into the job file"):
        places.engine_argv(Path("job.ini"), HowToRun({"poes": "0.1, 0.02"}))


def test_cluster_of_a_program_runs_no_calculations() -> None:
    """It has no database of them; the words name a cluster that has."""
    cluster = LocalCluster.__new__(LocalCluster)

    for ask in (lambda: cluster.run("job.ini"), cluster.jobs, lambda: cluster.job(-1)):
        with pytest.raises(errors.StateError, match="quakegrid up"):
            ask()
