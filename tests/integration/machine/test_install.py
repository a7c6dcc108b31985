"""Installing and uninstalling below a folder that stands for the machine's root, by the real command line."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from quakegrid.install import machine, plan, units
from quakegrid.settings import config
from quakegrid.settings.hosts import HostCores

SITE = Path(sys.prefix, config.CONFIG_NAME)


def quakegrid(*argv: str) -> subprocess.CompletedProcess[str]:
    """Run a command of `quakegrid`, with nobody to answer questions."""
    command = [sys.executable, "-m", "quakegrid.cli", *argv]
    return subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)


def install(root: Path, *argv: str) -> subprocess.CompletedProcess[str]:
    """Make `root` a master, or what `argv` says."""
    role = () if "--role" in argv else ("--role", "master", "--master", "10.0.0.1")
    return quakegrid("install", *role, "--root", str(root), *argv)


def below(root: Path, path: Path) -> Path:
    """Where a path of the machine is below `root`."""
    return root / path.relative_to("/")


def tree(root: Path) -> dict[str, tuple[int, int, bytes]]:
    """Everything below a folder: mode, time and content."""
    return {str(path.relative_to(root)): _look(path) for path in sorted(root.rglob("*"))}


def _look(path: Path) -> tuple[int, int, bytes]:
    status = path.stat()
    return status.st_mode, status.st_mtime_ns, path.read_bytes() if path.is_file() else b""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder that stands for a machine."""
    folder = tmp_path / "root"
    folder.mkdir()
    return folder


def test_dry_run_says_all_and_changes_nothing(root: Path) -> None:
    """The plan is printed, and nothing is written."""
    done = install(root, "--dry-run")

    assert done.returncode == 0, done.stderr
    assert "make the system user" not in done.stderr  # below a root there are no users
    assert "write /etc/systemd/system/quakegrid-broker.service (0644, root:root)" in done.stderr
    assert tree(root) == {}


def test_without_an_answer_nothing_is_done(root: Path) -> None:
    """Who cannot be asked must say --yes."""
    done = install(root)

    assert done.returncode == 2
    assert "say --yes" in done.stderr
    assert tree(root) == {}


def test_written_settings_are_those_that_services_read(root: Path) -> None:
    """`load_settings` reads the file: a master with a key and a database of its own."""
    done = install(root, "--yes")

    assert done.returncode == 0, done.stderr
    written = below(root, SITE)
    assert written.stat().st_mode & 0o7777 == 0o400
    settings = config.load_settings(root / "state", {"OQ_CONFIG_FILE": str(written)})
    assert settings.dbserver_host == "10.0.0.1"
    assert settings.database == plan.STATE_DIR / "db.sqlite3"
    assert settings.agent_host_cores == (HostCores("10.0.0.1", -1),)
    assert settings.shared_dir == "/opt/quakegrid/shared"
    config.check_authkey(settings, "the agent")
    assert settings.authkey not in done.stdout + done.stderr
    assert (root / "opt/quakegrid/shared").stat().st_mode & 0o7777 == 0o3775


def test_second_run_changes_nothing(root: Path) -> None:
    """Not even the times of the files."""
    install(root, "--yes")
    before = tree(root)

    done = install(root)

    assert done.returncode == 0, done.stderr
    assert "Nothing to do" in done.stderr
    assert tree(root) == before


def test_run_that_was_cut_short_is_finished_by_the_next(root: Path) -> None:
    """The commands are due until all of them ended well."""
    install(root, "--yes")
    notes = below(root, machine.NOTES)
    text = notes.read_text(encoding="utf-8")
    notes.write_text(text.replace('"is_complete": true', '"is_complete": false'), encoding="utf-8")

    done = install(root, "--yes")

    assert "run `systemctl enable --now quakegrid-agent.service" in done.stderr
    assert notes.read_text(encoding="utf-8") == text


def test_installation_of_an_older_quakegrid_is_brought_up_to_date(root: Path) -> None:
    """Each change is said; the key, the database and results stay; uninstalling then knows all of it."""
    install(root, "--yes")
    notes = below(root, machine.NOTES)
    old = json.loads(notes.read_text(encoding="utf-8"))
    unit, web = (below(root, plan.UNIT_FOLDER / f"quakegrid-{name}.service") for name in ("agent", "web"))
    unit.write_text("[Service]\nCapabilityBoundingSet=\n", encoding="utf-8")
    web.unlink()
    for key in ("other_users", "groups"):
        del old[key]
    old["files"] = {path: made for path, made in old["files"].items() if "web" not in path}
    old["folders"].remove(str(plan.WORKER_HOME))
    notes.write_text(json.dumps(old), encoding="utf-8")
    below(root, plan.WORKER_HOME).rmdir()
    below(root, plan.STATE_DIR).chmod(0o750)
    (root / "opt/quakegrid/shared").chmod(0o2775)
    database = below(root, plan.STATE_DIR / "db.sqlite3")
    database.write_text("data", encoding="utf-8")
    key = below(root, SITE).read_bytes()

    said = install(root, "--dry-run").stderr
    done = install(root, "--yes")

    assert done.returncode == 0, done.stderr
    for line in (
        f"make {plan.STATE_DIR}/ (0751, quakegrid:quakegrid)",
        f"make {plan.WORKER_HOME}/ (0700, quakegrid-worker:quakegrid-worker)",
        "make /opt/quakegrid/shared/ (3775, quakegrid:quakegrid-users)",
        f"write {plan.UNIT_FOLDER}/quakegrid-agent.service (0644, root:root)",
        f"write {plan.UNIT_FOLDER}/quakegrid-web.service (0644, root:root)",
    ):
        assert line in said
    assert "quakegrid-broker.service (0644" not in said
    assert "systemctl restart quakegrid-agent" in done.stderr
    assert "AmbientCapabilities" in unit.read_text(encoding="utf-8")
    assert below(root, plan.STATE_DIR).stat().st_mode & 0o7777 == 0o751
    assert (database.read_text(encoding="utf-8"), below(root, SITE).read_bytes()) == ("data", key)
    assert "Nothing to do" in install(root).stderr


