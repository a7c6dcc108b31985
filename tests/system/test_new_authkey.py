"""`deploy/new_authkey.sh` makes the secret of docker-compose.yml."""

from __future__ import annotations

import configparser
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from quakegrid.settings.config import MIN_AUTHKEY_LENGTH
from tests.system.compose import ROOT


@pytest.fixture
def script(tmp_path: Path) -> Path:
    """The script in a clone that has nothing else."""
    (tmp_path / "deploy").mkdir()
    return Path(shutil.copy2(ROOT / "deploy" / "new_authkey.sh", tmp_path / "deploy"))


def test_secret_is_strong_and_behind_a_folder_that_is_ours(script: Path) -> None:
    """The file itself is for the containers' user."""
    subprocess.run(["sh", script], check=True, capture_output=True)

    secret = script.parent / "secrets" / "authkey"
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(secret)
    assert len(parser["dbserver"]["authkey"]) >= MIN_AUTHKEY_LENGTH
    assert stat.S_IMODE(secret.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE(secret.stat().st_mode) == 0o644
    env = script.parents[1] / ".env"
    assert env.read_text() == "QUAKEGRID_AUTHKEY_FILE=./deploy/secrets/authkey\n"


def test_second_run_changes_nothing(script: Path) -> None:
    """A running cluster keeps its key."""
    subprocess.run(["sh", script], check=True, capture_output=True)
    secret, env = script.parent / "secrets" / "authkey", script.parents[1] / ".env"
    before = secret.read_text(), env.read_text()

    again = subprocess.run(["sh", script], check=True, capture_output=True, text=True)

    assert "is there already" in again.stdout
    assert (secret.read_text(), env.read_text()) == before
