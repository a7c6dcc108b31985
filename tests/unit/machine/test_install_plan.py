"""What an installation consists of: steps, settings and units, as pure values."""

from __future__ import annotations

import dataclasses
import datetime
import socket
import types
from pathlib import Path

import pytest

from quakegrid.access.proofs import Certified
from quakegrid.errors import SettingsError, UsageError
from quakegrid.install import accounts, config_text, machine, plan, units
from quakegrid.install.plan import Choice, Role, SharedIds
from quakegrid.install.steps import (
    AddMember,
    GetCertificate,
    MakeFolder,
    MakeGroup,
    MakeUser,
    RunCommand,
    Step,
    WriteFile,
    in_words,
)
from quakegrid.settings import node_files
from quakegrid.settings.node_files import NodeFile

ROOT = Path(__file__).parents[3]
PREFIX = Path("/opt/quakegrid")
KEY = "f3Qm-Zt81xWvKp0aLbR7sYcJ2nHdUe5gTi9oXqPw4Vz"
MASTER = Choice(
    Role.MASTER, "10.0.0.1", "quakegrid", PREFIX, PREFIX / "venv", PREFIX / "venv" / "openquake.cfg"
)
NODE = dataclasses.replace(MASTER, role=Role.NODE)
MASTER_CONFIG = f"[dbserver]\nhost = 10.0.0.1\nauthkey = {KEY}\n"


def files(steps: list[Step]) -> dict[str, WriteFile]:
    """Written files by name."""
    return {step.path.name: step for step in steps if isinstance(step, WriteFile)}


def test_master_has_users_folders_settings_and_four_services() -> None:
    """All that a master needs is in its plan, in an order in which it can be done."""
    steps = plan.steps(MASTER, "", KEY)

    assert steps[0] == MakeUser("quakegrid", plan.STATE_DIR)
    assert MakeFolder(PREFIX / "shared", 0o3775, "quakegrid", "quakegrid-users") in steps
    services = ["agent", "broker", "dbserver", "web"]
    assert {f"quakegrid-{name}.service" for name in services} < set(files(steps))
    assert isinstance(steps[-1], RunCommand)
    assert steps[-1].argv[:3] == ("systemctl", "enable", "--now")


def test_settings_of_master_are_for_its_user_only() -> None:
    """Nobody of the user's group can read the key: with `--user openquake` that group is people's."""
    config = files(plan.steps(MASTER, "", KEY))["openquake.cfg"]

    assert (config.mode, config.owner, config.group) == (0o400, "quakegrid", "quakegrid")
    assert config_text.read_value(config.content, "dbserver", "authkey") == KEY
    assert config_text.read_value(config.content, "zworkers", "host_cores") == "10.0.0.1 -1"


def test_no_step_tells_the_key() -> None:
    """Neither the words of a step nor its representation hold the key."""
    steps = plan.steps(MASTER, "", KEY)

    assert KEY not in " ".join([*map(in_words, steps), repr(steps)])


def test_settings_that_are_there_stay() -> None:
    """A configuration of a working cluster keeps its lines; only the key that is none is replaced."""
    text = (
        "# ours\n[dbserver]\nhost = 10.0.0.1\nauthkey = changeme\nfile = /data/db.sqlite3\n\n"
        "[zworkers]\nhost_cores = n1 -1, n2 8\n\n[directory]\nshared_dir = /home/shared\n"
    )

    written = files(plan.steps(MASTER, text, KEY))

    assert written["openquake.cfg"].content == text.replace("changeme", KEY)
    assert (
        "ReadWritePaths=/var/lib/quakegrid -/home/shared -/data\n"
        in written["quakegrid-dbserver.service"].content
    )


def test_master_named_by_name_listens_everywhere() -> None:
    """Its own hosts file may give the name an address that others cannot reach."""
    steps = plan.steps(dataclasses.replace(MASTER, master="big.example.org"), "", KEY)

    assert config_text.read_value(files(steps)["openquake.cfg"].content, "dbserver", "listen") == "0.0.0.0"


def test_plan_of_a_plan_is_the_same() -> None:
    """The file that a plan writes is what it wants to find."""
    first = plan.steps(MASTER, "", KEY)

    again = plan.steps(MASTER, files(first)["openquake.cfg"].content, "another" * 5)

    assert again == first


def test_node_has_an_agent_that_joins_and_the_masters_ids() -> None:
    """A node has no dbserver, no broker and no shared folder of its own."""
    steps = plan.steps(NODE, MASTER_CONFIG, "", ids=SharedIds(998, 997))

    assert steps[0] == MakeUser("quakegrid", plan.STATE_DIR, (998, 997))
    written = files(steps)
    assert (
        "ExecStart=/opt/quakegrid/venv/bin/agentctl serve --join 10.0.0.1\n"
        in written["quakegrid-agent.service"].content
    )
    assert "quakegrid-broker.service" not in written
    assert not any(isinstance(step, MakeFolder) and step.path == PREFIX / "shared" for step in steps)


