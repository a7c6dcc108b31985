"""People of one machine send, see and remove calculations on the pages: each as their own account."""

from __future__ import annotations

import io
import json
import stat
import sys
import time
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.people.accounts import ANNA, BEN, SERVICE, WORKER, Account
from tests.people.browser import Answer, Browser, packed
from tests.people.cluster import PeopleCluster
from tests.people.conftest import CASE
from tests.support.nodes import wait_until

RUN = "/v1/calc/run"
TIMEOUT_S = 250.0
INPUTS = ANNA.home / "oqdata" / "web-inputs"


@pytest.fixture(scope="module")
def job_id(engine: PeopleCluster, web: Browser) -> int:
    """A calculation that Anna has sent, and that is complete."""
    assert web.get(ANNA.name, "/v1/available_gsims").status == 200  # waits until the engine is loaded
    answer = web.send(ANNA.name, RUN, packed(engine.machine.path(CASE)))
    assert answer.status == 200, answer.text + engine.log("web") + engine.log("agent")
    number: int = answer.json["job_id"]
    end_s = time.monotonic() + TIMEOUT_S
    while (found := web.get(ANNA.name, f"/v1/calc/{number}/status").json)["is_running"]:
        assert time.monotonic() < end_s, found
        time.sleep(0.05)
    log = web.get(ANNA.name, f"/v1/calc/{number}/log/0:").text
    assert found["status"] == "complete", log
    return number


def owned(folder: Path) -> dict[Path, tuple[int, int]]:
    """Paths below a folder, with owner and mode of each."""
    return {
        path: (path.lstat().st_uid, stat.S_IMODE(path.lstat().st_mode)) for path in sorted(folder.rglob("*"))
    }


def datastore_of(who: Account, number: int) -> Path:
    """Where the engine puts the results of somebody."""
    return who.home / "oqdata" / f"calc_{number}.hdf5"


def test_what_anna_sends_is_hers(engine: PeopleCluster, web: Browser, job_id: int) -> None:
    """Inputs and results are in folders of hers that are closed; nothing of them stays with the service."""
    inputs = owned(engine.machine.path(INPUTS))

    assert web.get(ANNA.name, f"/v1/calc/{job_id}").json["user_name"] == ANNA.name
    assert {uid for uid, _mode in inputs.values()} == {ANNA.uid}
    assert {mode for _uid, mode in inputs.values()} == {0o600, 0o700}
    assert {path.name for path in inputs} >= {"job.ini"}
    assert engine.machine.path(datastore_of(ANNA, job_id)).stat().st_uid == ANNA.uid
    left = engine.machine.path(engine.state_dir / "web-inputs")
    assert [path.suffix for path in left.iterdir()] == [".json"]


def results_of(web: Browser, who: str, number: int, *, kinds: Sequence[str] = ()) -> dict[str, Answer]:
    """What somebody gets of a calculation's results, by what it is; all, or some."""
    outputs = {each["type"]: each["url"] for each in web.get(who, f"/v1/calc/{number}/results").json}
    paths = {name: url[url.index("/v1/") :] for name, url in outputs.items()} | {
        "extract": f"/v1/calc/{number}/extract/oqparam",
        "datastore": f"/v1/calc/{number}/datastore",
        "pictures": f"/calculations/{number}/pictures.json",
        "picture": f"/calculations/{number}/pictures/hazard-curves.json",
        "parameters": f"/calculations/{number}/parameters.json",
    }
    wanted = {name: path for name, path in paths.items() if not kinds or name in kinds}
    return dict(zip(wanted, web.get_all(who, list(wanted.values()), Range="bytes=0-3"), strict=True))


def test_results_are_shown_to_their_owner_and_who_looks_after_the_cluster(web: Browser, job_id: int) -> None:
    """The folder is closed to the services: a driver opens it as Anna. Nobody else gets anything."""
    hers = results_of(web, ANNA.name, job_id)
    services = results_of(web, SERVICE.name, job_id, kinds=("extract", "datastore"))
    bens = results_of(web, BEN.name, job_id)

    assert {answer.status for answer in hers.values()} == {200, 206}, {
        name: answer.text for name, answer in hers.items() if answer.status >= 400
    }
    assert hers["datastore"].body == b"\x89HDF"
    assert hers["hcurves"].body[:1] in (b"#", b"P")
    assert hers["extract"].body[:2] == b"PK"
    assert hers["parameters"].json["calculation_mode"] == "classical"
    assert {answer.status for answer in services.values()} == {206}
    assert {answer.status for answer in bens.values()} == {403}
    assert f"until {ANNA.name} shares it" in bens["extract"].text


