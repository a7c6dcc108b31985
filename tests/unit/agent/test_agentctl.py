"""The command line `agentctl` as a whole."""

from __future__ import annotations

import sys

import click
import pytest

from quakegrid.services.agent.agentctl import __main__ as command_line


@pytest.mark.parametrize(("value", "wanted"), [("1", False), ("", None)])
def test_colours_are_left_out_where_they_are_not_wanted(
    value: str, wanted: bool | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By NO_COLOR, as `quakegrid` does; otherwise the terminal decides."""
    seen = []
    command = click.Command("look", callback=lambda: seen.append(click.get_current_context().color))
    monkeypatch.setitem(command_line.cli.commands, "look", command)
    monkeypatch.setattr(sys, "argv", ["agentctl", "look"])
    monkeypatch.setenv("NO_COLOR", value)
    monkeypatch.delenv("TERM", raising=False)

    with pytest.raises(SystemExit) as ended:
        command_line.main()

    assert ended.value.code == 0
    assert seen == [wanted]
