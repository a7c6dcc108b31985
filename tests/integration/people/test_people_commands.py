"""The commands of people: an admin gives credentials, a person uses the cluster with one, it is revoked."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import getpass
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from quakegrid import errors, testing
from quakegrid.access.principals import PrincipalRole
from quakegrid.cli import __main__ as command_line
from quakegrid.clients.broker import BrokerClient
from quakegrid.clients.dbserver.client import DbClient
from quakegrid.clients.dbserver.people import PeopleClient
from quakegrid.jobs.states import JobState
from quakegrid.settings import config, credential_files
from quakegrid.settings.config import Settings
from tests.support.dbservers import LocalDbServer
from tests.support.processes import Service

TIMEOUT_S = 60.0
DRIVER = """
import sys
from quakegrid.session.options import SessionOptions
from quakegrid.session.session import Session
from quakegrid.settings import config

options = SessionOptions(sys.argv[1], b"", job_ids=tuple(map(int, sys.argv[2:])))
session = Session(config.load_settings(), options)
try:
    session.wait_for_turn(lambda _ahead: None)
    print("open", flush=True)
    session.receive()
finally:
    session.close()
"""
# What a command said on stdout and stderr, and its exit code.
Said = tuple[str, str, int]
Quakegrid = Callable[..., Said]


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """A running dbserver and broker."""
    directory = tmp_path_factory.mktemp("people")
    (directory / "home").mkdir()
    path: Path = testing.write_cluster_config(directory / "state", {})
    found = config.load_settings(path.parent, {"OQ_CONFIG_FILE": str(path)})
    dbserver, broker = LocalDbServer(found), Service(found, "broker")
    try:
        dbserver.start()
        broker.start()
        with DbClient(found) as database:
            PeopleClient(database).issue("first", PrincipalRole.USER, datetime.timedelta(1), cluster="lab")
        yield found
    finally:
        broker.close()
        dbserver.close()


@pytest.fixture
def quakegrid(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Quakegrid:
    """Runs the command line in this process, as a user who has nothing."""
    for name in ("OQ_CONFIG_FILE", "QUAKEGRID_STATE_DIR", credential_files.CHOICE):
        monkeypatch.delenv(name, raising=False)
    for name in ("HOME", "XDG_CONFIG_HOME", "XDG_STATE_HOME"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    monkeypatch.setattr(sys, "prefix", sys.base_prefix)  # no openquake.cfg of this environment
    monkeypatch.chdir(tmp_path)

    def run(*args: str) -> Said:
        monkeypatch.setattr(sys, "argv", ["quakegrid", *args])
        code = command_line.run_command_line()
        said = capsys.readouterr()
        return said.out, said.err, code

    return run


@pytest.fixture
def master(settings: Settings, quakegrid: Quakegrid) -> Quakegrid:
    """The same as somebody who can read the authkey."""
    return lambda *args: quakegrid("--state-dir", str(settings.state_dir), *args)


def credential_of(master: Quakegrid, name: str, role: str = "user") -> Path:
    """A new credential of a person, who has no other."""
    path = Path(f"{name}.credential")
    out, err, code = master("user", "add", name, "--role", role)
    assert (out, code) == ("", 0), err
    return path


def make_job(settings: Settings, user_name: str) -> int:
    """A job of a person's, which a service created."""
    with DbClient(settings) as database:
        job = database.jobs.create_job(
            calculation_mode="classical", description="a job", user_name=user_name, data_dir="/nowhere"
        )
    return job.id


def found(said: Said) -> Any:
    """The document that a command has printed."""
    out, err, code = said
    assert code == 0, err
    return json.loads(out)


def test_person_uses_the_cluster_without_its_key(
    settings: Settings, master: Quakegrid, quakegrid: Quakegrid
) -> None:
    """Jobs of their name are theirs; those of others they see."""
    own, other = make_job(settings, "cleo"), make_job(settings, "dora")
    path = credential_of(master, "cleo")

    assert quakegrid("login", str(path))[2] == 0

    oneself = found(quakegrid("whoami", "--output", "json"))
    assert (oneself["name"], oneself["role"], oneself["cluster"]) == ("cleo", "user", "lab")
    assert {own, other} <= {job["id"] for job in found(quakegrid("jobs", "list", "--output", "json"))}
    assert found(quakegrid("jobs", "show", "-1", "--output", "json"))["id"] == own
    status = found(quakegrid("status", "--output", "json"))
    assert (status["is_up"], status["services"]) == (True, [])
    assert quakegrid("abort", "-1")[1] == f"job {own} was not executing\n"
    out, err, code = quakegrid("abort", str(other), "--yes")
    assert (out, code) == ("", 1)
    assert err == (
        f"quakegrid: job {other} belongs to dora; you are cleo (user) and may not abort jobs: that is for "
        "the owner, operators and admins\n"
    )
    assert "belongs to dora" in quakegrid("jobs", "delete", str(other), "--yes")[1]
    assert found(quakegrid("jobs", "show", str(own), "--output", "json"))["state"] == "aborted"
    assert quakegrid("jobs", "delete", "-1", "--yes")[2] == 0