def test_shared_results_are_for_everybody(web: Browser, job_id: int) -> None:
    """Until that is taken back; others cannot share or remove them."""
    assert web.post(BEN.name, f"/v1/calc/{job_id}/share").status == 403
    assert web.post(ANNA.name, f"/v1/calc/{job_id}/share").status == 200
    bens = results_of(web, BEN.name, job_id, kinds=("hcurves", "datastore", "picture"))
    removed = web.post(BEN.name, f"/v1/calc/{job_id}/remove")
    assert web.post(ANNA.name, f"/v1/calc/{job_id}/unshare").status == 200
    after = results_of(web, BEN.name, job_id)

    assert {answer.status for answer in bens.values()} == {200, 206}
    assert removed.status == 403
    assert {answer.status for answer in after.values()} == {403}


@pytest.mark.full
def test_what_needs_an_engine_works_for_people(engine: PeopleCluster, web: Browser) -> None:
    """The service's own temporary files are closed to drivers."""
    archive = packed(engine.machine.path(CASE))
    valid = web.send(ANNA.name, "/v1/calc/validate_zip", archive)
    text = web.send(ANNA.name, "/v1/valid/", b"", xml_text="<nrml/>")

    assert valid.json == {"error_msg": None, "error_line": None, "valid": True}, engine.log("agent")
    assert text.json["valid"] is False
    assert "BooreAtkinson2008" in web.get(BEN.name, "/v1/available_gsims").json


@pytest.fixture
def bens_job(web: Browser) -> int:
    """A calculation of Ben's that the engine has refused, so that he can make its files himself."""
    answer = web.send(BEN.name, RUN, archive_of({"job.ini": "[general]\ncalculation_mode = classical\n"}))
    assert answer.status == 500, answer.text
    number: int = answer.json["job_id"]
    return number


def archive_of(files: dict[str, str]) -> bytes:
    """Files as an archive."""
    with io.BytesIO() as made:
        with zipfile.ZipFile(made, "w") as archive:
            for name, text in files.items():
                archive.writestr(name, text)
        return made.getvalue()


@pytest.mark.full
def test_links_in_place_of_results_lead_nowhere(
    engine: PeopleCluster, web: Browser, job_id: int, bens_job: int
) -> None:
    """Neither to what the services can read nor to Anna's results, also while the link changes."""
    machine, key = engine.machine, engine.state_dir / "openquake.cfg"
    own, hers = datastore_of(BEN, bens_job), datastore_of(ANNA, job_id)
    assert machine.run(BEN.name, "touch", own.with_name("mine")).returncode == 0
    # A folder that everybody may enter, as with the usual umask.
    assert machine.run(BEN.name, "chmod", "0755", BEN.home, own.parent).returncode == 0
    flip = f"""
import itertools, os
print("flipping", flush=True)
for number, target in enumerate(itertools.cycle([{str(key)!r}, {str(hers)!r}, "mine"])):
    os.symlink(target, "next")
    os.rename("next", {own.name!r})
"""
    flipping = machine.start_program(BEN.name, sys.executable, "-c", flip, cwd=own.parent)
    try:
        flipping.wait_for("flipping")
        paths = [f"/v1/calc/{bens_job}/datastore"] * 12 + [f"/v1/calc/{bens_job}/extract/oqparam"] * 3
        answers = web.get_all(BEN.name, paths)
    finally:
        flipping.stop()

    assert {answer.status for answer in answers} <= {200, 404, 500}
    assert {answer.body for answer in answers if answer.status == 200} <= {b""}
    for answer in answers:
        assert engine.settings.authkey.encode() not in answer.body
        assert b"HDF" not in answer.body


def test_links_in_place_of_inputs_lead_nowhere(engine: PeopleCluster, web: Browser) -> None:
    """A person's driver writes where the person may, and refuses a folder that is not the person's own."""
    machine, folder = engine.machine, BEN.home / "oqdata" / "web-inputs"
    elsewhere = machine.write("root", "/var/tmp/elsewhere/there", "", 0o666).parent
    machine.path(elsewhere).chmod(0o777)
    assert machine.run(BEN.name, "mkdir", "-p", folder.parent).returncode == 0
    for target in (elsewhere, INPUTS):
        machine.run(BEN.name, "rm", "-rf", folder)
        assert machine.run(BEN.name, "ln", "-s", target, folder).returncode == 0
        answer = web.send(BEN.name, RUN, archive_of({"job.ini": "[general]\n"}))
        assert answer.status == 500
        assert "is not a folder of your own" in answer.text
    assert machine.run(BEN.name, "rm", folder).returncode == 0

    assert [path.name for path in machine.path(elsewhere).iterdir()] == ["there"]
    assert {uid for uid, _mode in owned(machine.path(INPUTS)).values()} == {ANNA.uid}


