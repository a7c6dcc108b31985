"""Bad input: one clear line that names the thing, and the right exit code."""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from quakegrid import testing
from quakegrid.settings import config
from tests.support.clusters import Cluster, running_cluster

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]


def refusal(cluster: Cluster, *args: object) -> tuple[int, str]:
    """Exit code and the one line on stderr of a command that is refused."""
    done = cluster.call(*args)
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    return done.returncode, line


def test_job_file_that_is_missing(cluster: Cluster, tmp_path: Path) -> None:
    """Named, exit code 2, no job made."""
    code, line = refusal(cluster, "run", tmp_path / "missing.ini")

    assert code == 2
    assert "missing.ini does not exist" in line


def test_job_file_that_is_no_job_file(cluster: Cluster, tmp_path: Path) -> None:
    """The parser's words, with the file."""
    path = tmp_path / "broken.ini"
    path.write_text("this is not a job file\n", encoding="utf-8")

    code, line = refusal(cluster, "run", path)

    assert code == 2
    assert str(path) in line
    assert "section" in line


def test_file_that_the_job_names_is_missing(cluster: Cluster, quick: Path) -> None:
    """The missing file is named."""
    (quick.parent / "source_model_logic_tree.xml").unlink()

    code, line = refusal(cluster, "run", quick)

    assert code == 2
    assert "source_model_logic_tree.xml" in line


def test_value_that_cannot_be(cluster: Cluster, quick: Path) -> None:
    """The job fails, and says which key has which wrong value."""
    text = quick.read_text(encoding="utf-8")
    quick.write_text(text.replace("maximum_distance = ", "maximum_distance = banana "), encoding="utf-8")

    done = cluster.call("run", quick)

    assert done.returncode == 1
    assert "maximum_distance" in done.stderr
    assert cluster.job()["state"] == "failed"


def test_key_that_the_engine_does_not_know(cluster: Cluster, quick: Path) -> None:
    """The engine ignores it and says so; we show its warning."""
    with quick.open("a", encoding="utf-8") as file:
        file.write("\nfrobnicate = 3\n")

    done = cluster.call("run", quick)

    assert done.returncode == 0
    assert "'frobnicate' is unknown" in done.stderr + done.stdout


@pytest.mark.parametrize("command", [["show"], ["logs"], ["outputs"], ["delete", "--yes"]])
def test_job_that_is_not_there(cluster: Cluster, command: list[str]) -> None:
    """Every command on a job says that there is none of that id."""
    name, *flags = command

    code, line = refusal(cluster, "jobs", name, 99999, *flags)

    assert code == 1
    assert "there is no job 99999" in line


def test_abort_and_parent_that_are_not_there(cluster: Cluster, quick: Path) -> None:
    """So do abort and --hc."""
    assert "there is no job 99999" in refusal(cluster, "abort", 99999)[1]
    assert "there is no job 99999" in refusal(cluster, "run", quick, "--hc", 99999)[1]


def test_second_up_changes_nothing(cluster: Cluster) -> None:
    """It says that everything runs."""
    before = cluster.json("status")["services"]

    done = cluster.call("up")

    assert done.returncode == 0
    assert cluster.json("status")["services"] == before


def test_port_in_use(cluster: Cluster, tmp_path: Path) -> None:
    """The port, who has it, and the key to change; nothing is left running."""
    settings = config.load_settings(cluster.state_dir, cluster.environ)
    other = dataclasses.replace(cluster, state_dir=tmp_path / "other")
    extra = {"dbserver": {"port": str(settings.dbserver_port)}}
    testing.write_cluster_config(other.state_dir, extra)

    code, line = refusal(other, "up")

    assert code == 1
    assert f"port {settings.dbserver_port}" in line
    assert "[dbserver] port" in line
    assert other.call("status").returncode == 3


def test_setting_that_cannot_be(cluster: Cluster, tmp_path: Path) -> None:
    """File, section, key, value and what is allowed."""
    path = tmp_path / "openquake.cfg"
    path.write_text("[dbserver]\nport = banana\n", encoding="utf-8")
    other = dataclasses.replace(cluster, environ=cluster.environ | {"OQ_CONFIG_FILE": str(path)})

    code, line = refusal(other, "status")

    assert code == 2
    assert f"{path}: [dbserver] port = 'banana'" in line
    assert "1 to 65535" in line


def test_wrong_authkey(cluster: Cluster, tmp_path: Path) -> None:
    """Whoever does not hold the key is not let in, and is told what may be the matter."""
    path = tmp_path / "openquake.cfg"
    path.write_text("[dbserver]\nauthkey = another-key-of-good-length\n", encoding="utf-8")
    other = dataclasses.replace(cluster, environ=cluster.environ | {"OQ_CONFIG_FILE": str(path)})

    code, line = refusal(other, "jobs", "list")

    assert code == 3
    assert "authkey differs" in line


def test_cluster_that_is_down(cluster: Cluster, tmp_path: Path, quick: Path) -> None:
    """Says how to start it, exit code 3."""
    other = dataclasses.replace(cluster, state_dir=tmp_path / "nothing")

    for command in (["run", quick], ["jobs", "list"], ["oq", "info", "cfg"]):
        code, line = refusal(other, *command)
        assert code == 3
        assert "quakegrid up" in line


def test_folder_whose_name_is_not_utf8(cluster: Cluster, quick: Path) -> None:
    """It runs, or fails with a word; nothing hangs, and the agent goes on."""
    folder = Path(f"{quick.parent}-caf\udce9")
    quick.parent.rename(folder)

    done = cluster.call("run", folder / quick.name, timeout_s=60)
    after = cluster.call("status")

    assert done.returncode in {0, 1}, done.stderr
    assert cluster.job()["state"] in {"complete", "failed"}
    assert after.returncode == 0


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 300 KiB; needs the right to mount."""
    path = tmp_path / "small"
    path.mkdir()
    mount = shutil.which("mount")
    command = [mount or "mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(path)]
    if mount is None or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("mounting a file system is not allowed here")
    try:
        yield path
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)


def test_full_disk_fails_the_job_and_says_so(small_disk: Path, quick: Path, tmp_path: Path) -> None:
    """The job is `failed`, its log names the trouble, and the cluster goes on."""
    home = tmp_path / "home"
    home.mkdir()
    extra = {"directory": {"shared_dir": str(small_disk)}}
    with running_cluster(tmp_path / "state", home, extra) as cluster:
        filler = small_disk / "filler"
        with filler.open("wb") as file:
            file.write(b"x" * 270_000)

        full = cluster.call("run", quick)
        state = cluster.job()["state"]
        filler.unlink()
        small = cluster.call("jobs", "list")

    assert full.returncode == 1
    assert "No space left" in full.stderr
    assert state == "failed"
    assert small.returncode == 0


def test_log_of_drivers_on_a_full_disk_costs_no_calculation(cluster: Cluster, quick: Path) -> None:
    """What cannot be written there is dropped: the job is complete, and its own log is with the dbserver."""
    settings = config.load_settings(cluster.state_dir, cluster.environ)
    log = settings.log_dir / "drivers.log"
    log.unlink(missing_ok=True)
    log.symlink_to("/dev/full")
    try:
        done = cluster.call("run", quick)
    finally:
        log.unlink()

    assert done.returncode == 0, done.stderr
    assert cluster.job()["state"] == "complete"