def test_operator_ends_the_job_of_another(
    settings: Settings, master: Quakegrid, quakegrid: Quakegrid
) -> None:
    """And the job says who it was."""
    job_id = make_job(settings, "dora")
    quakegrid("login", str(credential_of(master, "otto", "operator")))

    assert quakegrid("abort", str(job_id), "--yes")[2] == 0

    job = found(quakegrid("jobs", "show", str(job_id), "--output", "json"))
    assert (job["state"], job["state_reason"]) == ("aborted", "aborted by otto")


def test_revoked_person_is_refused_in_words(master: Quakegrid, quakegrid: Quakegrid) -> None:
    """By dbserver and broker; a new credential lets them in again."""
    quakegrid("login", str(credential_of(master, "rudi")))

    assert master("user", "revoke", "rudi")[1].startswith("revoked: rudi (user) ")

    for command in (("whoami",), ("jobs", "list")):
        _out, err, code = quakegrid(*command)
        assert (code, "`quakegrid user renew rudi`" in err) == (2, True)
    assert master("user", "renew", "rudi", "--file", "new")[2] == 0
    quakegrid("login", "new")
    assert quakegrid("whoami")[2] == 0
    assert found(quakegrid("status", "--output", "json"))["is_up"]
    assert master("user", "revoke", "rudi")[1].count("revoked") == 1


def test_tokens_for_nodes_that_end_with_a_credential_are_counted(
    master: Quakegrid, quakegrid: Quakegrid
) -> None:
    """Also where one credential of several is revoked, or replaced by a new one; and for scripts."""
    words = "for nodes that nora had made; `quakegrid token create --node` makes others"
    spare = credential_of(master, "nora", "admin").rename("first")
    quakegrid("login", str(spare))
    (first,) = [each for each in found(master("user", "list", "--json")) if each["name"] == "nora"]
    quakegrid("user", "renew", "nora", "--file", "second")
    quakegrid("token", "create", "--node")

    told = master("user", "revoke", "nora", "--id", first["id"])[1]

    assert told == f"revoked: nora (admin) {first['id'][:8]}\nended: 1 token {words}\n"
    quakegrid("login", "second")
    for _ in range(2):
        assert quakegrid("token", "create", "--node")[2] == 0
    assert f"ended: 2 tokens {words}\n" in master("user", "renew", "nora", "--only", "--file", "third")[1]
    quakegrid("login", "third")
    quakegrid("token", "create", "--node")
    document = found(master("user", "revoke", "nora", "--json"))
    assert [each["name"] for each in document["credentials"]] == ["nora"]
    assert (document["node_token_count"], document["aborted_job_ids"]) == (1, [])


def test_admin_cares_for_people_from_anywhere(master: Quakegrid, quakegrid: Quakegrid) -> None:
    """Adds them, changes their role, lists them; a user does none of this."""
    quakegrid("login", str(credential_of(master, "ada", "admin")))

    assert quakegrid("user", "add", "emil")[2] == 0
    assert credential_files.read(Path("emil.credential")).cluster == "lab"
    assert (
        "`quakegrid user role emil operator`"
        in quakegrid("user", "add", "emil", "--role", "operator", "--file", "x")[1]
    )
    assert not Path("x").exists()
    assert quakegrid("user", "role", "emil", "operator", "--file", "x")[2] == 0
    listed = [each for each in found(quakegrid("user", "list", "--output", "json")) if each["name"] == "emil"]
    assert [(each["role"], each["state"], each["issuer"]) for each in listed] == [
        ("user", "revoked", "ada (admin)"),
        ("operator", "valid", "ada (admin)"),
    ]
    quakegrid("login", "x")
    out, err, code = quakegrid("user", "list")
    assert (out, code) == ("", 1)
    assert err == "quakegrid: you are emil (operator) and may not list credentials: that is for admins\n"


def test_file_that_is_there_costs_no_credential(master: Quakegrid) -> None:
    """It stays, and nothing is issued."""
    path = Path("fred.credential")
    path.write_text("mine")

    assert "is there already" in master("user", "add", "fred")[1]

    assert path.read_text() == "mine"
    assert "fred" not in master("user", "list")[0]


@contextlib.contextmanager
def open_driver(settings: Settings, *args: object) -> Iterator[subprocess.Popen[str]]:
    """A process with a session that executes: of a person, with jobs. It ends when the broker tells it to."""
    command = [sys.executable, "-c", DRIVER, *map(str, args)]
    environ = os.environ | {"OQ_CONFIG_FILE": str(settings.state_dir / "openquake.cfg")}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environ) as driver:
        try:
            assert driver.stdout is not None
            assert driver.stdout.readline() == "open\n"
            yield driver
        finally:
            driver.kill()