def test_node_without_the_right_to_read_the_file_of_its_master_leaves_it() -> None:
    """Root of a node may not read what a file server gives to a group only."""
    steps = plan.steps(NODE, None, "")

    assert "openquake.cfg" not in files(steps)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "scp -p root@10.0.0.1:/opt/quakegrid/venv/openquake.cfg"),
        ("[dbserver]\nhost = 127.0.0.1\n", "names no master"),
        ("[dbserver]\nhost = 10.0.0.1\nauthkey = short\n", "fewer than 16 characters"),
        ("[dbserver]\nhost = 10.0.0.1\nauthkey = 1234567890123456\n", "can be guessed"),
        ("nonsense", "not a valid configuration file"),
    ],
)
def test_node_without_the_masters_settings_is_refused(text: str, said: str) -> None:
    """What is missing is said with what to do."""
    with pytest.raises(SettingsError, match=said):
        plan.steps(NODE, text, "")


def test_file_that_cannot_be_read_keeps_its_lines() -> None:
    """Any of them may have the key."""
    with pytest.raises(SettingsError, match=r"line 2$"):
        plan.steps(NODE, "[dbserver]\nauthkey Zt5hPw\n", "")


def test_node_with_a_token_needs_neither_settings_nor_master() -> None:
    """It gets its certificate before its agent starts; no words and no representation tell the token."""
    choice = dataclasses.replace(NODE, master="", token="qgnode1.secret")

    steps = plan.steps(choice, "", KEY)

    kinds = [type(step) for step in steps]
    assert kinds[-3:] == [GetCertificate, RunCommand, RunCommand]
    assert "openquake.cfg" not in files(steps)
    unit = files(steps)["quakegrid-agent.service"].content
    assert "ExecStart=/opt/quakegrid/venv/bin/agentctl serve\n" in unit
    assert "quakegrid-broker.service" not in files(steps)
    assert "secret" not in " ".join([*map(in_words, steps), repr(steps), repr(choice)])


@pytest.mark.parametrize(
    ("days", "machine_name", "counts"),
    [(1, None, True), (-1, None, False), (1, "another-machine", False)],
)
def test_certificate_that_does_not_count_is_got_anew(
    tmp_path: Path, days: int, machine_name: str | None, counts: bool
) -> None:
    """It has ended, or is of another machine."""
    target = machine.Machine(tmp_path)
    assert not target.has_certificate()
    now_time = datetime.datetime.now(datetime.UTC)
    until = now_time + datetime.timedelta(days=days)
    proof = Certified(b"ca", b"key", b"certificate")
    name = machine_name or socket.gethostname()
    found = NodeFile("n1", "10.0.0.1:1908", "10.0.0.1:1911", now_time, until, proof, name)
    path = node_files.write(target.place(plan.STATE_DIR), found)

    assert target.has_certificate() is counts

    path.write_text("{}")
    assert not target.has_certificate()


def test_folders_and_settings_of_root_do_not_go_to_the_agents_user() -> None:
    """It gets a certificate with the token, in its own state directory."""
    roots = {
        "PATH": "/bin",
        "HOME": "/root",
        "XDG_STATE_HOME": "/root/state",
        "QUAKEGRID_STATE_DIR": "/root/q",
    }

    found = machine.certificate_environ(roots, "qgnode1.secret")

    assert found == {"PATH": "/bin", "HOME": str(plan.STATE_DIR), "QUAKEGRID_TOKEN": "qgnode1.secret"}


def test_node_with_a_certificate_is_brought_up_to_date_without_a_token() -> None:
    """Its plan is as it was, but for the certificate."""
    choice = dataclasses.replace(NODE, master="", token="qgnode1.secret")
    later = dataclasses.replace(choice, token="", is_certified=True)

    before = plan.steps(choice, "[agent]\nworkers = 2\n", KEY)
    after = plan.steps(later, "[agent]\nworkers = 2\n", KEY)

    assert after == [step for step in before if not isinstance(step, GetCertificate)]
    assert "openquake.cfg" in files(after)