def test_folder_that_no_installation_made_keeps_its_mode(root: Path) -> None:
    """Such as one of a file server."""
    shared = root / "opt/quakegrid/shared"
    shared.mkdir(parents=True)
    shared.chmod(0o770)

    install(root, "--yes")

    assert shared.stat().st_mode & 0o7777 == 0o770


def test_uninstall_leaves_what_was_there_before(root: Path) -> None:
    """Exactly what was made is gone."""
    below(root, plan.UNIT_FOLDER).mkdir(parents=True)
    below(root, plan.UNIT_FOLDER / "other.service").write_text("[Unit]\n", encoding="utf-8")
    before = set(tree(root))
    install(root, "--yes", "--export", "10.0.0.0/24")

    done = quakegrid("uninstall", "--root", str(root), "--yes")

    assert done.returncode == 0, done.stderr
    assert set(tree(root)) == before


def test_uninstall_keeps_data_and_files_that_were_changed(root: Path) -> None:
    """Databases and results are nobody's to remove, nor is a file that somebody has edited."""
    install(root, "--yes")
    database = below(root, plan.STATE_DIR / "db.sqlite3")
    result = root / "opt/quakegrid/shared/quakegrid/oqdata/calc_1.hdf5"
    result.parent.mkdir(parents=True)
    for path in (database, result):
        path.write_text("data", encoding="utf-8")
    with below(root, SITE).open("a", encoding="utf-8") as file:
        file.write("# mine\n")

    done = quakegrid("uninstall", "--root", str(root), "--yes")

    assert done.returncode == 0, done.stderr
    left = {path for path in root.rglob("*") if path.is_file()}
    assert left == {database, result, below(root, SITE)}
    assert f"keep {SITE}, which was changed since" in done.stderr


def test_uninstall_where_nothing_was_installed_does_nothing(root: Path) -> None:
    """And says so."""
    done = quakegrid("uninstall", "--root", str(root), "--yes")

    assert done.returncode == 0, done.stderr
    assert "Nothing to do" in done.stderr


def test_node_needs_the_masters_file_first(root: Path, tmp_path: Path) -> None:
    """Without the key the command that copies it is named; with it the node has an agent that joins."""
    refused = install(root, "--role", "node", "--master", "10.0.0.1", "--yes")
    master = tmp_path / "master"
    master.mkdir()
    install(master, "--yes")
    below(root, SITE).parent.mkdir(parents=True)
    shutil.copy(below(master, SITE), below(root, SITE))

    done = install(root, "--role", "node", "--yes")

    assert (refused.returncode, done.returncode) == (2, 0), done.stderr
    assert f"scp -p root@10.0.0.1:{SITE} {SITE}" in refused.stderr
    unit = below(root, plan.UNIT_FOLDER / "quakegrid-agent.service").read_text(encoding="utf-8")
    assert f"ExecStart={sys.prefix}/bin/agentctl serve --join 10.0.0.1\n" in unit
    assert not below(root, plan.UNIT_FOLDER / "quakegrid-broker.service").exists()


def test_command_finds_the_state_directory_of_the_cluster(root: Path) -> None:
    """The command that is installed is that of the environment, for the machine's cluster."""
    install(root, "--yes")

    done = subprocess.run(
        [root / "usr/local/bin/quakegrid", "--version"], capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr
    text = (root / "usr/local/bin/quakegrid").read_text(encoding="utf-8")
    assert "QUAKEGRID_STATE_DIR:-/var/lib/quakegrid" in text


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="this machine has no systemd-analyze")
@pytest.mark.parametrize("join", ["", "10.0.0.1"], ids=["master", "node"])
def test_systemd_takes_the_units(tmp_path: Path, join: str) -> None:
    """`systemd-analyze verify` has nothing to say."""
    places = units.Places(Path(sys.prefix), tmp_path, "root", (Path("/srv/shared"),), join)
    paths = []
    for name, text in units.render(places).items():
        paths.append(tmp_path / name)
        paths[-1].write_text(text, encoding="utf-8")

    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *paths], capture_output=True, text=True, check=False
    )

    assert (done.returncode, done.stderr) == (0, "")