def test_jobs_of_a_revoked_person_end_if_the_admin_says_so(settings: Settings, master: Quakegrid) -> None:
    """What executes, what waits, and what has not begun; those of others and the ones that ended stay."""
    executing, created, ended, other = (
        make_job(settings, name) for name in ("evan", "evan", "evan", "frida")
    )
    credential_of(master, "evan")
    with DbClient(settings) as database, open_driver(settings, "evan", executing) as driver:
        database.jobs.transition(ended, JobState.FAILED)

        kept = master("user", "revoke", "evan")
        was_open = driver.poll() is None and not database.jobs.get_job(executing).state.is_final
        told = master("user", "revoke", "evan", "--end-jobs")

        driver.wait(TIMEOUT_S)
        found = [database.jobs.get_job(job_id) for job_id in (executing, created, ended, other)]
    assert kept[1].startswith("revoked: evan (user) ")
    assert was_open
    assert told[1:] == (
        f"evan has no valid credential\njob {executing} aborted\njob {created} aborted\n",
        0,
    )
    assert [job.state.value for job in found] == ["aborted", "aborted", "failed", "created"]
    assert found[0].state_reason == f"aborted by {getpass.getuser()}, with all of evan"
    assert master("user", "revoke", "evan", "--end-jobs")[1].endswith(
        "nothing of evan was executing or submitted\n"
    )


@pytest.mark.parametrize("as_json", [(), ("--json",)])
def test_revocation_is_told_where_jobs_cannot_be_ended(
    master: Quakegrid, monkeypatch: pytest.MonkeyPatch, as_json: tuple[str, ...]
) -> None:
    """It is done before, and who reads the error only might take the person for one who is still in."""
    credential_of(master, "hugo")

    def refuse(_broker: BrokerClient, _name: str) -> None:
        raise errors.PeerUnreachableError("the broker does not answer")

    monkeypatch.setattr(BrokerClient, "end_sessions", refuse)

    out, err, code = master("user", "revoke", "hugo", "--end-jobs", *as_json)

    assert (out, code) == ("", errors.EXIT_UNREACHABLE)
    assert err.startswith("revoked: hugo (user) ")
    assert err.endswith("\nquakegrid: the broker does not answer\n")


def test_session_without_a_job_ends_with_its_person(settings: Settings, master: Quakegrid) -> None:
    """It has a worker that others could have."""
    credential_of(master, "gil")
    with open_driver(settings, "gil") as driver:
        told = master("user", "revoke", "gil", "--end-jobs")
        driver.wait(TIMEOUT_S)

    assert told[1].endswith("sessions of gil without jobs ended: 1\n")


def test_ending_all_jobs_of_a_person_is_for_admins(settings: Settings, master: Quakegrid) -> None:
    """And for a person without any credential."""
    path = credential_of(master, "olga", "operator")
    olga = dataclasses.replace(settings, credential=credential_files.read(path))

    assert master("user", "revoke", "olga", "--id", "ab", "--end-jobs")[2] == 2
    with (
        BrokerClient(olga) as broker,
        pytest.raises(errors.NotAllowedError, match="end all that executes for a person: that is for admins"),
    ):
        broker.end_sessions("anna")
    master("user", "revoke", "olga")


def test_credential_that_cannot_be_written_is_revoked(master: Quakegrid) -> None:
    """Nobody has its key."""
    _out, _err, code = master("user", "add", "gina", "--file", "no/such/folder/file")

    assert code == 1
    states = [
        each["state"] for each in found(master("user", "list", "--output", "json")) if each["name"] == "gina"
    ]
    assert states == ["revoked"]


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (("user", "renew", "nobody"), "nobody here is called nobody"),
        (("user", "revoke", "nobody"), "nobody here is called nobody"),
        (("user", "role", "nobody", "admin"), "nobody has no valid credential"),
        (("user", "add", "a b"), "cannot be a person's name"),
        (("user", "add", "anna", "--cluster-name", "a/b"), "cannot be a cluster's name"),
        (("login", "no-such-file"), "there is no file no-such-file"),
        (("logout", "lab"), "you have logged in to none"),
        (("--cluster", "lab", "status"), "you have logged in to none"),
    ],
)
def test_command_that_makes_no_sense_is_refused(
    master: Quakegrid, command: tuple[str, ...], words: str
) -> None:
    """In words."""
    _out, err, code = master(*command)

    assert code in (1, 2)
    assert words in err


def test_the_engine_does_not_run_with_a_credential(master: Quakegrid, quakegrid: Quakegrid) -> None:
    """The words say where it does; a calculation goes by the web service, which there is none of here."""
    quakegrid("login", str(credential_of(master, "hugo")))
    Path("job.ini").touch()

    _out, err, code = quakegrid("oq", "info")
    _out, run_err, run_code = quakegrid("run", "job.ini")

    assert (code, "commands run on a machine of the cluster lab" in err) == (1, True)
    assert (run_code, "the web service at http://127.0.0.1:" in run_err) == (3, True)


def test_holder_of_the_key_names_a_cluster_to_be_a_person(master: Quakegrid) -> None:
    """Without a name the key counts."""
    master("login", str(credential_of(master, "ida")))

    assert found(master("whoami", "--output", "json"))["role"] == "service"
    assert found(master("--cluster", "lab", "whoami", "--output", "json"))["name"] == "ida"
    assert master("logout", "lab")[2] == 0
    assert master("--cluster", "lab", "whoami")[2] == 2