def test_token_where_the_key_is_or_belongs_is_refused() -> None:
    """A node is known by the one or the other, and the master by its key."""
    with pytest.raises(SettingsError, match="needs no token"):
        plan.steps(dataclasses.replace(NODE, token="qgnode1.secret"), MASTER_CONFIG, "")
    with pytest.raises(UsageError, match="for nodes"):
        plan.steps(dataclasses.replace(MASTER, token="qgnode1.secret"), "", KEY)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"master": ""}, "--master"),
        ({"master": "127.0.0.1"}, "--master"),
        ({"prefix": Path("/opt/a b")}, "absolute path"),
        ({"prefix": Path("opt")}, "absolute path"),
        ({"user": "a;b"}, "cannot be used"),
        ({"network": "10.0.0.0/24(rw)"}, "cannot be used"),
        ({"role": Role.NODE, "network": "10.0.0.0/24"}, "for the master"),
    ],
)
def test_choice_that_cannot_be_used_is_refused(changes: dict[str, object], said: str) -> None:
    """Nothing goes into units, scripts or exports that would need quoting."""
    with pytest.raises(UsageError, match=said):
        plan.steps(dataclasses.replace(MASTER, **changes), MASTER_CONFIG, KEY)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("host = 127.0.0.1", "one machine"),
        ("host = 10.9.9.9", "make them agree"),
        ("file = ~/x", "whole path"),
    ],
)
def test_master_whose_settings_contradict_is_refused(line: str, said: str) -> None:
    """A file that means something else is not changed behind the administrator's back."""
    with pytest.raises(SettingsError, match=said):
        plan.steps(MASTER, f"[dbserver]\n{line}\n", KEY)


def test_export_is_read_only() -> None:
    """Nodes read what the master exports, and change nothing."""
    steps = plan.steps(dataclasses.replace(MASTER, network="10.0.0.0/24"), "", KEY)

    assert files(steps)["quakegrid.exports"].content == ("/opt/quakegrid 10.0.0.0/24(ro,no_subtree_check)\n")
    assert RunCommand(("exportfs", "-ra")) in steps


def test_missing_key_goes_to_the_end_of_its_section() -> None:
    """Other sections and comments stay where they are."""
    text = "[a]\nx = 1\n\n[b]\ny = 2\n"

    assert config_text.fill_in(text, [("a", "z", "3"), ("c", "w", "4"), ("b", "y", "9")]) == (
        "[a]\nx = 1\nz = 3\n\n[b]\ny = 2\n\n[c]\nw = 4\n"
    )


def test_user_of_a_node_has_the_ids_of_the_master(monkeypatch: pytest.MonkeyPatch) -> None:
    """The numbers are asked for exactly, so that one that is taken is an error and not another number."""
    ran: list[tuple[str, ...]] = []
    monkeypatch.setattr(machine.Machine, "run", lambda _self, argv: ran.append(tuple(argv)))

    notes = machine.Notes()

    machine.Machine()._do(MakeUser("nobodyhasthis", plan.STATE_DIR, (998, 997)), notes)
    machine.Machine()._do(MakeUser("norhasthis", plan.WORKER_HOME), notes)
    machine.Machine()._do(MakeGroup("northis", 990), notes)

    assert (notes.user, notes.other_users, notes.groups) == ("nobodyhasthis", ["norhasthis"], ["northis"])
    assert ran[2:4] == [
        ("groupadd", "--system", "norhasthis"),
        ran[3],
    ]
    assert ran[4] == ("groupadd", "--system", "--gid", "990", "northis")
    assert ran[0] == ("groupadd", "--system", "--gid", "997", "nobodyhasthis")
    assert ran[1][:6] == ("useradd", "--system", "--uid", "998", "--gid", "nobodyhasthis")


def test_people_have_a_group_and_strangers_an_account() -> None:
    """Calculations never run as the account that can read the key."""
    steps = plan.steps(MASTER, "", KEY)

    users = {step.name: step.home for step in steps if isinstance(step, MakeUser)}
    assert users == {"quakegrid": plan.STATE_DIR, "quakegrid-worker": plan.WORKER_HOME}
    assert MakeGroup("quakegrid-users") in steps
    assert MakeFolder(plan.WORKER_HOME, 0o700, "quakegrid-worker", "quakegrid-worker") in steps
    assert MakeFolder(plan.STATE_DIR, 0o751, "quakegrid", "quakegrid") in steps


def test_people_are_put_into_the_group() -> None:
    """But neither root nor an account of the cluster."""
    steps = plan.steps(dataclasses.replace(MASTER, members=("anna", "ben")), "", KEY)

    assert [in_words(step) for step in steps if isinstance(step, AddMember)] == [
        "put anna into the group quakegrid-users",
        "put ben into the group quakegrid-users",
    ]
    for name in ("root", "quakegrid", "quakegrid-worker"):
        with pytest.raises(UsageError, match="--member names others"):
            plan.steps(dataclasses.replace(MASTER, members=(name,)), "", KEY)


