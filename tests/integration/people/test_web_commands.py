"""The commands of logins: passwords, tokens for scripts, links, and the cluster's certificate."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography import x509

from quakegrid import testing
from quakegrid.access import web_tokens
from quakegrid.cli import __main__ as command_line
from quakegrid.cli.people import web
from quakegrid.machine import service_files
from quakegrid.settings import config
from quakegrid.settings.config import Settings
from quakegrid.transport import certificates, credentials
from quakegrid.transport.keys import web_token_keys
from tests.support.dbservers import LocalDbServer

# What a command said on stdout and stderr, and its exit code.
Said = tuple[str, str, int]
Master = Callable[..., Said]
PASSWORD = "correct horse battery"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings of a cluster that this user's commands ask."""
    (tmp_path / "home").mkdir()
    path: Path = testing.write_cluster_config(tmp_path / "state", {})
    return config.load_settings(path.parent, {"OQ_CONFIG_FILE": str(path)})


@pytest.fixture
def master(
    dbserver: LocalDbServer,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> Iterator[Master]:
    """Runs the command line in this process, as somebody who can read the authkey."""
    for name in ("HOME", "XDG_CONFIG_HOME", "XDG_STATE_HOME"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    monkeypatch.setattr(sys, "prefix", sys.base_prefix)  # no openquake.cfg of this environment
    monkeypatch.chdir(tmp_path)
    opened: list[str] = []
    monkeypatch.setattr(web.webbrowser, "open", opened.append)

    def run(*args: str, types: str = "") -> Said:
        monkeypatch.setattr(sys, "stdin", io.StringIO(types))
        state_dir = str(dbserver.settings.state_dir)
        monkeypatch.setattr(sys, "argv", ["quakegrid", "--state-dir", state_dir, *args])
        code = command_line.run_command_line()
        said = capsys.readouterr()
        return said.out, said.err, code

    record = service_files.write(dbserver.settings, "dbserver", dbserver.settings.dbserver_address)
    yield run
    record.unlink()
    assert opened == [line for line in opened if line.startswith("http")]


def test_password_is_set_from_standard_input(master: Master) -> None:
    """For somebody new with a role, then for the same person; it is taken away by `revoke`."""
    added = master("user", "add", "anna", "--role", "operator", "--password", types=f"{PASSWORD}\n")
    changed = master("user", "password", "anna", types="another password\n")
    listed = master("user", "list")[0].splitlines()[-1].split()
    none = master("user", "password", "anna", "--none")
    again = master("user", "password", "anna", types=f"{PASSWORD}\n")
    revoked = master("user", "revoke", "anna")

    assert [code for _, _, code in (added, changed, none, again, revoked)] == [0] * 5
    assert listed[:4] == ["anna", "operator", "password", "valid"]
    assert "anna (operator) logs in at the web pages with the new password" in added[1]
    assert "anna has no password any more" in none[1]
    assert "revoked: the password of anna" in revoked[1]
    assert not list(Path().glob("*.credential"))


@pytest.mark.parametrize(
    ("types", "words"),
    [("", "no password came"), ("short\n", "8 to 256 characters"), ("\n", "no password came")],
)
def test_password_that_is_none_is_refused(master: Master, types: str, words: str) -> None:
    """With words; nothing is stored."""
    _, err, code = master("user", "add", "anna", "--password", types=types)

    assert code == 2
    assert words in err
    assert "nobody here is called anna" in master("user", "revoke", "anna")[1]


def test_token_for_scripts_is_made_listed_and_revoked(master: Master, settings: Settings) -> None:
    """Alone on standard output, so that a script can take it."""
    out, err, code = master("token", "create", "--web", "--label", "nightly", "--hours", "2")
    assert code == 0, err
    token = out.strip()
    assert web_tokens.is_genuine(token, web_token_keys.known_keys(settings.authkey, 0.0))
    assert token not in err

    (listed,) = json.loads(master("token", "list", "--web", "--output", "json")[0])
    assert (listed["label"], listed["kind"], listed["state"]) == ("nightly", "token", "valid")
    assert listed["id"] == web_tokens.id_of(token)

    assert "revoked: token" in master("token", "revoke", "--web", listed["short_id"])[1]
    (listed,) = json.loads(master("token", "list", "--web", "--output", "json")[0])
    assert listed["state"] == "revoked"


def test_token_says_what_it_is_for(master: Master) -> None:
    """One of both, and those for nodes are short."""
    assert "--node or --web" in master("token", "create")[1]
    assert "--node or --web" in master("token", "create", "--node", "--web")[1]
    assert "at most 720 hours" in master("token", "create", "--node", "--hours", "721")[1]


def test_link_is_printed(master: Master, settings: Settings) -> None:
    """Where the pages are, or where one says they are."""
    out, err, code = master("web", "open", "--no-browser")
    other, _, _ = master("web", "open", "--address", "https://quakes.example/")

    assert code == 0, err
    assert out.startswith(f"http://127.0.0.1:{settings.web_port}/login?token=qgw_")
    assert other.startswith("https://quakes.example/login?token=qgw_")


def test_ca_is_printed(master: Master, settings: Settings) -> None:
    """By which programs know the certificate of the web service, for years."""
    out, err, code = master("web", "ca")

    assert code == 0, err
    (found,) = x509.load_pem_x509_certificates(out.encode())
    assert (found.not_valid_after_utc - found.not_valid_before_utc).days > 3600
    own = credentials.authority(settings.authkey).public_key
    assert certificates.public_key_of(out.encode()) == own
