"""The command `certificate`, with a database in memory."""

from __future__ import annotations

import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner, Result

from quakegrid import errors
from quakegrid.access.proofs import Certified
from quakegrid.cli import __main__ as command_line
from quakegrid.cli import options
from quakegrid.cli.people import certificate

END_TIME = datetime.datetime(2030, 1, 1, tzinfo=datetime.UTC)
PROOF = Certified(b"ca", b"key", b"certificate")


class FakePeople:
    """Issues one credential after the other."""

    def __init__(self) -> None:
        self.lives: list[datetime.timedelta] = []

    def issue(self, _name: str, _role: object, life: datetime.timedelta) -> tuple[Any, Certified]:
        """For anybody."""
        self.lives.append(life)
        return SimpleNamespace(end_time=END_TIME), PROOF


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Those of a cluster, whose authkey this user has."""
    found = SimpleNamespace(credential=None, dbserver_address="10.0.0.1:1908", broker_address="10.0.0.1:1911")
    monkeypatch.setattr(options, "cluster_settings", lambda: found)
    return found


@pytest.fixture
def people(monkeypatch: pytest.MonkeyPatch, settings: SimpleNamespace) -> FakePeople:
    """What issues credentials."""
    del settings
    fake = FakePeople()
    database = SimpleNamespace(user_name="ann", close=lambda: None)
    monkeypatch.setattr(certificate, "DbClient", lambda _settings: database)
    monkeypatch.setattr(certificate, "PeopleClient", lambda _database: fake)
    return fake


def call(*args: object) -> Result:
    """Run the command; errors of ours come through."""
    result = CliRunner().invoke(command_line.cli, ["certificate", *map(str, args)])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def test_no_credential_is_issued_that_cannot_be_written(people: FakePeople, tmp_path: Path) -> None:
    """It would count, and nobody would have it."""
    (tmp_path / "file").touch()

    with pytest.raises(errors.UsageError, match="cannot be made"):
        call("--out", tmp_path / "file" / "certs")

    assert people.lives == []


def test_command_to_try_it_can_be_pasted(people: FakePeople, tmp_path: Path) -> None:
    """Also with spaces in the folder's name."""
    folder = tmp_path / "my certs"

    done = call("--out", folder)

    assert f"cd '{folder}'; grpcurl" in done.stdout
    assert people.lives == [datetime.timedelta(days=30)]
    assert (folder / "key.pem").read_bytes() == PROOF.key_pem


def test_credential_that_is_there_has_its_own_end(settings: SimpleNamespace, tmp_path: Path) -> None:
    """`--days` would say nothing, so it is refused."""
    settings.credential = SimpleNamespace(proof=PROOF, end_time=END_TIME)

    with pytest.raises(errors.UsageError, match="leave out --name, --role and --days"):
        call("--out", tmp_path / "certs", "--days", "90")

    assert call("--out", tmp_path / "certs").exit_code == 0
