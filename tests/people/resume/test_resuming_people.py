"""Calculations of people that were killed or aborted: they go on as their person, and for nobody else."""

from __future__ import annotations

import shutil
import subprocess
import time
from pathlib import Path

import pytest

from quakegrid import testing
from tests.faults.resume import killing
from tests.people.accounts import ANNA, BEN, SERVICE
from tests.people.browser import Browser, packed
from tests.people.cluster import PeopleCluster
from tests.people.conftest import CASE
from tests.people.machine import CAPABILITIES
from tests.support.nodes import wait_until

pytestmark = [pytest.mark.full, pytest.mark.timeout(900)]
LONG = ANNA.home / "long"
TIMEOUT_S = 250.0
RUN = "/v1/calc/run"


@pytest.fixture(scope="module")
def job_ini(engine: PeopleCluster) -> Path:
    """A calculation of Anna's with nine tasks, of some seconds, on a cluster that has loaded the engine."""
    folder = engine.machine.path(LONG)
    job_ini = testing.copy_engine_case("event_based/case_6", folder) / "job.ini"
    text = job_ini.read_text(encoding="utf-8")
    job_ini.write_text(text.replace("ses_per_logic_tree_path = 30", "ses_per_logic_tree_path = 10"))
    subprocess.run(["chown", "-R", f"{ANNA.uid}:{ANNA.uid}", folder], check=True)
    loaded = engine.quakegrid(ANNA.name, "run", CASE / "job.ini", timeout_s=TIMEOUT_S)
    assert loaded.returncode == 0, loaded.stderr + engine.log("agent")
    return LONG / "job.ini"


def shared_folder(engine: PeopleCluster) -> Path:
    """Where the journals of all people are, on the machine."""
    return engine.state_dir / "journals"


def wait_for_outcomes(engine: PeopleCluster, job_id: int, count: int) -> Path:
    """Wait until a journal of Anna's has so many outcomes; its path."""
    folder = engine.machine.path(shared_folder(engine) / str(ANNA.uid) / f"of-{ANNA.name}")
    journal = folder / f"{job_id}.journal"
    wait_until(journal.exists)
    with journal.open("rb") as file:
        wait_until(lambda: killing.outcome_count(file.fileno()) >= count)
    return journal


@pytest.mark.parametrize("victim", ["driver", "agent"])
def test_calculation_of_the_web_goes_on_as_its_person(
    engine: PeopleCluster, web: Browser, job_ini: Path, victim: str
) -> None:
    """When its driver is killed, or the agent is restarted; nobody asks for it."""
    answer = web.send(ANNA.name, RUN, packed(engine.machine.path(job_ini.parent)))
    assert answer.status == 200, answer.text + engine.log("agent")
    job_id = answer.json["job_id"]
    journal = wait_for_outcomes(engine, job_id, 3)
    first_pid = engine.json(SERVICE.name, "jobs", "show", job_id)["pid"]

    if victim == "driver":
        killed = engine.machine.run(ANNA.name, "kill", "-9", first_pid)
        assert killed.returncode == 0, killed.stderr
    else:
        engine.stop("agent")
        engine.start("agent", CAPABILITIES)

    end_s = time.monotonic() + TIMEOUT_S
    while web.get(ANNA.name, f"/v1/calc/{job_id}/status").json["status"] != "complete":
        log = engine.quakegrid(SERVICE.name, "jobs", "logs", job_id).stdout
        assert "not resumed: " not in log, log
        assert time.monotonic() < end_s, log
        time.sleep(0.05)
    job = engine.json(SERVICE.name, "jobs", "show", job_id)
    assert (job["user_name"], job["resume_count"], job["replayed_count"] >= 3) == (ANNA.name, 1, True)
    assert job["pid"] != first_pid
    assert engine.machine.path(f"{job['ds_calc_dir']}.hdf5").stat().st_uid == ANNA.uid
    wait_until(lambda: not journal.exists())


def test_only_its_person_resumes_a_calculation(engine: PeopleCluster, job_ini: Path) -> None:
    """Another one is told that it may be another person's, and changes nothing."""
    left = engine.quakegrid(ANNA.name, "run", "--detach", job_ini, timeout_s=TIMEOUT_S)
    assert left.returncode == 0, left.stderr + engine.log("agent")
    job_id = int(left.stdout)
    wait_for_outcomes(engine, job_id, 2)
    aborted = engine.quakegrid(SERVICE.name, "abort", job_id, "--yes", timeout_s=TIMEOUT_S)
    assert aborted.returncode == 0, aborted.stderr
    wait_until(lambda: engine.json(SERVICE.name, "jobs", "show", job_id)["state"] == "aborted")

    bens = engine.quakegrid(BEN.name, "resume", job_id, timeout_s=TIMEOUT_S)
    between = engine.json(SERVICE.name, "jobs", "show", job_id)
    hers = engine.quakegrid(ANNA.name, "resume", job_id, timeout_s=TIMEOUT_S)

    assert bens.returncode == 1, bens.stdout
    assert f"no journal of job {job_id}" in bens.stderr
    assert "another person's" in bens.stderr
    assert (between["state"], between["resume_count"]) == ("aborted", 0)
    assert hers.returncode == 0, hers.stderr
    after = engine.json(SERVICE.name, "jobs", "show", job_id)
    assert (after["state"], after["resume_count"], after["replayed_count"] >= 2) == ("complete", 1, True)


def test_nobody_takes_the_place_of_a_persons_journals(engine: PeopleCluster) -> None:
    """The folder of all is open to all; what Ben has put where Anna's journals go is moved away."""
    place = shared_folder(engine) / str(ANNA.uid)
    outside = engine.machine.path(place)
    if outside.exists():
        shutil.rmtree(outside)
    taken = engine.machine.run(BEN.name, "mkdir", place)
    assert taken.returncode == 0, taken.stderr

    done = engine.quakegrid(ANNA.name, "run", CASE / "job.ini", timeout_s=TIMEOUT_S)

    assert done.returncode == 0, done.stderr
    assert "has no journal" not in done.stderr
    assert outside.stat().st_uid == ANNA.uid
    assert [path.stat().st_uid for path in outside.parent.glob(f"not-of-{ANNA.uid}-*")] == [BEN.uid]
    assert f"journals_place_taken account={ANNA.name}" in engine.log("agent")
