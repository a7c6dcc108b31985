"""Which authkeys are taken for secrets."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from quakegrid import errors
from quakegrid.settings import authkeys, config


@pytest.mark.parametrize(
    "key",
    [
        "",
        "x",
        "password",
        "aaaaaaaaaaaaaaaa",
        "1234567890123456",
        "changemechangeme",
        "openquake-secret",
        "PasswordPassword1",
        "abcdefghijklmnopqrstuvwxyz",
        "quakegrid-cluster-1234",
        "xyzxyzxyzxyzxyzxyz",
        "1122334455667788",
        "1357913579135791",
        "1212121221212121",
    ],
)
def test_key_that_anybody_would_try_is_guessable(key: str) -> None:
    """Words of documents, sequences, repeated parts."""
    assert authkeys.is_guessable(key)


@pytest.mark.parametrize(
    "key", ["sixteen-letters!", "correct horse battery staple", "the-real-one-of-this-cluster"]
)
def test_key_with_enough_in_it_is_not_guessable(key: str) -> None:
    """Whether people remember it is their affair."""
    assert not authkeys.is_guessable(key)


def test_random_keys_are_never_guessable() -> None:
    """Those that we make, and those that others make of digits only in base 16."""
    assert not any(authkeys.is_weak(authkeys.new_authkey()) for _ in range(1000))
    assert not any(authkeys.is_weak(os.urandom(16).hex()) for _ in range(1000))


def test_random_digits_are_hardly_ever_guessable() -> None:
    """They have 53 bits, whatever of them happens to look like a sequence."""
    digits = random.Random(7)
    keys = ["".join(digits.choices("0123456789", k=16)) for _ in range(2000)]

    assert sum(map(authkeys.is_weak, keys)) < 10


def test_key_that_all_may_read_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The group may: an installation gives it to the services' group."""
    monkeypatch.setattr(authkeys, "_is_reachable", lambda *_: True)
    path = tmp_path / "openquake.cfg"
    path.write_text(f"[dbserver]\nauthkey = {authkeys.new_authkey()}\n")
    said = {}
    for mode in (0o600, 0o640, 0o644):
        path.chmod(mode)
        said[mode] = config.load_settings(tmp_path, {"OQ_CONFIG_FILE": str(path)}).warnings

    assert (said[0o600], said[0o640]) == ((), ())
    (warning,) = said[0o644]
    assert f"all users of this machine can read or change {path}" in warning
    assert f"chmod o= {path}" in warning


def test_key_in_a_private_folder_is_closed(tmp_path: Path) -> None:
    """Nobody else gets to the file, whatever its mode."""
    path = tmp_path / "private" / "openquake.cfg"
    path.parent.mkdir(mode=0o700)
    path.touch()
    path.chmod(0o666)

    assert authkeys.doubts(authkeys.new_authkey(), path) == []


def test_guessable_key_is_told_and_starts_no_service(tmp_path: Path) -> None:
    """Other users of the machine can guess it too."""
    path = tmp_path / "openquake.cfg"
    path.touch(0o600)
    path.write_text("[dbserver]\nauthkey = 1234567890123456\n")
    settings = config.load_settings(tmp_path, {"OQ_CONFIG_FILE": str(path)})

    with pytest.raises(errors.SettingsError, match="can be guessed; run `quakegrid authkey`"):
        config.check_authkey(settings, "the broker")
    assert any("can be guessed" in warning for warning in settings.warnings)


@pytest.fixture
def key_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file with a good key, where everybody gets to it."""
    monkeypatch.setattr(authkeys, "_is_reachable", lambda *_: True)
    path = tmp_path / "openquake.cfg"
    path.write_text(f"[dbserver]\nauthkey = {authkeys.new_authkey()}\n")
    return path


@pytest.mark.parametrize(
    ("mode", "is_own_group", "remedy"),
    [
        (0o600, False, ""),
        (0o400, False, ""),
        (0o640, True, ""),
        (0o660, True, ""),
        (0o640, False, "`chmod g= "),
        (0o620, False, "`chgrp "),
        (0o644, True, "`chmod o= "),
        (0o602, True, "`chmod o= "),
    ],
)
def test_service_refuses_a_key_file_that_others_can_read(
    key_file: Path, mode: int, is_own_group: bool, remedy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own group may read it; the words say what to do."""
    key_file.chmod(mode)
    own = key_file.stat().st_gid
    monkeypatch.setattr("os.getegid", lambda: own if is_own_group else own + 12345)
    settings = config.load_settings(key_file.parent, {"OQ_CONFIG_FILE": str(key_file)})

    if remedy:
        with pytest.raises(errors.SettingsError, match="refuses to start") as refused:
            config.check_authkey(settings, "the agent", {})
        assert remedy in str(refused.value)
        assert str(key_file) in str(refused.value)
        config.check_authkey(settings, "the agent", {config.ALLOW_WIDE_KEY: "1"})
    else:
        config.check_authkey(settings, "the agent", {})


def test_wide_settings_without_a_key_are_fine(key_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As upstream installs them: the key is in a file of its own, and only that one counts."""
    wide = key_file.parent / "site.cfg"
    wide.write_text("[dbserver]\nauthkey = changeme\n[distribution]\noq_distribute = zmq\n")
    wide.chmod(0o644)
    key_file.chmod(0o600)
    monkeypatch.setattr(config, "config_paths", lambda *_: [wide, key_file])

    settings = config.load_settings(key_file.parent)

    assert settings.authkey_path == key_file
    config.check_authkey(settings, "the agent", {})


def test_group_without_a_way_to_the_file_is_no_reader(tmp_path: Path) -> None:
    """A folder that is closed to it keeps it out."""
    path = tmp_path / "private" / "openquake.cfg"
    path.parent.mkdir(mode=0o700)
    path.touch()
    path.chmod(0o640)

    assert authkeys.too_wide(path, path.stat().st_gid + 1) == ""
    assert authkeys.too_wide(tmp_path / "missing", 0) == ""


def test_group_that_has_no_name_is_told_by_number(key_file: Path) -> None:
    """It may be of another machine."""
    key_file.chmod(0o640)

    assert "`chgrp 987654 " in authkeys.too_wide(key_file, 987654)
