"""The command `logs`, on files of a test."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner, Result

from quakegrid import errors
from quakegrid.cli import __main__ as command_line
from quakegrid.cli import options
from quakegrid.cli.logs import places


@pytest.fixture
def state_dir(tmp_path: Path) -> Path:
    """A machine with a log of its broker."""
    folder = tmp_path / "logs"
    folder.mkdir()
    (folder / "broker.log").write_text("".join(f"line {number}\n" for number in range(200)), encoding="utf-8")
    return tmp_path


def logs(state_dir: Path, *args: str) -> Result:
    """Run the command; errors of ours come through."""
    result = CliRunner().invoke(command_line.cli, ["--state-dir", str(state_dir), "logs", *args])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def test_last_lines_of_a_file_are_shown(state_dir: Path) -> None:
    """A hundred, or as many as are wanted."""
    assert logs(state_dir, "broker", "-n", "2").stdout == "line 198\nline 199\n"
    assert len(logs(state_dir, "broker").stdout.splitlines()) == 100
    first, _ = logs(state_dir, "broker", "-n", "2", "--json").stdout.splitlines()
    assert json.loads(first) == {"service": "broker", "node": "", "line": "line 198"}


def test_log_that_is_not_there_is_told(state_dir: Path) -> None:
    """With where it would be; a service that there is not is a usage error."""
    with pytest.raises(errors.NotFoundError, match=r"agent\.log is not there"):
        logs(state_dir, "agent")
    assert logs(state_dir, "brokr").exit_code == errors.EXIT_USAGE


def test_control_characters_of_a_log_do_not_reach_the_terminal(state_dir: Path) -> None:
    """Anybody who can write a line could else change what is seen."""
    (state_dir / "logs" / "agent.log").write_text("\x1b[2Jgone\n", encoding="utf-8")

    assert "\x1b" not in logs(state_dir, "agent").stdout


def test_other_nodes_show_the_log_of_their_agent_only(
    state_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For the others it is said where to look; a name that is misspelled gets the near one."""
    node = SimpleNamespace(host="10.0.0.2", node="node2", address="10.0.0.2:1909")
    status = SimpleNamespace(nodes=[node])
    broker = SimpleNamespace(status=lambda: status, close=lambda: None)
    seen = []

    def control(_settings: object, host: str) -> SimpleNamespace:
        seen.append(host)
        return SimpleNamespace(tail_log=lambda _count, *, follow: ["a", f"b{follow}"], close=lambda: None)

    monkeypatch.setattr(options, "cluster_settings", object)
    monkeypatch.setattr("quakegrid.clients.broker.BrokerClient", lambda _settings: broker)
    monkeypatch.setattr("quakegrid.clients.node_control.NodeControl", control)

    assert logs(state_dir, "agent", "--node", "node2").stdout == "a\nbFalse\n"
    assert seen == ["10.0.0.2"]
    with pytest.raises(errors.UsageError, match="on node2: `quakegrid logs broker`"):
        logs(state_dir, "broker", "--node", "node2")
    with pytest.raises(errors.NotFoundError, match=r"no node nod2; is node2 meant\?"):
        logs(state_dir, "agent", "--node", "nod2")


def test_commands_that_show_logs() -> None:
    """Of systemd, and of a file."""
    assert places.in_journal("web", 5, follow=True)[-2:] == ["--unit=quakegrid-web", "--follow"]
    assert "--follow" not in places.in_journal("web", 5, follow=False)
    assert places.in_file(Path("/a"), 5, follow=True) == ["tail", "-n", "5", "-F", "--", "/a"]
    assert places.in_file(Path("/a"), 5, follow=False) == ["tail", "-n", "5", "--", "/a"]
