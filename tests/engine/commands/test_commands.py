"""`check`, `jobs compare`, `plot`, `jobs show`, `logs`, `certificate` and `upgrade` on a real cluster."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from quakegrid import errors, testing
from tests.support.clusters import Cluster

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def job_ini(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small classical calculation."""
    return (
        testing.copy_engine_case("classical/case_01", tmp_path_factory.mktemp("cases") / "case") / "job.ini"
    )


def changed(job_ini: Path, name: str, **values: str | None) -> Path:
    """A copy beside a job file, in which some values are others, or are not there."""
    lines = []
    for line in job_ini.read_text(encoding="utf-8").splitlines():
        key = line.partition("=")[0].strip()
        if key not in values:
            lines.append(line)
        elif values[key] is not None:
            lines.append(f"{key} = {values[key]}")
    path = job_ini.with_name(name)
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def checked(cluster: Cluster, *args: object, code: int = 0) -> list[dict[str, Any]]:
    """What `check` says."""
    done = cluster.call("check", *args, "--json")
    assert done.returncode == code, done.stdout + done.stderr
    found = json.loads(done.stdout)
    assert isinstance(found, list)
    return found


def test_check_counts_what_a_calculation_reads(cluster: Cluster, job_ini: Path) -> None:
    """No job is made; a risk calculation with a hazard of its own is read, too."""
    risk = testing.copy_engine_case("event_based_risk/case_master", job_ini.parent / "risk") / "job.ini"
    before = cluster.json("jobs", "list")

    hazard, both = checked(cluster, job_ini, risk)

    assert (hazard["is_valid"], hazard["mode"]) == (True, "classical")
    assert hazard["facts"] == {
        "sites": 4,
        "intensity_measures": 2,
        "levels": 6,
        "sources": 1,
        "ruptures": 2,
        "ground_motion_models": 1,
        "realizations": 1,
    }
    assert hazard["hints"] == ["minimun_magnitude has no effect; is minimum_magnitude meant?"]
    assert (both["is_valid"], both["facts"]["assets"], both["facts"]["ruptures"]) == (True, 7, 487)
    assert cluster.json("jobs", "list") == before


def test_check_says_what_is_wrong(cluster: Cluster, job_ini: Path) -> None:
    """In words, with exit code 2."""
    files = [
        changed(job_ini, "mode.ini", calculation_mode="clasical"),
        changed(job_ini, "time.ini", investigation_time=None),
        changed(job_ini, "model.ini", source_model_logic_tree_file="nothing.xml"),
    ]

    mode, time, model = checked(cluster, *files, code=errors.EXIT_USAGE)

    assert mode["refusal"].startswith("calculation_mode = clasical is not allowed. Is classical meant?")
    assert time["refusal"] == "it does not say investigation_time"
    assert "nothing.xml" in model["refusal"]
    (override,) = checked(cluster, job_ini, "-p", "truncation_level=x", code=errors.EXIT_USAGE)
    assert override["refusal"] == "truncation_level = x is not allowed: it is no number"


@pytest.mark.full
def test_check_works_without_a_cluster(job_ini: Path, tmp_path: Path) -> None:
    """In a process of its own, which a bound of time ends."""
    environ = {**os.environ, "HOME": str(tmp_path), "QUAKEGRID_STATE_DIR": str(tmp_path / "none")}
    command = [sys.executable, "-m", "quakegrid.cli", "check", str(job_ini), "--json"]

    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=True)
    late = subprocess.run(
        [*command, "--timeout", "1"], env=environ, capture_output=True, text=True, check=False
    )

    assert json.loads(done.stdout)[0]["facts"]["sites"] == 4
    assert late.returncode in {0, errors.EXIT_FAILED}  # a fast machine has read it by then
    assert late.returncode == 0 or "has not read the inputs within 1 s" in late.stderr


def test_two_calculations_are_compared_and_drawn(cluster: Cluster, job_ini: Path, tmp_path: Path) -> None:
    """What was computed from other parameters differs; a picture is a file."""
    one, other = (
        json.loads(cluster.call("run", job_ini, *more, "--json").stdout)["jobs"][0]["job_id"]
        for more in ((), ("-p", "truncation_level=0.5"))
    )

    same = cluster.call("jobs", "compare", one, one)
    differing = cluster.call("jobs", "compare", one, other, "--json")
    drawn = cluster.call("plot", one, "--dir", tmp_path, "--choose", "imt=SA(0.1)", "--output", "quiet")

    assert (same.returncode, same.stdout.splitlines()[-1]) == (0, "All 2 results are the same.")
    found = json.loads(differing.stdout)
    assert differing.returncode == errors.EXIT_FAILED
    assert {"name": "truncation_level", "left": "2.0", "right": "0.5"} in found["parameters"]
    assert "differs" in {each["likeness"] for each in found["results"]}
    assert Path(drawn.stdout.strip()).read_bytes().startswith(b"\x89PNG"), drawn.stderr
    assert cluster.call("jobs", "show", one).stdout.splitlines()[1].startswith("It is complete, and took")


def test_failure_is_told_without_classes(cluster: Cluster, job_ini: Path) -> None:
    """By the run and, first of all, by `jobs show`."""
    wrong = changed(job_ini, "wrong.ini", calculation_mode="clasical")

    done = cluster.call("run", wrong)
    shown = cluster.call("jobs", "show", -1)

    assert "ValueError" not in done.stderr + shown.stdout
    assert shown.stdout.splitlines()[1].startswith("It failed: calculation_mode = clasical is not allowed.")


def test_services_tell_their_logs_and_versions(cluster: Cluster, tmp_path: Path) -> None:
    """Of this machine's files and of a node's agent; the certificate's key is for its owner only."""
    assert cluster.call("logs", "broker", "-n", "1").stdout.count("\n") == 1
    assert cluster.call("logs", "agent", "--node", "127.0.0.1", "-n", "1").stdout.count("\n") == 1
    told = json.loads(cluster.call("upgrade", "--check", "--json").stdout)
    assert told["unknown_nodes"] == []
    done = cluster.call("certificate", "--out", tmp_path / "certs", "--days", "1")
    assert "grpcurl" in done.stdout, done.stderr
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "certs").iterdir()}
    assert modes == {"ca.pem": 0o600, "key.pem": 0o600, "certificate.pem": 0o600}
    assert cluster.call("certificate", "--out", tmp_path / "certs").returncode == errors.EXIT_USAGE


def test_oq_tells_whether_the_dbserver_answers(cluster: Cluster) -> None:
    """Also where root has installed the engine, and on loopback, where upstream does not look."""
    done = cluster.call("oq", "dbserver", "status")

    assert (done.returncode, done.stdout) == (0, "dbserver running\n")
