"""A calculation of a person on a cluster of other accounts, with the engine: files, names, limits."""

from __future__ import annotations

import json

from tests.people.accounts import ANNA, BEN, SERVICE, WORKER
from tests.people.cluster import PeopleCluster
from tests.people.conftest import CASE
from tests.people.machine import Machine
from tests.support.nodes import wait_until

TIMEOUT_S = 250.0


def test_calculation_belongs_to_its_person(engine: PeopleCluster) -> None:
    """Started without a key from a private home, with a forged name and a umask of one's own.

    One test, as starting the engine takes most of its time.
    """
    machine = engine.machine
    forged = {"LOGNAME": BEN.name, "USER": BEN.name, "SUDO_USER": BEN.name, "SUDO_UID": str(BEN.uid)}
    command = (
        f"umask 027; ulimit -n 500; exec quakegrid run -v {CASE}/job.ini --exports csv --export-dir results"
    )

    done = machine.run(ANNA.name, "sh", "-c", command, environ=engine.environ() | forged, timeout_s=TIMEOUT_S)

    assert done.returncode == 0, done.stderr + engine.log("agent")
    assert f"{ANNA.name}@" in done.stderr, "the engine's log names another account"
    made = [
        path for path in machine.path(ANNA.home).rglob("*") if not path.is_relative_to(machine.path(CASE))
    ]
    datastores = [path for path in made if path.suffix == ".hdf5"]
    assert len(datastores) == 1
    assert [path for path in made if path.suffix == ".csv"]
    assert {path.stat().st_uid for path in made} == {ANNA.uid}
    assert datastores[0].stat().st_mode & 0o777 == 0o640, "the umask did not come along"
    inside = ANNA.home / datastores[0].relative_to(machine.path(ANNA.home))
    assert machine.run(BEN.name, "cat", inside).returncode != 0
    assert [job["user_name"] for job in engine.json(SERVICE.name, "jobs", "list")] == [ANNA.name]
    assert not list(machine.path("/dev/shm").glob(f"quakegrid-{WORKER.uid}-*")), "workers ran as another user"
    left = [path.name for path in machine.path("/tmp").glob("quakegrid-*")]
    assert left == [], "temporary files are left"
    assert list(machine.path(f"/dev/shm/{_folder(machine)}/tmp").iterdir()) == []


def test_person_leaves_and_comes_back_without_a_key(engine: PeopleCluster) -> None:
    """The end is told by a command that runs as the person; `attach` works by the agent's socket."""
    told = ANNA.home / "told"
    command = f"(id -un; cat) > {told}.new; mv {told}.new {told}; echo no mail; exit 3"

    left = engine.quakegrid(
        ANNA.name, "run", "--detach", "--notify", command, f"{CASE}/job.ini", timeout_s=TIMEOUT_S
    )
    assert left.returncode == 0, left.stderr + engine.log("agent")
    job_id = int(left.stdout)
    back = engine.quakegrid(ANNA.name, "attach", job_id, timeout_s=TIMEOUT_S)
    wait_until(engine.machine.path(told).exists)

    assert back.returncode == 0, back.stderr
    assert f"job {job_id} complete in" in back.stdout
    name, document = engine.machine.path(told).read_text().splitlines()
    assert (name, json.loads(document)["id"], json.loads(document)["user_name"]) == (
        ANNA.name,
        job_id,
        ANNA.name,
    )
    assert engine.machine.path(told).stat().st_uid == ANNA.uid
    wait_until(
        lambda: "exit code 3: no mail" in engine.quakegrid(SERVICE.name, "jobs", "logs", job_id).stdout
    )
    assert engine.quakegrid(ANNA.name, "attach", 4711, timeout_s=TIMEOUT_S).returncode == 1


def _folder(machine: Machine) -> str:
    (folder,) = machine.path("/dev/shm").glob(f"quakegrid-{ANNA.uid}-*")
    return folder.name
