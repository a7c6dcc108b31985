"""Files with credentials: who may read them, what they must have, and which one a command uses."""

from __future__ import annotations

import datetime
import json
import os
from pathlib import Path

import pytest

from quakegrid import errors
from quakegrid.access.proofs import Certified
from quakegrid.settings import config, credential_files, node_files
from quakegrid.settings.credential_files import CredentialFile

END = datetime.datetime(2030, 1, 1, 12, 0, tzinfo=datetime.UTC)
KEY = b"-- a private key --"


def make(cluster: str = "lab", name: str = "anna") -> CredentialFile:
    """A credential; its PEM texts are none, which files do not look at."""
    proof = Certified(ca_pem=b"-- a ca --", key_pem=KEY, certificate_pem=b"-- a certificate --")
    return CredentialFile(cluster, name, "user", "0" * 32, END, "master:1908", "10.0.0.1:1911", proof)


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """A user who has not logged in to any cluster."""
    return {"XDG_CONFIG_HOME": str(tmp_path / "config")}


def test_file_is_read_as_it_was_written(tmp_path: Path) -> None:
    """And nobody but its owner can read it, whatever the umask."""
    path = tmp_path / "anna.credential"
    before = os.umask(0)
    try:
        credential_files.write(path, make())
    finally:
        os.umask(before)

    assert credential_files.read(path) == make()
    assert path.stat().st_mode & 0o777 == 0o600


def test_key_is_in_no_repr(tmp_path: Path) -> None:
    """Of credentials and of settings, which may come into logs."""
    settings = config.settings_of(make(), tmp_path)

    assert KEY.decode() not in f"{make()!r} {settings!r}"


@pytest.mark.parametrize("kind", ["file", "symlink", "broken symlink"])
def test_nothing_is_written_over(tmp_path: Path, kind: str) -> None:
    """A key does not go where somebody else wants it."""
    path, target = tmp_path / "anna.credential", tmp_path / "target"
    if kind == "file":
        path.write_text("mine")
    else:
        path.symlink_to(target)
    if kind == "symlink":
        target.write_text("mine")

    with pytest.raises(errors.UsageError, match="is there already"):
        credential_files.write(path, make())

    assert not target.exists() or target.read_text() == "mine"


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o602])
def test_file_that_others_can_read_or_change_is_refused(tmp_path: Path, mode: int) -> None:
    """With the command that helps."""
    path = tmp_path / "anna.credential"
    credential_files.write(path, make())
    path.chmod(mode)

    with pytest.raises(errors.CredentialError, match=f"`chmod 600 {path}`"):
        credential_files.read(path)


def test_missing_file_folder_and_pipe_are_no_credentials(tmp_path: Path) -> None:
    """A pipe that nobody writes to would be waited for."""
    os.mkfifo(tmp_path / "pipe", 0o600)

    for name, words in (("none", "there is no file"), ("pipe", "is no file"), (".", "is no file")):
        with pytest.raises(errors.CredentialError, match=words):
            credential_files.read(tmp_path / name)


@pytest.mark.parametrize(
    "change",
    [
        {"quakegrid_credential": 2},
        {"cluster": "../lab"},
        {"name": "a b"},
        {"key": None},
        {"dbserver": "master"},
        {"dbserver": ":1908"},
        {"broker": "master:x"},
        {"broker": "master:99999"},
        {"end_time": "tomorrow"},
        {"end_time": "2030-01-01T00:00:00"},
    ],
)
def test_damaged_file_is_refused(tmp_path: Path, change: dict[str, object]) -> None:
    """The words do not show what is in it."""
    path = tmp_path / "anna.credential"
    credential_files.write(path, make())
    path.write_text(json.dumps(json.loads(path.read_text()) | change))

    with pytest.raises(
        errors.CredentialError, match="is not a credential of QuakeGrid, or is damaged"
    ) as found:
        credential_files.read(path)

    assert KEY.decode() not in str(found.value)


@pytest.mark.parametrize("text", ["", "[]", "{}", "x" * 100, "\0", '{"quakegrid_credential": 1}'])
def test_other_file_is_refused(tmp_path: Path, text: str) -> None:
    """Whatever is in it."""
    path = tmp_path / "anna.credential"
    path.touch(mode=0o600)
    path.write_text(text)

    with pytest.raises(errors.CredentialError, match="is not a credential"):
        credential_files.read(path)