def test_only_services_may_name_somebody_else(engine: PeopleCluster) -> None:
    """Ben cannot ask in Anna's name."""
    refused = ask_agent(engine, BEN.name, ANNA.name, ["view", "formats"])

    assert refused == [f"you are {BEN.name} and cannot ask for '{ANNA.name}'"]


MORE_NAMES = (SERVICE.name, "daemon", "nobody", "qg-stranger", "no-such-account")


@pytest.mark.parametrize(
    "name", ["root", *(pytest.param(each, marks=pytest.mark.full) for each in MORE_NAMES)]
)
def test_no_name_leads_to_another_account_than_a_members(engine: PeopleCluster, name: str) -> None:
    """Neither root nor the services' nor one of the system: all of these are the account for others."""
    machine = engine.machine
    shut, own = (
        machine.write(who, f"/var/tmp/{name}-{who}/calc_1.hdf5", "").parent for who in ("root", WORKER.name)
    )
    for folder in (shut, own):
        machine.path(folder).chmod(0o700)
    wanted = [{"inputs": [], "datastores": [str(folder / "calc_1.hdf5")]} for folder in (own, shut)]

    told = [ask_agent(engine, SERVICE.name, name, ["view", "remove", json.dumps(each)]) for each in wanted]

    assert not machine.path(own / "calc_1.hdf5").exists(), told
    assert machine.path(shut / "calc_1.hdf5").exists(), told


_ASK_AGENT = """
import json, socket, sys
path, person, argv = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
own, its = socket.socketpair()
connection = socket.socket(socket.AF_UNIX)
connection.connect(path)
asked = {"argv": argv, "cwd": "/", "environ": {"PATH": "/bin"}, "mode": "run", "for_person": person}
socket.send_fds(connection, [json.dumps(asked).encode() + b"\\n"], [its.fileno()])
events = [json.loads(line) for line in connection.makefile("rb") if line.strip()]
print(json.dumps([event["message"] for event in events if event["event"] in ("refused", "error")]))
"""


def ask_agent(engine: PeopleCluster, who: str, person: str, argv: list[str]) -> list[str]:
    """Ask the agent for a driver of a person; why there was none."""
    path = engine.state_dir / "run" / "agent.sock"
    told: list[str] = json.loads(engine.machine.python(who, _ASK_AGENT, path, person, json.dumps(argv)))
    return told


@pytest.mark.full
def test_files_that_the_dbserver_may_not_remove_go_too(
    engine: PeopleCluster, web: Browser, bens_job: int
) -> None:
    """However a calculation is deleted, and nothing is said to be gone that is there."""
    path = datastore_of(BEN, bens_job)
    engine.machine.write(BEN.name, path, "")
    assert engine.machine.run(BEN.name, "chmod", "0700", path.parent).returncode == 0

    named = {"LOGNAME": BEN.name}  # which counts as the services' account holds the authkey
    told = engine.quakegrid(SERVICE.name, "jobs", "delete", "--yes", bens_job, environ=named)

    assert told.returncode == 0, told.stderr
    assert f"soon removed, by the master's web service: {path}" in told.stderr
    wait_until(lambda: not engine.machine.path(path).exists())


def test_removing_leaves_nothing(engine: PeopleCluster, web: Browser, job_id: int) -> None:
    """Neither results nor inputs nor records of them."""
    answer = web.post(ANNA.name, f"/v1/calc/{job_id}/remove")

    assert answer.status == 200, answer.text
    home = engine.machine.path(ANNA.home)
    assert list(engine.machine.path(INPUTS).iterdir()) == []
    records = engine.machine.path(engine.state_dir / "web-inputs").iterdir()
    assert [path for path in records if json.loads(path.read_text())["owner"] == ANNA.name] == []
    wait_until(lambda: not list(home.rglob(f"calc_{job_id}*")))
    assert web.get(ANNA.name, f"/v1/calc/{job_id}/status").status == 404
