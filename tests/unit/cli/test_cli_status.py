"""What `status` and `workers status` say of nodes."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from quakegrid.cli import status
from quakegrid.cli.views import render, widths
from quakegrid.clients.broker import FleetStatus, LeftOut, NodeStatus, SessionStatus, TaskTotals
from quakegrid.nodes.template_state import TemplateKind, TemplateState
from quakegrid.settings import config

LEFT_OUT = (
    LeftOut(100, (7, 8), ("numpy 1.26.4 there, 2.2.6 here",)),
    LeftOut(101, (), ("Python 3.12 there",)),
)
NODE = NodeStatus("10.0.0.3", "n3", True, 4, 0, 0, "warm", LEFT_OUT)
FLEET = FleetStatus((NODE,), (), (), TaskTotals(), "1")


def test_table_of_nodes_ends_with_who_is_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    """A line for each session, and how the node differs."""
    status.print_nodes("table", FLEET)

    assert capsys.readouterr().out.splitlines()[-2:] == [
        "node n3 is left out of job 7, job 8: numpy 1.26.4 there, 2.2.6 here",
        "node n3 is left out of session 101: Python 3.12 there",
    ]


def test_terminal_tells_whole_why_nodes_are_not_up(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The table is cut there, and what is to be checked is at the end; some nodes stand for all."""
    why = "its agent does not answer at 10.0.0.4:1909 (nothing listens there: check whether its agent runs)"
    down = [NodeStatus(f"10.0.0.{n}", f"n{n}", False, 4, 0, 0, why) for n in range(4, 12)]
    monkeypatch.setattr(widths, "of_output", lambda: 80)

    short = NodeStatus("10.0.0.2", "n2", False, 4, 0, 0, "unreachable")
    stopped = NodeStatus("10.0.0.1", "n1", True, 4, 0, 0, "a template that has much to say " * 5)

    status.print_nodes("table", dataclasses.replace(FLEET, nodes=(NODE, short, stopped, *down)))

    lines = capsys.readouterr().out.splitlines()
    assert not any(line.startswith(("node n1 is not up", "node n2 is not up")) for line in lines)
    first = lines.index("node n4 is not up: its agent does not answer at 10.0.0.4:1909 (nothing listens")
    assert lines[first + 1] == "  there: check whether its agent runs)"
    assert "3 more are not up" in lines


def test_terminal_that_has_room_tells_no_state_twice(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The table has it whole."""
    down = NodeStatus("10.0.0.4", "n4", False, 4, 0, 0, "its agent does not answer at 10.0.0.4:1909")
    monkeypatch.setattr(widths, "of_output", lambda: 200)

    status.print_nodes("table", dataclasses.replace(FLEET, nodes=(down,)))

    assert capsys.readouterr().out.count("does not answer") == 1


def test_json_of_nodes_has_it_with_the_node(capsys: pytest.CaptureFixture[str]) -> None:
    """And nothing else on stdout."""
    status.print_nodes("json", FLEET)

    (node,) = json.loads(capsys.readouterr().out)
    assert node["left_out"][0] == {
        "session_id": 100,
        "job_ids": [7, 8],
        "differences": ["numpy 1.26.4 there, 2.2.6 here"],
    }


def test_json_of_a_template_state_has_kind_and_reason() -> None:
    """For scripts, which should not read prose."""
    state = TemplateState(TemplateKind.COLD, "no module named x")

    assert render.plain(state) == {"kind": "cold", "reason": "no module named x"}


def session(session_id: int, user_name: str, **fields: Any) -> SessionStatus:
    """A session whose job has its number."""
    made = SessionStatus(
        session_id, (session_id,), user_name, "executing", "n1", 1, 1912, 0, 7, 0, 0, 0, 0, 0.0, 1.0, 0, 0, 0
    )
    return dataclasses.replace(made, **fields)


WAITING = "anna has 1 of 1 calculations that may execute at once"
SHARED = dataclasses.replace(
    FLEET,
    sessions=(
        session(1, "anna", core_count=1, running_count=1),
        session(2, "anna", state="submitted", wait_reason=WAITING),
        session(3, "ben", core_count=2, running_count=2),
        session(4, "ben"),
    ),
)


def test_status_names_the_session_of_a_program(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By the number that `abort`, `report` and `explain` take; one with jobs by these."""
    sessions = (session(1764000000000, "anna", job_ids=()), session(5, "ben"))

    status._print(
        config.load_settings(tmp_path, {}), "table", [], dataclasses.replace(SHARED, sessions=sessions)
    )

    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("session 1764000000000  anna  executing") for line in lines)
    assert any(line.split()[:3] == ["5", "ben", "executing"] for line in lines)


@pytest.mark.parametrize(
    ("is_master", "names"), [(True, ["dbserver", "broker", "agent", "web"]), (False, ["agent"])]
)
def test_services_that_do_not_run_are_listed_where_they_should(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, is_master: bool, names: list[str]
) -> None:
    """A node has an agent; the others are its master's."""
    asked: list[str] = []

    def is_own(host: str) -> bool:
        asked.append(host)
        return is_master

    monkeypatch.setattr(status.own_addresses, "is_own", is_own)

    found = status.service_statuses(config.load_settings(tmp_path, {}))

    assert len(asked) == 1  # a name server may take seconds for each
    assert [each.service for each in found] == names
    assert not any(each.is_up for each in found)


def test_users_are_counted_over_their_sessions() -> None:
    """Who has most cores comes first."""
    ben, anna = status.persons(SHARED)

    assert ben == status.PersonStatus("ben", 2, 0, 2, 0.5, 2, 14)
    assert anna == status.PersonStatus("anna", 1, 1, 1, 0.25, 1, 14)
    assert status.persons(dataclasses.replace(SHARED, nodes=()))[0].core_share == 0.0


def test_status_has_users_and_why_their_jobs_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As a table that fits 80 columns, and in JSON."""
    settings = config.load_settings(tmp_path, {})
    many = [session(each, "anna", state="submitted", wait_reason=WAITING) for each in range(10, 17)]
    found = dataclasses.replace(SHARED, sessions=(*SHARED.sessions, *many))

    status._print(settings, "table", [], found)
    table = capsys.readouterr().out
    status._print(settings, "json", [], found)
    document = json.loads(capsys.readouterr().out)

    lines = table.splitlines()
    (heading,) = [number for number, line in enumerate(lines) if line.split()[:2] == ["user", "executing"]]
    assert all(len(line) <= 80 for line in lines[heading : heading + 4])
    assert lines[heading + 2].split()[:4] == ["ben", "2", "0", "2"]
    assert f"job 2 waits: {WAITING}" in lines
    assert "3 more wait likewise" in lines
    assert [user["user_name"] for user in document["users"]] == ["ben", "anna"]
    assert document["sessions"][1]["wait_reason"] == WAITING
