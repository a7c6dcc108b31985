"""The authkey of a file is replaced, and services take it from there."""

from __future__ import annotations

import datetime
import json
import logging
import os
import stat
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from quakegrid import errors
from quakegrid.access.proofs import ClusterKeys
from quakegrid.cli.people import keys as key_commands
from quakegrid.clients.key_watch import KeyWatch
from quakegrid.install import key_rotation
from quakegrid.settings import authkeys, config, keyless
from quakegrid.settings.config import Settings
from quakegrid.transport import credentials

FIRST = "the-first-key-of-a-cluster-53k"
SECOND = "the-second-key-of-a-cluster-86q"
TEXT = f"""; of our cluster
[dbserver]
host = 127.0.0.1
# the secret
authkey = {FIRST}
port = 1234

[zworkers]
ctrl_port = 1909
"""
UNTIL = datetime.datetime(2030, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The one file of settings."""
    found = tmp_path / "openquake.cfg"
    found.write_text(TEXT)
    found.chmod(0o640)
    monkeypatch.setenv("OQ_CONFIG_FILE", str(found))
    monkeypatch.setenv(config.ONLY_CONFIG, "1")
    monkeypatch.setenv("QUAKEGRID_STATE_DIR", str(tmp_path / "state"))
    return found


def read() -> Settings:
    """What the file says."""
    return config.load_settings()


def watch_of(settings: Settings) -> KeyWatch:
    """What a service has that began with these settings."""
    return KeyWatch(settings, "the service")


def test_file_keeps_everything_but_the_key(path: Path) -> None:
    """Comments, other values, mode and owner; nothing is left beside it."""
    owner = (path.stat().st_uid, path.stat().st_gid)

    key_rotation.rotate(path, FIRST, SECOND, UNTIL)

    assert path.read_text() == TEXT.replace(FIRST, SECOND).replace(
        "port = 1234\n",
        f"port = 1234\nold_authkey = {FIRST}\nold_authkey_until = 2030-01-02T03:04:05+00:00\n",
    )
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert (path.stat().st_uid, path.stat().st_gid) == owner
    assert [each.name for each in path.parent.iterdir()] == ["openquake.cfg"]
    found = read()
    assert (found.authkey, found.old_authkey, found.old_authkey_until_s) == (SECOND, FIRST, UNTIL.timestamp())
    assert FIRST not in repr(found)
    assert SECOND not in repr(found)
    assert "key = " not in keyless.read_text(path)


def test_link_stays_a_link(path: Path) -> None:
    """To the file that is replaced; a second rotation replaces the old key, too."""
    link = path.parent / "link.cfg"
    link.symlink_to(path)

    key_rotation.rotate(link, FIRST, SECOND, UNTIL)
    key_rotation.rotate(link, SECOND, FIRST, UNTIL + datetime.timedelta(days=1))

    assert link.is_symlink()
    found = read()
    assert (found.authkey, found.old_authkey, found.old_authkey_until_s) == (
        FIRST,
        SECOND,
        UNTIL.timestamp() + 86400,
    )
    assert path.read_text().count("authkey") == 3


def test_file_that_somebody_else_has_changed_is_left_alone(path: Path) -> None:
    """The key that they put there would be lost."""
    with pytest.raises(errors.SettingsError, match="somebody else changes"):
        key_rotation.rotate(path, SECOND, FIRST, UNTIL)
    with pytest.raises(errors.SettingsError, match="as the user whose file it is, or as root"):
        key_rotation.rotate(path.parent / "none.cfg", FIRST, SECOND, UNTIL)

    assert path.read_text() == TEXT


def test_failure_in_the_middle_leaves_the_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as a full disk."""

    def fail(_fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(errors.SettingsError, match="No space left"):
        key_rotation.rotate(path, FIRST, SECOND, UNTIL)

    assert path.read_text() == TEXT
    assert [each.name for each in path.parent.iterdir()] == ["openquake.cfg"]


@pytest.mark.parametrize("value", ["2030-01-02", "soon", "2030-01-02T03:04:05"])
def test_end_of_the_old_key_is_a_time_with_its_zone(path: Path, value: str) -> None:
    """A time without would be another one on each machine."""
    path.write_text(TEXT.replace("port = 1234\n", f"old_authkey = {SECOND}\nold_authkey_until = {value}\n"))
    with pytest.raises(errors.SettingsError, match="old_authkey_until"):
        read()


def test_service_takes_the_keys_of_the_file(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Once after each change; the log tells fingerprints only."""
    caplog.set_level(logging.INFO)
    settings = read()
    watch = watch_of(settings)
    watch.look()
    assert settings.keyring is not None
    assert settings.keyring.keys == ClusterKeys(FIRST)

    key_rotation.rotate(path, FIRST, SECOND, UNTIL)
    watch.look()
    watch.look()

    assert settings.keyring.keys == ClusterKeys(SECOND, FIRST, UNTIL.timestamp())
    assert settings.current_authkey == SECOND
    assert settings.proof is settings.keyring
    assert caplog.text.count("authkey_changed fingerprint=" + credentials.fingerprint(SECOND)) == 1
    assert FIRST not in caplog.text
    assert SECOND not in caplog.text

    path.write_text(TEXT.replace(FIRST, SECOND))
    watch.look()
    assert settings.keyring.keys == ClusterKeys(SECOND)
    assert caplog.text.count("old_authkey_changed until_s=0") == 1


@pytest.mark.parametrize(
    ("text", "mode", "match"),
    [
        (TEXT.replace(FIRST, "short"), 0o600, "is shorter than"),
        (TEXT.replace(FIRST, ""), 0o600, "has no authkey"),
        ("[dbserver\n", 0o600, "not a valid configuration"),
    ],
)
def test_service_keeps_its_key_while_the_file_gives_no_good_one(
    path: Path, text: str, mode: int, match: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It says why, once, and takes the next good one."""
    settings = read()
    watch = watch_of(settings)
    watch.look()
    path.write_text(text)
    path.chmod(mode)

    for _ in range(3):
        watch.look()

    assert settings.current_authkey == FIRST
    assert caplog.text.count("authkey_not_read_again") == 1
    assert match in caplog.text
    path.write_text(TEXT.replace(FIRST, SECOND))
    watch.look()
    assert settings.current_authkey == SECOND


def test_commands_say_what_is_to_do(path: Path) -> None:
    """The key itself is never printed, and two old keys at once are refused."""
    runner = CliRunner()
    refused = runner.invoke(key_commands.key, ["rotate", "--hours", "5"])
    assert refused.exit_code == 2
    assert "24 hours" in refused.output

    done = runner.invoke(key_commands.key, ["rotate"])
    assert done.exit_code == 0, done.output
    found = read()
    assert found.old_authkey == FIRST
    assert not authkeys.is_weak(found.authkey)
    assert 167.9 * 3600 < found.old_authkey_until_s - time.time() <= 168 * 3600
    for words in ("`quakegrid user renew NAME`", "copy authkey, old_authkey", "calculations go on"):
        assert words in done.output
    status = json.loads(runner.invoke(key_commands.key, ["status", "--output", "json"]).stdout)
    assert status["fingerprint"] == credentials.fingerprint(found.authkey)
    assert status["old_fingerprint"] == credentials.fingerprint(FIRST)

    again = runner.invoke(key_commands.key, ["rotate"])
    assert isinstance(again.exception, errors.StateError)
    assert "--hours 0" in str(again.exception)
    assert read().authkey == found.authkey

    ended = runner.invoke(key_commands.key, ["rotate", "--hours", "0"])
    assert ended.exit_code == 0
    assert read().old_authkey == found.authkey
    assert read().old_authkey_until_s <= time.time()
    shown = runner.invoke(key_commands.key, ["status"])
    assert "ended" in shown.output
    for said in (done, ended, shown):
        assert found.authkey not in said.output
        assert FIRST not in said.output


def test_commands_need_the_file(path: Path) -> None:
    """Where there is none, they say where to go."""
    path.write_text("[dbserver]\nhost = 127.0.0.1\n")

    result = CliRunner().invoke(key_commands.key, ["status"])

    assert isinstance(result.exception, errors.StateError)
    assert "on the master" in str(result.exception)