def test_names_of_the_settings_are_made() -> None:
    """A site that has a group and an account for this gives their names."""
    text = f"{MASTER_CONFIG}[agent]\ngroup = modellers\nworker_user = compute\n"

    steps = plan.steps(MASTER, text, KEY)

    assert MakeGroup("modellers") in steps
    assert MakeFolder(plan.WORKER_HOME, 0o700, "compute", "compute") in steps
    assert MakeFolder(PREFIX / "shared", 0o3775, "quakegrid", "modellers") in steps


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("worker_user = quakegrid", "can read the authkey"),
        ("worker_user = root", "can read the authkey"),
        ("group = quakegrid", "a group of the services"),
        ("group = quakegrid-worker", "a group of the services"),
    ],
)
def test_account_with_two_uses_is_refused(line: str, said: str) -> None:
    """A job that runs as the services could read the key."""
    with pytest.raises(SettingsError, match=said):
        plan.steps(MASTER, f"{MASTER_CONFIG}[agent]\n{line}\n", KEY)


def test_names_that_need_quoting_are_refused() -> None:
    """They go into commands and units."""
    with pytest.raises(UsageError, match="cannot be used as a name"):
        plan.steps(MASTER, f"{MASTER_CONFIG}[agent]\ngroup = a;b\n", KEY)
    with pytest.raises(UsageError, match="do not run as root"):
        plan.steps(dataclasses.replace(MASTER, user="root"), MASTER_CONFIG, KEY)


def test_group_of_a_node_has_the_number_of_the_master() -> None:
    """Files of people on the file server belong to it."""
    steps = plan.steps(NODE, MASTER_CONFIG, "", ids=SharedIds(998, None, 990))

    assert steps[0] == MakeUser("quakegrid", plan.STATE_DIR, (998, None))
    assert MakeGroup("quakegrid-users", 990) in steps
    assert "uid 998): runs the services" in in_words(steps[0])
    assert "(gid 990)" in in_words(MakeGroup("quakegrid-users", 990))


def test_only_the_agent_may_change_users() -> None:
    """And may do nothing else that root may."""
    written = files(plan.steps(MASTER, "", KEY))

    for name in ("dbserver", "broker", "web"):
        text = written[f"quakegrid-{name}.service"].content
        assert "CapabilityBoundingSet=\n" in text
        assert "AmbientCapabilities" not in text
        assert "ProtectSystem=strict" in text
    agent = written["quakegrid-agent.service"].content
    assert "AmbientCapabilities=CAP_SETUID CAP_SETGID\n" in agent
    assert "CapabilityBoundingSet=CAP_SETUID CAP_SETGID\n" in agent
    assert "NoNewPrivileges=yes\n" in agent


def test_agents_unit_closes_no_folder_of_people() -> None:
    """A driver of anna writes ~/oqdata, wherever her home is, and reads her models."""
    agent = files(plan.steps(MASTER, "", KEY))["quakegrid-agent.service"].content

    for line in (
        "ProtectHome",
        "PrivateTmp",
        "ReadWritePaths",
        "ProtectSystem=strict",
        "UMask=0077",
        "PrivateUsers",
    ):
        assert line not in agent


def test_accounts_with_one_number_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two names for one account separate nothing; so do members of the people's group among services."""
    steps = plan.steps(MASTER, "", KEY)
    numbers = {"quakegrid": 998, "quakegrid-worker": 998}
    members: list[str] = []
    monkeypatch.setattr(accounts, "has_user", numbers.__contains__)
    monkeypatch.setattr(accounts, "members", lambda _group: members)
    monkeypatch.setattr("pwd.getpwnam", lambda name: types.SimpleNamespace(pw_uid=numbers[name]))

    with pytest.raises(UsageError, match="numbers of their own"):
        accounts.refuse_halves(steps)
    numbers["quakegrid-worker"] = 0
    with pytest.raises(UsageError, match="none is root"):
        accounts.refuse_halves(steps)
    numbers["quakegrid-worker"] = 997
    accounts.refuse_halves(steps)
    members.append("quakegrid")
    with pytest.raises(UsageError, match="`gpasswd --delete quakegrid quakegrid-users`"):
        accounts.refuse_halves(steps)


def test_units_in_deploy_are_what_the_code_says() -> None:
    """`make reference` was run after the last change of the units."""
    places = units.Places(PREFIX / "venv", plan.STATE_DIR, "quakegrid", (PREFIX / "shared",))

    found = {
        path.name: path.read_text(encoding="utf-8") for path in (ROOT / "deploy/systemd").glob("*.service")
    }

    assert found == units.render(places)
