"""Calculations from Python: what is asked for, without a cluster."""

from __future__ import annotations

from pathlib import Path

import pytest

from quakegrid import errors
from quakegrid.sdk.calculations import places
from quakegrid.sdk.calculations.awaited import AwaitedCalculations, AwaitedJob
from quakegrid.sdk.calculations.calculations import Calculations
from quakegrid.sdk.calculations.jobs import ClusterJob
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


@pytest.mark.parametrize(
    ("plain", "awaited"), [(ClusterJob, AwaitedJob), (Calculations, AwaitedCalculations)]
)
def test_all_can_be_awaited(plain: type, awaited: type) -> None:
    """What a job and a cluster offer is there for `await`, too."""
    offered = {name for name in vars(plain) if not name.startswith("_")}

    assert offered - {"close"} <= vars(awaited).keys()
    assert ("__await__" in vars(plain)) == ("__await__" in vars(awaited))


def test_formats_of_an_export_may_be_a_list(tmp_path: Path) -> None:
    """As well as a text with commas, which people know from the command line."""
    asked: list[str] = []

    class Place:
        def export(self, _job_id: int, _folder: Path, formats: str) -> list[Path]:
            asked.append(formats)
            return []

    job = ClusterJob(None, None, Place(), 7)  # type: ignore[arg-type]
    job.export(tmp_path, ["csv", "xml"])
    job.export(tmp_path, "csv,xml")

    assert asked == ["csv,xml", "csv,xml"]
