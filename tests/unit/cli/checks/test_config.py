"""The commands `config show` and `config check`, with files of a test."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from quakegrid import errors
from quakegrid.cli import __main__ as command_line

GOOD = "[dbserver]\nhost = 10.0.0.1\nauthkey = kJ8sd7Hg5sLq0PzX2mNb\n[broker]\nmax_attempts = 5\n"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose openquake.cfg is the only one."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("OQ_CONFIG_FILE", str(tmp_path / "openquake.cfg"))
    monkeypatch.setenv("QUAKEGRID_ONLY_CONFIG", "1")
    write(tmp_path, GOOD)
    return tmp_path


def write(home: Path, text: str) -> None:
    """The settings of this test."""
    path = home / "openquake.cfg"
    path.write_text(text, encoding="utf-8")
    path.chmod(0o600)


def config(*args: str) -> Result:
    """Run the command."""
    result = CliRunner().invoke(command_line.cli, ["config", *args])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def test_show_tells_where_each_setting_comes_from(home: Path) -> None:
    """The file, or that it is a default; a secret is not shown."""
    rows = {(row["section"], row["name"]): row for row in json.loads(config("show", "--json").stdout)}

    assert rows["broker", "max_attempts"]["value"] == "5"
    assert rows["broker", "max_attempts"]["source"] == str(home / "openquake.cfg")
    assert rows["broker", "port"] == {
        "section": "broker",
        "name": "port",
        "value": "1911",
        "source": "default",
        "meaning": "the broker's port",
    }
    assert rows["dbserver", "authkey"]["value"] == "(set, not shown)"
    assert "kJ8sd7" not in config("show").stdout


def test_show_keeps_the_address_of_a_chat_to_itself(home: Path) -> None:
    """Whoever has it can write there."""
    write(home, GOOD + "[notify]\nurl = https://chat.example.org/hooks/Wq81xT\n")

    assert "[notify] url" in config("show").stdout
    assert "(set, not shown)" in config("show", "notify").stdout
    assert "Wq81xT" not in config("show").stdout + config("show", "--json").stdout


def test_show_keeps_the_command_of_notifications_to_itself(home: Path) -> None:
    """Its words may have a password."""
    write(home, GOOD + "[notify]\ncommand = curl -u me:Zt5hPw https://example.org\n")

    assert "(set, not shown)" in config("show", "notify").stdout
    assert "Zt5hPw" not in config("show").stdout + config("show", "--json").stdout
    assert "Zt5hPw" not in config("check").stdout


def test_show_takes_sections_and_keys(home: Path) -> None:
    """Or only what a file sets."""
    assert "[broker] port" in config("show", "broker").stdout
    assert "[dbserver]" not in config("show", "broker").stdout.replace(str(home), "")
    assert config("show", "--set", "--output", "quiet").stdout.splitlines() == [
        "[broker] max_attempts",
        "[dbserver] authkey",
        "[dbserver] host",
    ]
    with pytest.raises(errors.UsageError, match=r"no section or key brokr; is broker meant\?"):
        config("show", "brokr")


@pytest.mark.usefixtures("home")
def test_check_of_good_settings_is_fine() -> None:
    """With the files that were read."""
    done = config("check")

    assert done.exit_code == 0
    assert "these settings are fine" in done.stdout


def test_check_tells_all_mistakes(home: Path) -> None:
    """Not only the first; with the near name."""
    write(home, GOOD + "max_atempts = 3\nport = 99999\nplacement = sprad\n[brokr]\nport = 1\n")

    done = config("check", "--json")

    told = json.loads(done.stdout)
    assert done.exit_code == errors.EXIT_USAGE
    assert told["is_valid"] is False
    assert sorted(line.partition("[broker] ")[2] for line in told["errors"]) == [
        "has no key max_atempts; is max_attempts meant?",
        "placement = 'sprad' is not allowed; give spread or pack",
        "port = '99999' is not allowed; give a TCP port, 1 to 65535",
    ]
    assert told["warnings"] == ["[brokr] has no effect here; is [broker] meant?"]
    assert config("check").stdout.startswith("error    ")
    assert len(config("check", "--output", "quiet").stdout.splitlines()) == 3


@pytest.mark.usefixtures("home")
def test_check_takes_a_file_that_does_not_count_yet(tmp_path: Path) -> None:
    """Before it is put in its place."""
    other = tmp_path / "new.cfg"
    other.write_text("[web]\nprt = 8801\n", encoding="utf-8")

    done = config("check", str(other))

    assert done.exit_code == errors.EXIT_USAGE
    assert "[web] has no key prt; is port meant?" in done.stdout.replace("\n", " ")
