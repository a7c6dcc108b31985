"""What people read fits a terminal of 80 columns, whatever the names and reasons in it."""

from __future__ import annotations

import ast
import dataclasses
import datetime
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from quakegrid import errors
from quakegrid.cli import __main__ as quakegrid_command
from quakegrid.cli import jobs, status
from quakegrid.cli.following import wait
from quakegrid.cli.results import compare
from quakegrid.cli.results.compare import ComparedJob, Comparison
from quakegrid.cli.views import render, widths
from quakegrid.cli.workers import debug
from quakegrid.clients.broker import FleetStatus, LeftOut, NodeStatus, SessionStatus, TaskTotals
from quakegrid.comparison.parameters import ParameterDifference
from quakegrid.comparison.tables import Likeness, TableDifference
from quakegrid.doctor.core_visits import NodeCores
from quakegrid.doctor.facts import Versions
from quakegrid.jobs.states import JobState
from quakegrid.services.agent.agentctl import __main__ as agentctl_command
from quakegrid.services.agent.agentctl import commands as agentctl
from tests.unit.cli.test_cli_jobs import START, make_job

ROOT = Path(__file__).parents[4]
WORDS = "a reason that somebody has written with very many words, " * 4
LONG = dataclasses.replace(
    make_job(123_456, JobState.FAILED),
    description=WORDS,
    state_reason=WORDS,
    stop_time=START + datetime.timedelta(seconds=5),
)
NODE = NodeStatus(
    "node-17.cluster.example.org",
    "node-17",
    False,
    128,
    128,
    0,
    WORDS,
    (LeftOut(7, (8, 9), (WORDS,)),),
)
SESSION = SessionStatus(
    7, (123_456, 123_457), "anna", "submitted", "n1", 128, 1912, 10**6, 128, 10**6, 0, 0, 0, 0.0, 1.0, 0, 0, 0
)
FLEET = FleetStatus((NODE,), (dataclasses.replace(SESSION, wait_reason=WORDS),), (), TaskTotals(), "1")
RESULTS = [
    TableDifference("hazard_curve-quantile_0.84-SA(0.1)", Likeness.DIFFERS, 10**8, 10**8, 0.123, WORDS),
    TableDifference("avg_losses-stats-structural-quantile-0.84", Likeness.ONLY_LEFT),
]
SIDE = ComparedJob(123_456, "complete", "event_based_damage", "anna", 5e5, 12_345.6)
COMPARISON = Comparison(
    SIDE,
    SIDE,
    False,
    [ParameterDifference("intensity_measure_types_and_levels", WORDS * 4, None)],
    [ParameterDifference("a/very/long/name.xml", "123456789 bytes, SHA-256 " + "a" * 16, "gone")],
    RESULTS,
    ["a-large-result-" * 3],
    {"inputs": WORDS},
)
CORES = NodeCores(
    NODE.host, NODE.node, 128, 128, 0.0123, 12.3, True, Versions("3.11.7", "1.0.0", "3.26.2", "2.2.6")
)
AGENT: Any = SimpleNamespace(
    node=NODE.host,
    service="stopped",
    core_count=128,
    workers=range(17),
    is_watched=False,
    drivers=[SimpleNamespace(is_detached=True)] * 100,
    master="the-master-of-all.cluster.example.org:1911",
    template_state=f"failed: {WORDS}",
)


def refuse(*_args: object, **_options: object) -> None:
    """Fail with many words."""
    raise errors.PeerUnreachableError(WORDS)


def agentctl_fails() -> None:
    """The whole command."""
    with pytest.raises(SystemExit):
        agentctl_command.main()


PRINTED: dict[str, Callable[[], object]] = {
    "talk": lambda: render.say(f"{WORDS}\n  {WORDS}"),
    "record": lambda: render.print_record("table", {"template": WORDS, "cores": 2}),
    "error": lambda: quakegrid_command._fail(WORDS, 1),
    "jobs compare": lambda: compare._print(COMPARISON, has_results=True),
    "jobs watch": lambda: jobs._print_change(START, 123_456, "executing -> failed", LONG),
    "jobs wait": lambda: wait._print(LONG, is_json=False),
    "status": lambda: (status.print_nodes("table", FLEET), status._print_waits(FLEET)),
    "workers debug": lambda: debug.print_nodes([CORES], [], "table"),
    "agentctl": lambda: agentctl._print("table", AGENT),
    "agentctl stop": lambda: (
        agentctl.CountTeller().tell(AGENT),
        agentctl._finish(SimpleNamespace(status=lambda: AGENT), "table", is_waiting=False),
    ),
    "agentctl, an error": agentctl_fails,
}


@pytest.mark.parametrize("name", PRINTED)
def test_lines_fit_a_terminal(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of results, and of what is said beside them."""
    monkeypatch.setattr(widths, "of_output", lambda: 80)
    monkeypatch.setattr(widths, "of_talk", lambda: 80)
    monkeypatch.setattr(agentctl_command.cli, "main", refuse)

    PRINTED[name]()

    said = capsys.readouterr()
    lines = [*said.out.splitlines(), *said.err.splitlines()]
    assert lines
    assert [line for line in lines if len(line) > 80] == []


def test_all_talk_is_folded() -> None:
    """No command writes to stderr by itself; bars and their lines fit the terminal by other means."""
    found = []
    for folder in ("quakegrid/cli", "quakegrid/services/agent/agentctl"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            calls = (each for each in ast.walk(ast.parse(path.read_text())) if isinstance(each, ast.Call))
            found += [
                f"{path.relative_to(ROOT)}:{call.lineno}"
                for call in calls
                if isinstance(call.func, ast.Attribute)
                and call.func.attr in ("echo", "secho")
                and any(keyword.arg == "err" for keyword in call.keywords)
            ]

    assert [each.partition(":")[0] for each in found] == [
        "quakegrid/cli/views/progress.py",
        "quakegrid/cli/views/progress.py",
        "quakegrid/cli/views/render.py",
    ]