def test_credential_that_has_ended_is_refused() -> None:
    """By the clock of this machine, before anybody is asked."""
    make().check(END - datetime.timedelta(seconds=1))

    with pytest.raises(errors.CredentialError, match="ended on 2030-01-01; ask an admin"):
        make().check(END)


def test_login_replaces_what_was_there(environ: dict[str, str]) -> None:
    """Only this user can read it, and nothing else is left."""
    credential_files.put(make(name="ben"), environ)

    path = credential_files.put(make(), environ)

    assert credential_files.only(environ) == make()
    assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    assert [each.name for each in path.parent.iterdir()] == ["lab.json"]


def test_login_does_not_follow_a_link(environ: dict[str, str], tmp_path: Path) -> None:
    """That somebody put in its place."""
    place = credential_files.folder(environ)
    place.mkdir(parents=True)
    target = tmp_path / "target"
    target.write_text("mine")
    (place / "lab.json").symlink_to(target)

    credential_files.put(make(), environ)

    assert target.read_text() == "mine"
    assert not (place / "lab.json").is_symlink()


def test_command_uses_the_cluster_that_is_named(environ: dict[str, str]) -> None:
    """On the command line, else in the environment; else none."""
    credential_files.put(make(), environ)
    credential_files.put(make("hall"), environ)

    assert credential_files.names(environ) == ["hall", "lab"]
    assert credential_files.chosen("lab", environ | {credential_files.CHOICE: "hall"}) == make()
    assert credential_files.chosen("", environ | {credential_files.CHOICE: "hall"}) == make("hall")
    assert credential_files.chosen("", environ) is None


def test_user_of_several_clusters_says_which(environ: dict[str, str]) -> None:
    """Of none, nothing is asked."""
    assert credential_files.only(environ) is None
    credential_files.put(make(), environ)
    assert credential_files.only(environ) == make()
    credential_files.put(make("hall"), environ)

    with pytest.raises(errors.UsageError, match="you have logged in to hall, lab; say which you mean"):
        credential_files.only(environ)


@pytest.mark.parametrize("name", ["hall", "../../lab", "lab.json"])
def test_unknown_cluster_is_refused(environ: dict[str, str], name: str) -> None:
    """Also one that is a path."""
    credential_files.put(make(), environ)

    for call in (credential_files.chosen, credential_files.remove):
        with pytest.raises(errors.CredentialError, match=r"you have logged in to lab\)"):
            call(name, environ)


def test_removed_credential_is_gone(environ: dict[str, str]) -> None:
    """Then one has logged in to none."""
    credential_files.put(make(), environ)

    credential_files.remove("lab", environ)

    with pytest.raises(errors.CredentialError, match=r"you have logged in to none\)"):
        credential_files.chosen("lab", environ)


def test_settings_of_a_credential_are_those_of_its_cluster(tmp_path: Path) -> None:
    """And nothing that this machine's files say of another one."""
    (tmp_path / "openquake.cfg").write_text("[dbserver]\nhost = elsewhere\nauthkey = another-secret\n")

    settings = config.settings_of(make(), tmp_path)

    assert (settings.dbserver_address, settings.broker_address) == ("master:1908", "10.0.0.1:1911")
    assert (settings.authkey, settings.proof, settings.user_name) == ("", make().proof, "anna")
    assert settings.paths == ()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_files_and_folders_of_other_users_are_refused(environ: dict[str, str], tmp_path: Path) -> None:
    """Their owner could change what a command trusts."""
    path = tmp_path / "anna.credential"
    credential_files.write(path, make())
    os.chown(path, 65534, 65534)
    place = credential_files.folder(environ)
    place.mkdir(parents=True)
    os.chown(place, 65534, 65534)

    with pytest.raises(errors.CredentialError, match="belongs to another user"):
        credential_files.read(path)
    with pytest.raises(errors.CredentialError, match="belongs to another user"):
        credential_files.put(make(), environ)

    assert list(place.iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_root_reads_what_belongs_to_the_owner_of_a_folder(tmp_path: Path) -> None:
    """`install` runs as root, and the certificate of a node is the agent's."""
    path = node_files.path_of(tmp_path)
    path.write_text("{}")
    path.chmod(0o600)
    os.chown(path, 65534, 65534)

    with pytest.raises(errors.CredentialError, match="belongs to another user"):
        node_files.read(tmp_path)
    os.chown(tmp_path, 65534, 65534)
    with pytest.raises(errors.CredentialError, match="is damaged"):  # it was read
        node_files.read(tmp_path)
