"""The command line's start: what it imports, what it lists, how it refuses."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module

import click
import pytest

from quakegrid import errors
from quakegrid.cli import __main__ as command_line

HEAVY = ("grpc", "rich", "numpy", "zmq", "cryptography", "psutil", "openquake", "quakegrid.settings.config")


@pytest.mark.parametrize("option", ["--help", "--version"])
def test_start_imports_nothing_heavy(option: str) -> None:
    """Help and version load click and nothing that takes time."""
    code = (
        "import sys; from quakegrid.cli.__main__ import run_command_line as go; code = go();"
        f"print([name for name in {HEAVY!r} if name in sys.modules], code)"
    )

    done = subprocess.run([sys.executable, "-c", code, option], capture_output=True, text=True, check=True)

    assert done.stdout.splitlines()[-1] == "[] 0"


def test_run_imports_neither_grpc_nor_rich_before_the_driver() -> None:
    """The module of `run` is as light as the start."""
    code = (
        "import sys, quakegrid.cli.run, quakegrid.settings.config, quakegrid.machine.service_files;"
        "print([name for name in ('grpc', 'rich', 'numpy', 'zmq', 'cryptography') if name in sys.modules])"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("name", list(command_line.ENTRIES))
def test_table_entry_names_a_command_that_begins_with_its_short_help(name: str) -> None:
    """The table says what the command's own help says."""
    entry = command_line.ENTRIES[name]

    command = getattr(import_module(f"quakegrid.cli.{entry.module}"), entry.attribute)

    assert isinstance(command, click.Command)
    assert command.name == name
    assert (command.help or "").startswith(entry.short_help)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.PeerUnreachableError("gone"), 3),
        (errors.SettingsError("wrong"), 2),
        (errors.NotFoundError("no job 7"), 1),
        (KeyboardInterrupt(), 4),
        (OSError(28, "No space left on device", "/full/db"), 1),
    ],
)
def test_error_becomes_one_line_and_an_exit_code(
    error: BaseException, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever a command raises on purpose ends as one line on stderr."""

    def fail() -> None:
        raise error

    entry = command_line.Entry("here", "fail", "Fail.")
    monkeypatch.setitem(command_line.ENTRIES, "fail", entry)
    monkeypatch.setattr(
        command_line.CommandTable, "get_command", lambda *_: click.Command("fail", callback=fail)
    )
    monkeypatch.setattr(sys, "argv", ["quakegrid", "fail"])

    found = command_line.run_command_line()

    assert found == code
    said = capsys.readouterr().err.strip()
    assert said.startswith("quakegrid: ")
    assert len(said.splitlines()) == 1


def test_unknown_command_is_a_usage_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A misspelt command ends with 2."""
    monkeypatch.setattr(sys, "argv", ["quakegrid", "upp"])

    assert command_line.run_command_line() == 2
    assert "upp" in capsys.readouterr().err
